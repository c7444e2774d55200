package server

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/agent/images"
	"muster/agent/queue"
	"muster/shared/gpu"
	"muster/shared/job"
)

// startAll starts jobs in the order of their submission, on device 0 and up.
func (a *testAgent) startAll(jobs []job.Job) {
	a.t.Helper()
	for i, j := range jobs {
		if _, err := a.queue.Start(a.t.Context(), j.ID, 0, queue.Placement{Device: gpu.Ref(i), Backend: "builtin"}); err != nil {
			a.t.Fatal(err)
		}
	}
}

// asking sends a request and gives its answer when it comes.
func (a *testAgent) asking(method, path, body string, headers ...string) <-chan answer {
	answered := make(chan answer, 1)
	go func() { answered <- a.ask(method, path, body, headers...) }()
	return answered
}

// inFlight waits until the requests at the door wait for so many jobs.
func (a *testAgent) inFlight(count int) {
	a.t.Helper()
	for a.t.Context().Err() == nil {
		waiting := 0
		for _, run := range a.server.sdapi.views("") {
			waiting += len(run.waiting)
		}
		if waiting == count {
			return
		}
		runtime.Gosched()
	}
}

func (a *testAgent) progress() (p sdapiProgress) {
	a.t.Helper()
	r := a.ask("GET", "/sdapi/v1/progress?skip_current_image=true", "")
	r.into(a.t, &p)
	if r.status != 200 || !strings.Contains(string(r.body), `"current_image":null`) {
		a.t.Errorf("%d %s", r.status, r.body)
	}
	return p
}

func (a *testAgent) taskProgress(id string) (p sdapiTask) {
	a.t.Helper()
	r := a.ask("POST", "/internal/progress", fmt.Sprintf(`{"id_task":%q,"id_live_preview":-1,"live_preview":false}`, id))
	r.into(a.t, &p)
	if r.status != 200 {
		a.t.Errorf("%d %s", r.status, r.body)
	}
	return p
}

// Several requests at once are told of together, and each by its own id.
func TestSdapiProgress(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	if p := a.progress(); p.Progress != 0 || p.ETARelative != 0 || p.State.JobCount != 0 || p.State.Job != "" || p.TextInfo != nil {
		t.Errorf("idle: %+v", p)
	}
	if p := a.taskProgress("task(a)"); p.Active || p.Queued || p.Completed || *p.TextInfo != "Waiting..." {
		t.Errorf("unknown: %+v", p)
	}
	first := a.asking("POST", txt2imgPath, `{"prompt":"x","batch_size":2,"steps":10,"force_task_id":"task(a)"}`)
	a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 2 })
	second := a.asking("POST", txt2imgPath, `{"prompt":"x","n_iter":2,"steps":20,"force_task_id":"task(b)"}`)
	a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 4 })
	a.inFlight(4)
	if p := a.progress(); p.Progress != leastProgress || p.State.Job != "scripts_txt2img" || p.State.JobCount != 4 || p.State.JobNo != 0 || len(p.State.JobTimestamp) != 14 {
		t.Errorf("at first: %+v", p)
	}
	if p := a.taskProgress("task(b)"); p.Active || !p.Queued || p.Completed || p.Progress != nil {
		t.Errorf("waits: %+v", p)
	}
	waiting := a.queue.Active()
	a.startAll(waiting[:2])
	a.queue.Progress(waiting[0].ID, 1, job.Progress{Step: 5, Steps: 10})
	now := time.Now()
	a.queue.Explain(map[string]job.Outlook{})
	p := a.progress()
	if p.Progress != 0.125 || p.State.SamplingStep != 5 || p.State.SamplingSteps != 10 || p.State.JobNo != 0 || p.ETARelative <= 0 || *p.TextInfo != "0 of 4 images" {
		t.Errorf("half of one: %+v", p)
	}
	outlooks := map[string]job.Outlook{}
	for i, j := range waiting {
		outlooks[j.ID] = job.Outlook{Expected: &job.Expected{At: now.Add(time.Duration(i+1) * time.Hour)}}
	}
	a.queue.Explain(outlooks)
	if p := a.progress(); p.ETARelative < 4*3600-60 || p.ETARelative > 4*3600 {
		t.Errorf("expected in four hours: %v", p.ETARelative)
	}
	if p := a.taskProgress("task(a)"); !p.Active || p.Queued || *p.Progress != 0.25 || *p.ETA < 2*3600-60 || *p.ETA > 2*3600 {
		t.Errorf("the first alone: %+v", p)
	}
	id, err := a.images.Put(t.Context(), picture(t, 8, 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range waiting[:2] {
		if _, err := a.queue.Succeed(t.Context(), j.ID, 1, id); err != nil {
			t.Fatal(err)
		}
	}
	if r := <-first; r.status != 200 {
		t.Errorf("%d %.200s", r.status, r.body)
	}
	a.inFlight(2)
	if p := a.taskProgress("task(a)"); p.Active || p.Queued || !p.Completed {
		t.Errorf("the first has ended: %+v", p)
	}
	if p := a.progress(); p.State.JobCount != 2 || p.State.JobNo != 0 {
		t.Errorf("the second is left: %+v", p)
	}
	a.finish(t.Context(), waiting[2], "")
	a.inFlight(1)
	if p := a.progress(); p.Progress != 0.5 || p.State.JobNo != 1 {
		t.Errorf("half: %+v", p)
	}
	a.finish(t.Context(), waiting[3], "")
	<-second
	if p := a.progress(); p.Progress != 0 || p.State.JobCount != 0 {
		t.Errorf("idle again: %+v", p)
	}
	for _, body := range []string{`{}`, `{"id_task":5}`, `x`} {
		a.ask("POST", "/internal/progress", body).refusedAsSdapi(t, body, 422, "HTTPException", "")
	}
}

// Pictures of what is not finished are shown to who wants them, and once.
func TestSdapiPreviews(t *testing.T) {
	t.Parallel()
	previews := &images.Previews{}
	a := newAgent(t, func(c *Config) { c.Previews = previews })
	answered := a.asking("POST", txt2imgPath, `{"prompt":"x","batch_size":2,"steps":10,"force_task_id":"task(a)"}`)
	a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 2 })
	a.inFlight(2)
	waiting := a.queue.Active()
	a.startAll(waiting)
	current := func() *string {
		var p sdapiProgress
		a.ask("GET", "/sdapi/v1/progress", "").into(t, &p)
		return p.CurrentImage
	}
	if image := current(); image != nil {
		t.Errorf("before the first: %q", *image)
	}
	small := picture(t, 8, 3)
	previews.Put(waiting[0].ID, images.Preview{Data: small, Type: "image/png"})
	a.queue.Progress(waiting[0].ID, 1, job.Progress{Step: 5, Steps: 10, Preview: 2})
	want := base64.StdEncoding.EncodeToString(small)
	if image := current(); image == nil || *image != want {
		t.Errorf("current image %v", image)
	}
	if p := a.progress(); p.CurrentImage != nil || p.State.SamplingStep != 5 { // which skips it
		t.Errorf("%+v", p)
	}
	for body, has := range map[string]bool{`{"id_task":"task(a)","id_live_preview":-1}`: true, `{"id_task":"task(a)","id_live_preview":1}`: true, `{"id_task":"task(a)","id_live_preview":2}`: false, `{"id_task":"task(a)","live_preview":false}`: false} {
		var p sdapiTask
		a.ask("POST", "/internal/progress", body).into(t, &p)
		if (p.LivePreview != nil) != has || has && (*p.LivePreview != "data:image/png;base64,"+want || p.IDLivePreview != 2) {
			t.Errorf("%s: %+v", body, p)
		}
	}
	for _, j := range waiting {
		if _, err := a.queue.Fail(t.Context(), j.ID, 1, "x"); err != nil {
			t.Fatal(err)
		}
	}
	<-answered
}

// Interrupting ends every request at this door with what it has, and nobody else's.
func TestSdapiInterrupt(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	own := a.submitJobs(1)[0]
	first := a.asking("POST", txt2imgPath, `{"prompt":"x","batch_size":3,"seed":10}`)
	a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 4 })
	second := a.asking("POST", txt2imgPath, `{"prompt":"x","batch_size":2}`)
	a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 6 })
	other := a.asking("POST", imagesPath, `{"prompt":"x"}`)
	a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 7 })
	waiting := a.queue.Active()
	a.finish(t.Context(), waiting[1], "")
	a.startAll(waiting[2:3])
	if r := a.ask("POST", "/sdapi/v1/interrupt", `{}`); r.status != 200 || strings.TrimSpace(string(r.body)) != "{}" {
		t.Errorf("%d %s", r.status, r.body)
	}
	for name, test := range map[string]struct {
		answered <-chan answer
		images   int
	}{"with one finished": {first, 1}, "with none": {second, 0}} {
		r := <-test.answered
		var got sdapiResponse
		var info sdapiInfo
		r.into(t, &got)
		if err := json.Unmarshal([]byte(got.Info), &info); r.status != 200 || err != nil || got.Images == nil || len(got.Images) != test.images || len(info.AllSeeds) != test.images || info.Prompt != "x" {
			t.Errorf("%s: %d %.300s, %v", name, r.status, r.body, err)
		}
	}
	jobs, _, err := a.queue.List(t.Context(), queue.Filter{})
	if err != nil || inState(jobs, job.Cancelled) != 4 || inState(jobs, job.Succeeded) != 1 || inState(jobs, job.Queued) != 2 {
		t.Errorf("%v, %+v", err, jobs)
	}
	if j, err := a.queue.Job(t.Context(), own.ID); err != nil || j.State != job.Queued {
		t.Errorf("another one's: %+v, %v", j, err)
	}
	a.finish(t.Context(), waiting[6], "")
	if r := <-other; r.status != 200 {
		t.Errorf("at the other door: %d %.200s", r.status, r.body)
	}
}

// What waits is cancelled before what runs: the device that it leaves would take it.
func TestSdapiInterruptLeavesTheRunningForLast(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	answered := a.asking("POST", txt2imgPath, `{"prompt":"x","batch_size":4}`)
	a.inFlight(4)
	jobs := a.queue.Active()
	a.startAll(jobs[:2])
	if r := a.ask("POST", "/sdapi/v1/interrupt", ""); r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	<-answered
	seq := make([]uint64, len(jobs))
	for i, j := range jobs {
		now, err := a.queue.Job(t.Context(), j.ID)
		if err != nil || now.State != job.Cancelled {
			t.Fatalf("%+v, %v", now, err)
		}
		seq[i] = now.Seq
	}
	if max(seq[2], seq[3]) > min(seq[0], seq[1]) {
		t.Errorf("those that waited were cancelled as events %v, those that ran as %v", seq[2:], seq[:2])
	}
}

// Nobody interrupts what another one waits for; the ones without a name are one.
func TestSdapiInterruptIsOnesOwn(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	asked := map[string]<-chan answer{}
	for i, ask := range []struct {
		name, body string
		headers    []string
	}{
		{"anna", `{"prompt":"x"}`, basic("anna", testToken)}, {"ben", `{"prompt":"x"}`, basic("ben", testToken)}, {"Latin-1", `{"prompt":"x"}`, basic("J\xfcrgen", testToken)},
		{"carl, in the body", `{"prompt":"x","user":"carl"}`, nil}, {"nobody", `{"prompt":"x"}`, nil},
	} {
		asked[ask.name] = a.asking("POST", txt2imgPath, ask.body, ask.headers...)
		a.inFlight(i + 1)
	}
	for _, step := range []struct {
		name, path, body string
		headers          []string
		ends             string
		left             int
	}{
		{"a stranger", "/sdapi/v1/interrupt", "", basic("eve", testToken), "", 5},
		{"a stranger's skip", "/sdapi/v1/skip", "", basic("eve", testToken), "", 5},
		{"anna", "/sdapi/v1/interrupt", "", basic("anna", testToken), "anna", 4},
		{"Latin-1", "/sdapi/v1/interrupt", "", basic("J\xfcrgen", testToken), "Latin-1", 3},
		{"nobody, and no JSON", "/sdapi/v1/interrupt", "now!", nil, "nobody", 2},
		{"carl", "/sdapi/v1/interrupt", `{"user":"carl"}`, nil, "carl, in the body", 1},
		{"ben", "/sdapi/v1/interrupt", "{}", basic("ben", testToken), "ben", 0},
	} {
		if r := a.ask("POST", step.path, step.body, step.headers...); r.status != 200 {
			t.Errorf("%s: %d %s", step.name, r.status, r.body)
		}
		if n := len(a.queue.Active()); n != step.left {
			t.Fatalf("%s: %d jobs are left, want %d", step.name, n, step.left)
		}
		if step.ends != "" {
			if r := <-asked[step.ends]; r.status != 200 || !strings.Contains(string(r.body), `"images":[]`) {
				t.Errorf("%s: %d %.200s", step.name, r.status, r.body)
			}
		}
	}
}

// What failed by itself is an error, though something was skipped.
func TestSdapiSkipHidesNoFailure(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	answered := a.asking("POST", txt2imgPath, `{"prompt":"x","batch_size":2}`)
	a.inFlight(2)
	waiting := a.queue.Active()
	a.startAll(waiting[:1])
	a.ask("POST", "/sdapi/v1/skip", "")
	a.finish(t.Context(), waiting[1], "out of memory")
	(<-answered).refusedAsSdapi(t, "one skipped, one failed", 500, "RuntimeError", "no image could be made: out of memory")
}

func TestSdapiSkip(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	answered := a.asking("POST", txt2imgPath, `{"prompt":"x","batch_size":3,"seed":10}`)
	a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 3 })
	a.inFlight(3)
	waiting := a.queue.Active()
	a.startAll(waiting[:1])
	a.ask("POST", "/sdapi/v1/skip", "")
	if p := a.progress(); !p.State.Skipped || p.State.Interrupted {
		t.Errorf("%+v", p)
	}
	for _, j := range waiting[1:] {
		a.finish(t.Context(), j, "")
	}
	var got sdapiResponse
	(<-answered).into(t, &got)
	if len(got.Images) != 2 {
		t.Errorf("%d images", len(got.Images))
	}
}

// An interruption that comes before the jobs are there counts too.
func TestSdapiInterruptBeforeTheJobs(t *testing.T) {
	t.Parallel()
	var runs sdapiRuns
	run := runs.begin("sdapi", "task", 2)
	if ids := runs.stop("sdapi", true); len(ids) != 0 || run.stopped != true || !run.skipped {
		t.Errorf("%v, %+v", ids, run)
	}
	runs.stop("sdapi", false)
	if stop := runs.submitted(run, []job.Job{{ID: "b"}, {ID: "a"}}); !stop || run.skipped {
		t.Errorf("%+v", run)
	}
	runs.stop("sdapi", true) // which takes nothing back
	if ids := runs.stop("sdapi", true); run.skipped || len(ids) != 2 || ids[0] != "a" {
		t.Errorf("%v, %+v", ids, run)
	}
	runs.finished(run, "a")
	if views := runs.views("task"); len(views) != 1 || views[0].done() != 1 || len(runs.views("other")) != 0 {
		t.Errorf("%+v", views)
	}
	runs.end(run)
	if len(runs.views("")) != 0 || !runs.hasEnded("task") {
		t.Errorf("%+v", runs.running)
	}
	for i := range 3 * maxEndedTasks {
		runs.end(runs.begin("sdapi", fmt.Sprint(i), 1))
	}
	if len(runs.ended) != maxEndedTasks || runs.hasEnded("task") || !runs.hasEnded(fmt.Sprint(3*maxEndedTasks-1)) {
		t.Errorf("%d are remembered", len(runs.ended))
	}
}

// Many at once: every request gets its own images, and nobody is told to wait for his turn.
func TestTxt2imgAtOnce(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.generate(func(job.Job) string { return "" })
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			_, info := a.txt2img(fmt.Sprintf(`{"prompt":"x","batch_size":2,"seed":%d}`, 100*i))
			if len(info.AllSeeds) != 2 || info.AllSeeds[0] != int64(100*i) || info.AllSeeds[1] != int64(100*i+1) {
				t.Errorf("request %d: %v", i, info.AllSeeds)
			}
			a.progress()
		})
	}
	all.Wait()
	if p := a.progress(); p.State.JobCount != 0 {
		t.Errorf("left over: %+v", p)
	}
}
