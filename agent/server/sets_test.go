package server

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"muster/agent/queue"
	"muster/shared/job"
)

func TestStateOfASet(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		states []job.State
		want   string
	}{
		{[]job.State{job.Queued, job.Queued}, "queued"}, {[]job.State{job.Queued, job.Running}, "running"}, {[]job.State{job.Running}, "running"},
		{[]job.State{job.Succeeded, job.Queued}, "running"}, {[]job.State{job.Failed, job.Cancelled, job.Queued}, "running"}, {[]job.State{job.Succeeded, job.Succeeded}, "succeeded"},
		{[]job.State{job.Failed, job.Failed}, "failed"}, {[]job.State{job.Cancelled}, "cancelled"}, {[]job.State{job.Succeeded, job.Failed}, "mixed"}, {[]job.State{job.Cancelled, job.Succeeded, job.Failed}, "mixed"},
	} {
		var jobs []job.Job
		for _, state := range test.states {
			jobs = append(jobs, job.Job{State: state})
		}
		if got := newSet("s", jobs); got.State != test.want {
			t.Errorf("%v: %s, want %s", test.states, got.State, test.want)
		}
	}
}

func TestSets(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.submitJobs(1) // another one
	var made setAnswer
	a.ask("POST", "/api/v1/jobs", `{"prompt":"x","count":3}`).into(t, &made)
	path := "/api/v1/sets/" + made.SetID
	see := func(method string) set {
		t.Helper()
		var got set
		r := a.ask(method, path, "")
		if r.status != 200 {
			t.Fatalf("%s: %d %s", method, r.status, r.body)
		}
		if got.Jobs = nil; !strings.Contains(string(r.body), `"expected":`) {
			t.Errorf("expected is left out: %s", r.body)
		}
		r.into(t, &got)
		return got
	}
	if got := see("GET"); got.SetID != made.SetID || got.State != "queued" || len(got.Jobs) != 3 || got.Counts[job.Queued] != 3 || got.Expected != nil {
		t.Errorf("%+v", got)
	}
	soon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	outlooks := map[string]job.Outlook{}
	for i, j := range made.Jobs {
		outlooks[j.ID] = job.Outlook{Expected: &job.Expected{At: soon.Add(time.Duration(i) * time.Second), Early: soon, Late: soon.Add(time.Minute)}}
	}
	a.queue.Explain(outlooks)
	if got := see("GET"); got.Expected == nil || !got.Expected.At.Equal(soon.Add(2*time.Second)) {
		t.Errorf("expected %+v", got.Expected)
	}
	for target, want := range map[string]bool{"": false, "?set_id=" + made.SetID: true, "?set_id=" + made.SetID + "&limit=2": false, "?set_id=" + made.SetID + "&state=queued": false, "?limit=1000": false} {
		if got := strings.Contains(string(a.ask("GET", "/api/v1/jobs"+target, "").body), `"next":"","expected":{"at":"2026-11-23T12:00:02Z"`); got != want {
			t.Errorf("jobs%s: expected is there: %v", target, got)
		}
	}
	if _, err := a.queue.Start(t.Context(), made.Jobs[0].ID, 0, queue.Placement{Device: 0, DeviceKey: "GPU-0"}); err != nil {
		t.Fatal(err)
	}
	a.finish(t.Context(), made.Jobs[1], "")
	if got := see("GET"); got.State != "running" || got.Counts[job.Running] != 1 || got.Counts[job.Succeeded] != 1 {
		t.Errorf("%+v", got)
	}
	for range 2 { // asking twice is no error
		if got := see("DELETE"); got.State != "mixed" || got.Counts[job.Cancelled] != 2 || got.Counts[job.Succeeded] != 1 || got.Expected != nil {
			t.Errorf("cancelled: %+v", got)
		}
	}
	if n := len(a.queue.Active()); n != 1 {
		t.Errorf("%d jobs are active, want the other set's", n)
	}
	for _, id := range []string{"x", strings.Repeat("0", 26), strings.Repeat("x", 3000), "%00", made.Jobs[0].ID} {
		for _, method := range []string{"GET", "DELETE"} {
			if r := a.ask(method, "/api/v1/sets/"+id, ""); r.status != http.StatusNotFound || !strings.Contains(r.message(), "no such set") {
				t.Errorf("%s %.30s: %d %s", method, id, r.status, r.body)
			}
		}
	}
}
