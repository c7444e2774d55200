package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"muster/shared/job"
)

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestExportOfJobs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	jobs := r.submit(3)
	done := r.finish(jobs[1])
	out, err := r.run("jobs", "export")
	if err != nil || strings.Count(out, "\n") != 3 || !strings.HasPrefix(out, `{"id":"`+jobs[0].ID) {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "all.ndjson")
	for range 2 { // an older file is replaced
		if printed, err := r.run("jobs", "export", "-o", file); err != nil || printed != "" || read(t, file) != out {
			t.Errorf("%v %s\n%s", err, printed, read(t, file))
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("prompts are private: %v %v", info.Mode(), err)
	}
	if _, err := r.run("jobs", "export", "-o", dir, "--state", "succeeded"); err != nil {
		t.Error(err)
	}
	var one job.Job
	if err := json.Unmarshal([]byte(read(t, filepath.Join(dir, exportName))), &one); err != nil || one.ID != done.ID {
		t.Errorf("%v %+v", err, one)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"all.ndjson", exportName}) {
		t.Errorf("left behind: %v", got)
	}
	if _, err := r.run("jobs", "export", "-o", os.DevNull); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
		t.Fatalf("%s became a file: %v", os.DevNull, err)
	}
	for line, want := range map[string]string{
		"jobs export --images": "needs a folder", "jobs export --state x": "state: is", "jobs export all": "unknown command", "jobs export -o /no/such/folder/x": "no such file",
	} {
		if _, err := r.run(strings.Fields(line)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func TestExportOfImages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var want []string
	var done []job.Job
	for _, j := range r.submit(4)[:3] {
		done = append(done, r.finish(j))
		want = append(want, j.ID+".png")
	}
	want = append(want, exportName)
	dir := filepath.Join(t.TempDir(), "new", "folder")
	out, err := r.run("jobs", "export", "-o", dir, "--images")
	if err != nil || !strings.Contains(out, "3 images are in") || !slices.Equal(names(t, dir), want) {
		t.Fatalf("%v %s %v", err, out, names(t, dir))
	}
	for _, j := range done {
		if whole, err := isImage(filepath.Join(dir, j.ID+".png"), j.ImageID); !whole || err != nil {
			t.Errorf("%s is not what the agent keeps: %v", j.ID, err)
		}
	}
	// One that is whole is not fetched again; one that is not, is.
	kept, broken := filepath.Join(dir, done[0].ID+".png"), filepath.Join(dir, done[1].ID+".png")
	past := time.Now().Add(-time.Hour)
	if err := errors.Join(os.Chtimes(kept, past, past), os.WriteFile(broken, []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if out, err := r.run("jobs", "export", "-o", dir, "--images"); err != nil {
		t.Errorf("%v %s", err, out)
	}
	if info, err := os.Stat(kept); err != nil || !info.ModTime().Equal(past) && time.Since(info.ModTime()) < time.Minute {
		t.Errorf("it was fetched again: %v %v", info.ModTime(), err)
	}
	if whole, err := isImage(broken, done[1].ImageID); !whole || err != nil {
		t.Errorf("the broken one was left: %v", err)
	}
}

// Whatever the agent, or who sits in its place, answers: no name leaves the folder, and nothing half stands under a name.
func TestExportOfHostileAnswers(t *testing.T) {
	t.Parallel()
	const id, image = "01ARZ3NDEKTSV4RRFFQ69G5FAV", "0000000000000000000000000000000000000000000000000000000000000000"
	for name, test := range map[string]struct {
		list  func(http.ResponseWriter)
		image func(http.ResponseWriter)
		want  string
	}{
		"name outside":  {answer(`{"id":"../../../etc/x","image_id":"` + image + `"}`), nil, "is not the id of a job"},
		"list cut":      {cutOff(`{"id":"` + id + `"}`), nil, "broke off"},
		"list no JSON":  {answer("<html>"), nil, "jobs.ndjson"},
		"another image": {answer(`{"id":"` + id + `","image_id":"` + image + `"}`), answer("PNG"), "did not arrive whole"},
		"image cut":     {answer(`{"id":"` + id + `","image_id":"` + image + `"}`), cutOff("PN"), "unexpected EOF"},
		"image gone":    {answer(`{"id":"` + id + `","image_id":"` + image + `"}`), func(w http.ResponseWriter) { http.Error(w, "{}", http.StatusNotFound) }, "1 images are no longer kept"},
		"agent fails":   {answer(`{"id":"` + id + `","image_id":"` + image + `"}`), func(w http.ResponseWriter) { http.Error(w, "{}", http.StatusInternalServerError) }, "run it again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/api/v1/images/") {
					test.image(w)
				} else {
					test.list(w)
				}
			}))
			defer agent.Close()
			cmd := &cobra.Command{}
			cmd.SetContext(t.Context())
			cmd.SetErr(&bytes.Buffer{})
			dir := t.TempDir()
			err := export(cmd, &client{base: agent.URL, token: "t"}, "/api/v1/jobs/export", dir, true)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			for _, name := range names(t, dir) {
				if name != exportName {
					t.Errorf("left behind: %s", name)
				}
			}
		})
	}
}

func answer(text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { fmt.Fprint(w, text) }
}

// cutOff is an answer whose connection ends in the middle.
func cutOff(text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		fmt.Fprint(w, text)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}
