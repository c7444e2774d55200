package ordeal

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"muster/shared/job"
)

// acknowledged is a ledger of one command with a key, which made the jobs A and B.
func acknowledged() *Ledger {
	l := NewLedger()
	seed := int64(7)
	l.sent["p"] = &command{key: "k", spec: job.Spec{Prompt: "p", Count: 2, Seed: &seed}}
	l.accepted("p", true, []job.Job{version("A", 1, job.Queued, 0), version("B", 2, job.Queued, 0)})
	return l
}

// version is one of a job of that set.
func version(id string, seq uint64, state job.State, attempt int) job.Job {
	j := job.Job{ID: id, SetID: "S", Seed: 7, Seq: seq, State: state, Attempt: attempt}
	if id == "B" {
		j.Ordinal, j.Seed = 1, 8
	}
	if state == job.Succeeded {
		j.ImageID = "image of " + id
	}
	return j
}

func TestLedgerNoticesEveryBrokenPromise(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		do   func(*Ledger)
		says string // "" when every promise was kept
	}{
		{"nothing broken", func(l *Ledger) {
			l.accepted("p", false, []job.Job{version("A", 1, job.Queued, 0), version("B", 2, job.Queued, 0)})
			l.see(version("A", 3, job.Running, 1))
			l.see(version("A", 1, job.Queued, 0)) // overtaken
			l.restarted("token")
			l.see(version("A", 5, job.Running, 2))
			l.see(version("A", 6, job.Succeeded, 2))
			l.restarted("token")
			l.see(version("A", 6, job.Succeeded, 2))
		}, ""},
		{"other jobs under the same key", func(l *Ledger) {
			l.accepted("p", false, []job.Job{version("C", 3, job.Queued, 0), version("B", 2, job.Queued, 0)})
		}, "gave jobs"},
		{"made twice", func(l *Ledger) {
			l.accepted("p", true, []job.Job{version("A", 1, job.Queued, 0), version("B", 2, job.Queued, 0)})
		}, "twice"},
		{"another seed", func(l *Ledger) {
			j := version("A", 3, job.Running, 1)
			j.Seed = 9
			l.see(j)
		}, "seed"},
		{"an end that is left", func(l *Ledger) {
			l.see(version("A", 3, job.Succeeded, 1))
			l.see(version("A", 4, job.Running, 2))
		}, "was succeeded and is running"},
		{"history that was forgotten", func(l *Ledger) {
			l.see(version("A", 3, job.Running, 1))
			l.restarted("token")
			l.see(version("A", 1, job.Queued, 0))
		}, "before a restart"},
		{"one event, two stories", func(l *Ledger) {
			l.see(version("A", 3, job.Running, 1))
			l.see(version("A", 3, job.Queued, 1))
		}, "event 3"},
		{"an attempt that goes back", func(l *Ledger) {
			l.see(version("A", 3, job.Running, 2))
			l.see(version("A", 4, job.Queued, 1))
		}, "went back"},
		{"cancelled by nobody", func(l *Ledger) { l.see(version("A", 3, job.Cancelled, 0)) }, "nobody asked"},
		{"failed", func(l *Ledger) { l.see(version("A", 3, job.Failed, 1)) }, "failures"},
		{"no image", func(l *Ledger) {
			j := version("A", 3, job.Succeeded, 1)
			j.ImageID = ""
			l.see(j)
		}, "without an image"},
		{"one image for two", func(l *Ledger) {
			l.see(version("A", 3, job.Succeeded, 1))
			j := version("B", 4, job.Succeeded, 1)
			j.ImageID = "image of A"
			l.see(j)
		}, "one image"},
		{"another token", func(l *Ledger) {
			l.restarted("token")
			l.restarted("another")
		}, "token"},
	} {
		l := acknowledged()
		tt.do(l)
		told(t, tt.name, l, tt.says)
	}
}

func told(t *testing.T, name string, l *Ledger, says string) {
	t.Helper()
	broken := strings.Join(l.Broken(), "; ")
	if says == "" && broken != "" || !strings.Contains(broken, says) {
		t.Errorf("%s: noticed %q, want %q", name, broken, says)
	}
}

// sound is a database in which A has succeeded and B waits.
const sound = `
CREATE TABLE sets (id TEXT PRIMARY KEY, spec TEXT);
CREATE TABLE jobs (id TEXT PRIMARY KEY, set_id TEXT, state TEXT, attempt INTEGER, seq INTEGER, image_id TEXT);
CREATE TABLE events (seq INTEGER PRIMARY KEY, job_id TEXT, state TEXT, attempt INTEGER);
INSERT INTO sets VALUES ('S', '{"prompt":"p","count":2}');
INSERT INTO jobs VALUES ('A', 'S', 'succeeded', 1, 4, 'image of A'), ('B', 'S', 'queued', 0, 2, '');
INSERT INTO events VALUES (1, 'A', 'queued', 0), (2, 'B', 'queued', 0), (3, 'A', 'running', 1), (4, 'A', 'succeeded', 1);
`

func TestBookNoticesEveryBrokenPromise(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, spoil, says string
		do                func(*Ledger)
	}{
		{"nothing broken", "", "", func(l *Ledger) { l.see(version("A", 4, job.Succeeded, 1)) }},
		{"a job is gone", "DELETE FROM jobs WHERE id = 'B'; DELETE FROM events WHERE job_id = 'B'", "is not there", nil},
		{"an end is gone", "UPDATE jobs SET state = 'running', seq = 3, image_id = '' WHERE id = 'A'; DELETE FROM events WHERE seq = 4", "was shown succeeded",
			func(l *Ledger) { l.see(version("A", 4, job.Succeeded, 1)) }},
		{"another image", "UPDATE jobs SET image_id = 'image of B' WHERE id = 'A'", "was shown succeeded", func(l *Ledger) { l.see(version("A", 4, job.Succeeded, 1)) }},
		{"ended twice", "INSERT INTO events VALUES (5, 'A', 'succeeded', 1); UPDATE jobs SET seq = 5 WHERE id = 'A'", "succeeded at attempt 1 after succeeded", nil},
		{"started twice at once", "INSERT INTO events VALUES (5, 'B', 'running', 1), (6, 'B', 'running', 2); UPDATE jobs SET seq = 6, state = 'running', attempt = 2 WHERE id = 'B'",
			"running at attempt 2 after running", nil},
		{"an attempt that was not started", "INSERT INTO events VALUES (5, 'B', 'running', 2); UPDATE jobs SET seq = 5, state = 'running', attempt = 2 WHERE id = 'B'", "attempt 2", nil},
		{"a row without its event", "UPDATE jobs SET state = 'cancelled' WHERE id = 'B'", "its events say queued", nil},
		{"no image", "UPDATE jobs SET image_id = '' WHERE id = 'A'", "without an image", nil},
		{"half a set", "UPDATE sets SET spec = '{\"prompt\":\"p\",\"count\":3}'", "2 jobs of 3", nil},
		{"a command made two sets", "INSERT INTO sets VALUES ('T', '{\"prompt\":\"p\",\"count\":0}')", "made the sets", nil},
		{"a command that nobody sent", "INSERT INTO sets VALUES ('T', '{\"prompt\":\"q\",\"count\":0}')", "nobody sent", nil},
		{"a command that was refused", "INSERT INTO sets VALUES ('T', '{\"prompt\":\"r\",\"count\":0}')", "refused", func(l *Ledger) { l.sent["r"] = &command{} }},
	} {
		l := acknowledged()
		if tt.do != nil {
			tt.do(l)
		}
		data := t.TempDir()
		book := newBook()
		write(t, data, sound+tt.spoil)
		if err := book.read(t.Context(), data, l.breach); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		book.compare(l)
		told(t, tt.name, l, tt.says)
	}
}

// Events that were there at one death and are not at the next.
func TestBookNoticesThatHistoryIsGone(t *testing.T) {
	t.Parallel()
	l, data, book := acknowledged(), t.TempDir(), newBook()
	for _, text := range []string{sound, "DELETE FROM events WHERE seq = 2"} {
		write(t, data, text)
		if err := book.read(t.Context(), data, l.breach); err != nil {
			t.Fatal(err)
		}
	}
	told(t, "an event is gone", l, "of 4 events")
}

func write(t *testing.T, data, text string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(data, "muster.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(text); err != nil {
		t.Fatal(err)
	}
}
