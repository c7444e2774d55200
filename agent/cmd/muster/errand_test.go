package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"muster/shared/job"
)

// span is a time during which an agent is away, from its first moment to its last.
type span struct {
	from, to time.Duration
	how      string // "refused", "hang", "stopping" or "reset"
}

// brittle is an agent that makes an image every 4 s, and goes away and comes back at times.
type brittle struct {
	t     *testing.T
	began time.Time
	gone  []span

	cutImages   int    // of so many images only half arrives
	loseAnswers int    // so many submissions are accepted, but the answer is lost
	forgets     bool   // it does not know the set when it is back
	refuses     int    // the status that it answers with when it is back; 0 for none
	message     string // beside it

	keys []string // of submissions, in their order
	sets map[string][]job.Job
	was  bool // it was away
}

const brittleSet = "01K00000000000000000000SET"

func (b *brittle) RoundTrip(r *http.Request) (*http.Response, error) {
	now := time.Since(b.began)
	for _, s := range b.gone {
		if now < s.from || now >= s.to {
			continue
		}
		b.was = true
		switch s.how {
		case "refused":
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		case "reset":
			return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
		case "hang":
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		return answered(503, `{"error":{"code":"stopping","message":"the agent is stopping"}}`), nil
	}
	if b.was && b.refuses != 0 {
		return answered(b.refuses, b.message), nil
	}
	return b.answer(r, now)
}

func (b *brittle) answer(r *http.Request, now time.Duration) (*http.Response, error) {
	switch path := r.URL.Path; {
	case r.Method == "POST":
		b.accept(r)
		if b.loseAnswers > 0 {
			b.loseAnswers--
			return nil, io.ErrUnexpectedEOF
		}
		return answered(202, encoded(b.t, map[string]any{"set_id": brittleSet, "jobs": b.at(now)})), nil
	case r.Method == "DELETE":
		for _, j := range b.sets {
			for i := range j {
				if !j[i].State.Terminal() && b.at(now)[i].State != job.Succeeded {
					j[i].State = job.Cancelled
				}
			}
		}
		return answered(200, encoded(b.t, map[string]any{"jobs": b.at(now)})), nil
	case strings.HasPrefix(path, "/api/v1/images/"):
		body := []byte(imageOf(strings.TrimPrefix(path, "/api/v1/images/")))
		response := answered(200, string(body))
		if b.cutImages > 0 {
			b.cutImages--
			response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:len(body)/2]), broken{}))
		}
		return response, nil
	}
	if b.forgets && b.was {
		return answered(200, `{"jobs":[],"next":""}`), nil
	}
	return answered(200, encoded(b.t, map[string]any{"jobs": b.at(now)})), nil
}

// accept keeps one set for each key.
func (b *brittle) accept(r *http.Request) {
	var spec job.Spec
	if err := json.NewDecoder(r.Body).Decode(&spec); err != nil {
		b.t.Error(err)
	}
	key := r.Header.Get("Idempotency-Key")
	b.keys = append(b.keys, key)
	if b.sets[key] == nil {
		for i := range spec.Count {
			b.sets[key] = append(b.sets[key], job.Job{ID: fmt.Sprintf("01K0000000000000000000JOB%d", i), SetID: brittleSet, Ordinal: i, State: job.Queued})
		}
	}
}

// at gives the jobs as they are then.
func (b *brittle) at(now time.Duration) []job.Job {
	for _, jobs := range b.sets {
		jobs = slices.Clone(jobs)
		for i := range jobs {
			if jobs[i].State == job.Queued && now >= time.Duration(i+1)*4*time.Second {
				jobs[i].State, jobs[i].ImageID = job.Succeeded, idOf(i)
			}
		}
		return jobs
	}
	return nil
}

func imageOf(id string) string {
	for i := range 16 {
		if idOf(i) == id {
			return picture(i)
		}
	}
	return ""
}

func picture(i int) string { return fmt.Sprintf("picture %d", i) }

func idOf(i int) string {
	sum := sha256.Sum256([]byte(picture(i)))
	return hex.EncodeToString(sum[:])
}

// broken is a connection that is lost.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func answered(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

func encoded(t *testing.T, value any) string {
	raw, err := json.Marshal(value)
	if err != nil {
		t.Error(err)
	}
	return string(raw)
}

// run has muster generate ask for so many images, in fake time. interruptAt 0 interrupts never.
func (b *brittle) run(dir string, count int, interruptAt time.Duration) (out, told string, err error) {
	b.began, b.sets = time.Now(), map[string][]job.Job{}
	ctx, interrupt := context.WithCancelCause(context.Background())
	defer interrupt(nil)
	if interruptAt > 0 {
		time.AfterFunc(interruptAt, func() { interrupt(signalled{syscall.SIGINT}) })
	}
	var stdout, stderr bytes.Buffer
	cmd := &cobra.Command{}
	cmd.SetContext(ctx)
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	c := &client{base: "http://agent", token: "t", http: http.Client{Timeout: answerTimeout, Transport: b}}
	err = generate(cmd, c, job.Spec{Prompt: "a fox", Count: count}.WithDefaults(), dir, false)
	return stdout.String(), stderr.String(), err
}

// However the agent goes away, the set is made once, every image is saved, and a person is told once.
func TestGenerateOutlivesTheAgent(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		brittle brittle
		told    int // times that it is said to be away
		posts   int
		within  time.Duration
	}{
		"it stays":                          {brittle{}, 0, 1, 9 * time.Second},
		"killed":                            {brittle{gone: []span{{time.Second, 40 * time.Second, "refused"}}}, 1, 1, 46 * time.Second},
		"stopped, then started again":       {brittle{gone: []span{{time.Second, 3 * time.Second, "stopping"}, {3 * time.Second, 6 * time.Second, "refused"}}}, 1, 1, 12 * time.Second},
		"frozen":                            {brittle{gone: []span{{time.Second, 30 * time.Second, "hang"}}}, 1, 1, 42 * time.Second},
		"twice":                             {brittle{gone: []span{{time.Second, 3 * time.Second, "refused"}, {5 * time.Second, 7 * time.Second, "reset"}}}, 2, 1, 10 * time.Second},
		"in the middle of an image":         {brittle{cutImages: 2, gone: []span{{4300 * time.Millisecond, 6 * time.Second, "refused"}}}, 1, 1, 10 * time.Second},
		"the answer is lost":                {brittle{loseAnswers: 1}, 1, 2, 9 * time.Second},
		"the answer is lost, then it ends":  {brittle{loseAnswers: 1, gone: []span{{time.Millisecond, 20 * time.Second, "refused"}}}, 1, 2, 30 * time.Second},
		"stopping when the images are sent": {brittle{gone: []span{{0, 2 * time.Second, "stopping"}}}, 1, 4, 11 * time.Second},
		"the connection breaks at once":     {brittle{gone: []span{{0, time.Second, "reset"}}}, 1, 4, 11 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				dir, b := t.TempDir(), &test.brittle
				b.t = t
				out, told, err := b.run(dir, 2, 0)
				if err != nil {
					t.Fatal(err)
				}
				for i := range 2 {
					name := fmt.Sprintf("01K0000000000000000000JOB%d.png", i)
					if raw, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(raw) != picture(i) {
						t.Errorf("image %d: %q, %v", i, raw, err)
					}
					if strings.Count(out, name) != 1 {
						t.Errorf("%s is not once in\n%s", name, out)
					}
				}
				if !strings.Contains(out, "2 of 2 images are saved in "+dir) {
					t.Error(out)
				}
				if got := strings.Count(told, "the agent is away"); got != test.told || strings.Count(told, "the agent is back") != test.told {
					t.Errorf("told %d times, want %d:\n%s", got, test.told, told)
				}
				if len(b.sets) != 1 || len(slices.Compact(slices.Clone(b.keys))) != 1 {
					t.Errorf("%d sets by the keys %q", len(b.sets), b.keys)
				}
				if took := time.Since(b.began); took > test.within {
					t.Errorf("took %s, want %s at most", took, test.within)
				}
			})
		})
	}
}

// What can't be waited for ends the command, and says what is the matter with the set.
func TestGenerateEndsWhereWaitingIsInVain(t *testing.T) {
	t.Parallel()
	away := []span{{5 * time.Second, 6 * time.Second, "refused"}}
	for name, test := range map[string]struct {
		brittle brittle
		want    []string
	}{
		"never there":        {brittle{gone: []span{{0, time.Hour, "refused"}}}, []string{"connection refused", "start it with muster serve"}},
		"the set is gone":    {brittle{gone: away, forgets: true}, []string{"does not know the set " + brittleSet, "another data folder", "1 of 2 images are saved in"}},
		"the token is wrong": {brittle{gone: away, refuses: 401, message: `{"error":{"code":"unauthorized","message":"no"}}`}, []string{"refuses the token", "MUSTER_TOKEN", brittleSet}},
		"somebody else":      {brittle{gone: away, refuses: 404, message: `<h1>It works</h1>`}, []string{"is no agent", "404"}},
		"something else":     {brittle{gone: away, refuses: 200, message: `<h1>It works</h1>`}, []string{"is no agent of this version"}},
		"refused after all":  {brittle{gone: []span{{0, time.Second, "reset"}}, refuses: 400, message: `{"error":{"code":"invalid","field":"model","message":"is not here"}}`}, []string{"model: is not here"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				test.brittle.t = t
				_, _, err := test.brittle.run(t.TempDir(), 2, 0)
				if err == nil || exitCode(err) != 1 {
					t.Fatalf("%v, want an error and exit code 1", err)
				}
				for _, want := range test.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q is not in: %v", want, err)
					}
				}
			})
		})
	}
}

// Ctrl-C says what became of the images, wherever the agent is, and what is finished is saved.
func TestInterruptSaysWhatBecameOfTheImages(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		brittle   brittle
		interrupt time.Duration
		want      []string
		saved     int
	}{
		"in the middle":                     {brittle{}, 4100 * time.Millisecond, []string{"interrupted: 2 cancelled, 1 finished and saved in "}, 1},
		"while it is away":                  {brittle{gone: []span{{5 * time.Second, time.Hour, "refused"}}}, 20 * time.Second, []string{"the agent is away (dial tcp: connection refused)", "muster jobs cancel " + brittleSet, "1 of 3 images are saved in"}, 1},
		"while it hangs":                    {brittle{gone: []span{{time.Second, time.Hour, "hang"}}}, 2 * time.Second, []string{"the agent is away (no answer in time)", "the set " + brittleSet + " goes on"}, 0},
		"when it has come back":             {brittle{gone: []span{{5 * time.Second, 9 * time.Second, "refused"}}}, 9 * time.Second, []string{"1 cancelled, 2 finished and saved in"}, 2},
		"it is away before it answers":      {brittle{gone: []span{{0, time.Hour, "reset"}}}, time.Second, []string{"whether it accepted the images is not known", "muster jobs lists them"}, 0},
		"the answer was lost":               {brittle{loseAnswers: 1}, 100 * time.Millisecond, []string{"3 cancelled, 0 finished"}, 0},
		"an image does not arrive in whole": {brittle{cutImages: 9}, 4100 * time.Millisecond, []string{"2 cancelled, 1 finished; 0 of them saved in", "unexpected EOF"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				test.brittle.t = t
				_, told, err := test.brittle.run(dir, 3, test.interrupt)
				if hangs := strings.Contains(name, "hangs"); strings.Contains(told, "Ctrl-C again ends the command at once") != hangs {
					t.Errorf("told of a second Ctrl-C: %s", told)
				}
				if !errors.Is(err, errInterrupted) || exitCode(err) != 130 {
					t.Fatalf("%v with exit code %d, want 130", err, exitCode(err))
				}
				for _, want := range test.want {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q is not in: %v", want, err)
					}
				}
				files, err := os.ReadDir(dir)
				if err != nil || len(files) != test.saved {
					t.Errorf("%d images are saved, want %d: %v, %v", len(files), test.saved, files, err)
				}
				if took := time.Since(test.brittle.began); took > test.interrupt+lastWord+time.Second {
					t.Errorf("it took %s to end", took-test.interrupt)
				}
			})
		})
	}
}

// A restarted agent may listen at another address; its token may be new.
func TestAgentIsFoundAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	config := configOf(r)
	cmd := &cobra.Command{}
	config.AddFlags(cmd.Flags())
	client, err := newClient(cmd, &config)
	if err != nil {
		t.Fatal(err)
	}
	other := newRig(t)
	for _, file := range []string{"address", "token"} {
		if err := os.WriteFile(filepath.Join(r.data, file), []byte(read(t, filepath.Join(other.data, file))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := client.base
	if err := client.findAgain(); err != nil || client.base == before {
		t.Errorf("%v, at %s", err, client.base)
	}
	if err := os.Remove(filepath.Join(r.data, "address")); err != nil {
		t.Fatal(err)
	}
	if err := client.findAgain(); !errors.Is(err, errNoAgent) {
		t.Errorf("%v, want that none runs", err)
	}
}
