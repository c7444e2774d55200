package view

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
	"muster/webapp/live"
	"muster/webapp/state"
)

func ptr[T any](v T) *T { return &v }

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// machine is n MI25s with a ROCm PyTorch.
func machine(n int) *gpu.Inventory {
	inventory := &gpu.Inventory{Revision: 1, Host: gpu.Host{
		Name: "render-01", CPUModel: "EPYC", CPUCount: 32, MemoryBytes: 256 << 30, Torch: &gpu.Torch{Version: "2.3.1+rocm5.7", HIP: "5.7.31921-d1770ee1b"},
	}}
	for i := range n {
		inventory.Devices = append(inventory.Devices, gpu.Device{
			ID: fmt.Sprintf("GPU-%d", i), Index: gpu.Ref(i), Vendor: gpu.AMD, Name: "Radeon Instinct MI25",
			ComputeCapability: "9.0", MultiprocessorCount: ptr(64), MemoryBytes: ptr(uint64(17163091968)),
		})
	}
	return inventory
}

func reading(i int) gpu.Reading {
	return gpu.Reading{
		Index: gpu.Ref(i), State: gpu.StateOK, UtilizationPercent: ptr(37.4), MemoryUsedBytes: ptr(uint64(4 << 30)), MemoryTotalBytes: ptr(uint64(17163091968)),
		PowerWatts: ptr(110.0), PowerLimitWatts: ptr(220.0), Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 54}},
	}
}

func snapshot(inventory *gpu.Inventory, seq uint64) *gpu.Snapshot {
	s := &gpu.Snapshot{Seq: seq, Revision: inventory.Revision, Time: noon}
	for i := range inventory.Devices {
		s.GPUs = append(s.GPUs, reading(i))
	}
	return s
}

// shown makes a page that has been told the events, and is connected.
func shown(events ...wire.Event) *Page {
	p := NewPage(Agent{})
	p.take(live.News{Link: state.Connected, Since: noon, Events: events})
	return p
}

var tags = regexp.MustCompile(`<[^>]*>`)

// html renders the page as markup, and as the text that a person reads.
func html(p *Page) (markup, words string) {
	markup = app.HTMLString(p)
	return markup, strings.Join(strings.Fields(strings.ReplaceAll(tags.ReplaceAllString(markup, " "), "&#39;", "'")), " ")
}

func expect(t *testing.T, in string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(in, w) {
			t.Errorf("missing %q in:\n%.2000s", w, in)
		}
	}
}

func refuse(t *testing.T, in string, unwanted ...string) {
	t.Helper()
	for _, w := range unwanted {
		if strings.Contains(in, w) {
			t.Errorf("unwanted %q in:\n%.2000s", w, in)
		}
	}
}

// element looks for one element that has all the attributes; go-app writes them in any order.
func element(t *testing.T, markup string, attributes ...string) {
	t.Helper()
	for _, tag := range tags.FindAllString(markup, -1) {
		missing := false
		for _, a := range attributes {
			missing = missing || !strings.Contains(tag, " "+a)
		}
		if !missing {
			return
		}
	}
	t.Errorf("no element with %s", strings.Join(attributes, " "))
}

func TestPageShowsTheMachine(t *testing.T) {
	t.Parallel()
	eight := machine(8)
	eight.OtherAdapters = []gpu.Adapter{{Name: "ASPEED", PCIAddress: "0000:03:00.0"}}
	eight.Problems = []string{"NVIDIA driver and library differ: reboot"}
	markup, words := html(shown(wire.Event{Inventory: eight}, wire.Event{Snapshot: snapshot(eight, 1)}))
	expect(t, words, "8 device(s) detected", "ROCm Build HIP 5.7.31921-d1770ee1b", "PyTorch 2.3.1+rocm5.7 ROCm", "of 127.88 GiB total VRAM", "32.00 GiB",
		"Device 0", "Device 7", "4.00 of 15.98 GiB", "110 of 220 W", "54 °C", "Compute capability 9.0", "Multiprocessors 64",
		"ASPEED", "NVIDIA driver and library differ: reboot", "No images yet", "No jobs yet", "connected")
	if n := strings.Count(markup, `data-device="`); n != 8 {
		t.Errorf("%d cards, want 8", n)
	}
	refuse(t, words, "simulated", "Simulated")
}

func TestPageWithoutGPUs(t *testing.T) {
	t.Parallel()
	none := &gpu.Inventory{Revision: 1, Host: gpu.Host{Name: "laptop", CPUModel: "EPYC", CPUCount: 4, MemoryBytes: 8 << 30}}
	markup, words := html(shown(wire.Event{Inventory: none}, wire.Event{Snapshot: &gpu.Snapshot{Seq: 1, Revision: 1, Host: gpu.HostReading{CPUPercent: ptr(12.0)}}},
		wire.Event{Capacity: &wire.Capacity{DefaultModel: "sketch", Models: []wire.Model{{Name: "sketch", Title: sketchTitle}}, Slots: []wire.Slot{{Device: gpu.CPU, Models: []string{"sketch"}}}}}))
	expect(t, words, "0 device(s) detected", "Images are drawn by the CPU.", "12 %", "PyTorch not found", "Ready: built-in sketch renderer, no AI model")
	refuse(t, markup, `data-device="`, "ROCm Build")
}

func TestNobodyTakesASketchForWhatTheirModelMakes(t *testing.T) {
	t.Parallel()
	one := machine(1)
	capacity := wire.Capacity{DefaultModel: "sketch", Models: []wire.Model{{Name: "sketch", Title: sketchTitle}}, Slots: []wire.Slot{
		{Device: 0, Backend: "sdserver", Problem: "sd-server does not start: no such file"}, {Device: gpu.CPU, Backend: "builtin", Models: []string{"sketch"}},
	}}
	_, words := html(shown(wire.Event{Inventory: one}, wire.Event{Capacity: &capacity}))
	expect(t, words, "No GPU generates Images are drawn by the "+sketchTitle, "Device 0: sd-server does not start: no such file")
	capacity.Slots = capacity.Slots[1:] // nothing was set up, so nothing is missing
	_, words = html(shown(wire.Event{Inventory: one}, wire.Event{Capacity: &capacity}))
	refuse(t, words, "No GPU generates")
}

func TestAbsentIsNeverZero(t *testing.T) {
	t.Parallel()
	one := machine(1)
	one.Devices[0].MemoryBytes, one.Devices[0].MultiprocessorCount, one.Devices[0].ComputeCapability = nil, nil, ""
	markup, words := html(shown(wire.Event{Inventory: one}, wire.Event{Snapshot: &gpu.Snapshot{Seq: 1, Revision: 1, GPUs: []gpu.Reading{{State: gpu.StateOK}}}}))
	expect(t, words, "— % utilisation", "VRAM — of — GiB", "Temperature —", "Power —", "Compute capability —", "Multiprocessors —")
	expect(t, markup, `title="not supported by this card or its driver"`)
}

func TestStatesOfADevice(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		state gpu.State
		age   int64
		want  []string
	}{
		{gpu.StateOK, 0, []string{"online"}},
		{gpu.StateStuck, 12_400, []string{"stuck", "does not answer", "last reading 12 s ago", "Takes no work in this state."}},
		{gpu.StateLost, 600_000, []string{"lost", "last reading 10 min ago"}},
		{gpu.StateSuspended, 0, []string{"asleep", "Asleep to save power"}},
		{gpu.StateDriverMismatch, 0, []string{"driver mismatch", "Reboot"}},
		{gpu.StateNoDriver, 0, []string{"no driver"}},
		{gpu.StateNoPermission, 0, []string{"no permission", "video and render"}},
		{gpu.StateUnsupported, 0, []string{"unsupported"}},
	} {
		t.Run(string(test.state), func(t *testing.T) {
			t.Parallel()
			one := machine(1)
			s := snapshot(one, 1)
			s.GPUs[0].State, s.GPUs[0].AgeMilliseconds = test.state, test.age
			markup, words := html(shown(wire.Event{Inventory: one}, wire.Event{Snapshot: s}, wire.Event{Capacity: &wire.Capacity{Slots: []wire.Slot{{Device: 0}}}}))
			expect(t, words, test.want...)
			expect(t, markup, `data-state="`+string(test.state)+`"`)
		})
	}
}

// What is wrong with a device is said in whole sentences: what its reader found, what to do, and what its values are worth.
func TestHintOfADevice(t *testing.T) {
	t.Parallel()
	const gone = "It fell off the bus, was removed, or its driver was unloaded. If it does not come back, a reboot may help."
	for _, test := range []struct {
		name, problem string
		reading       gpu.Reading
		want          string
	}{
		{"well", "", gpu.Reading{State: gpu.StateOK, PowerWatts: ptr(8.0)}, ""},
		{"lost", "", gpu.Reading{State: gpu.StateLost}, gone},
		{"lost, with its last values", "", gpu.Reading{State: gpu.StateLost, PowerWatts: ptr(8.0)}, gone + " The values are the last ones."},
		{"lost, and the reader knows more", "this GPU can't be read: it has gone", gpu.Reading{State: gpu.StateLost}, "This GPU can't be read: it has gone. " + gone},
		{"stuck, with its last values", "", gpu.Reading{State: gpu.StateStuck, UtilizationPercent: ptr(0.0)}, "Its driver does not answer, or crashed. The other devices go on. The values are the last ones."},
		{"asleep, with what is known", "", gpu.Reading{State: gpu.StateSuspended, MemoryUsedBytes: ptr(uint64(1))}, "Asleep to save power. It is left asleep; work wakes it."},
	} {
		got := read(&whence{&gpu.Device{Error: test.problem}, &test.reading, &gpu.Details{}}).hint
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	if got := unread(&gpu.Device{Error: "no permission"}).hint; got != "No permission." {
		t.Errorf("before the first reading: %q", got)
	}
}

func TestSimulatedIsSaidEverywhere(t *testing.T) {
	t.Parallel()
	one := machine(1)
	one.Devices[0].Simulated = true
	_, words := html(shown(wire.Event{Inventory: one}, wire.Event{Snapshot: snapshot(one, 1)}, wire.Event{Job: finished("A", 0, "1")}))
	expect(t, words, "Simulated devices", "Device 0 simulated online", "Device 0 (simulated)", "seed 7 simulated")
}

// finished is a simulated image that is ready.
func finished(set string, ordinal int, id string) *job.Job {
	return &job.Job{
		ID: set + id, SetID: set, Ordinal: ordinal, Seq: 1, State: job.Succeeded, Attempt: 1, DeviceID: ptr(gpu.Ref(0)), Simulated: true, Prompt: "a heron", Model: "sketch",
		Seed: 7, Width: 512, Height: 512, Steps: 30, ImageID: "feed" + id, Started: ptr(noon), Finished: ptr(noon.Add(8 * time.Second)), Reason: "Device 0: idle",
	}
}

func TestJobsAndImages(t *testing.T) {
	t.Parallel()
	running := finished("B", 0, "1")
	running.State, running.ImageID, running.Simulated, running.Progress, running.Finished = job.Running, "", false, job.Progress{Step: 12, Steps: 30, ETASeconds: ptr(8.2)}, nil
	running.Reason = "waiting 4 s for Device 0: sooner than loading on Device 2"
	failed := finished("A", 1, "2")
	failed.State, failed.ImageID, failed.Error = job.Failed, "", "out of memory: choose a smaller size"
	one := machine(1)
	markup, words := html(shown(wire.Event{Inventory: one}, wire.Event{Job: finished("A", 0, "1")}, wire.Event{Job: failed}, wire.Event{Job: running}))
	expect(t, words, "1 running", "step 12 of 30 · about 8 s left", "waiting 4 s for Device 0: sooner than loading on Device 2", "1 of 2 ready, 1 failed",
		"out of memory: choose a smaller size", "ready after 8 s", "1 image", "generating", "built-in sketch renderer, no AI model", "Generate 4 images")
	for _, attributes := range [][]string{
		{`data-job="B1"`, `data-state="running"`}, {`data-job="A2"`, `data-state="failed"`}, {`data-image="feed1"`, `data-picture="A1"`}, {`src="/api/v1/images/feed1?size=thumb"`, `alt="a heron"`},
	} {
		element(t, markup, attributes...)
	}
}

func TestRefusalsStandWhereTheCommandWasGiven(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		in   wire.Error
		want []string
	}{
		{"of the form's order", wire.Error{ID: "ours", Message: "the queue is full: try again"}, []string{"Not accepted: the queue is full: try again"}},
		{"of one of its fields", wire.Error{ID: "ours", Field: "count", Message: "is 40; allowed is 1 to 16"}, []string{"The number of images is 40; allowed is 1 to 16.", "see the field above"}},
		{"of anything else", wire.Error{ID: "c1", Message: "this job has ended"}, []string{"Not accepted this job has ended"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := shown()
			p.ordered = "ours"
			p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{{Error: &test.in}}})
			_, words := html(p)
			expect(t, words, test.want...)
		})
	}
}

func TestConnectionWords(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, test := range []struct {
		link  state.Link
		since time.Time
		want  string
	}{
		{state.Connected, now, "connected"},
		{state.Stale, now, "stale since " + now.Local().Format("15:04:05")},
		{state.Offline, now, "offline, stale since " + now.Local().Format("15:04:05")},
		{state.Offline, time.Time{}, "offline"},
		{state.Unpaired, now, "not paired"},
		{state.Connecting, now, "connecting"},
		{state.Offline, now.Add(-48 * time.Hour), "offline, stale since " + now.Add(-48*time.Hour).Local().Format("2 Jan 15:04:05")},
	} {
		if got, _ := connectionWords(state.State{}.Linked(test.link, test.since)); got != test.want {
			t.Errorf("%s: %q, want %q", test.link, got, test.want)
		}
	}
}

func TestUnpairedPageShowsOnlyTheWayIn(t *testing.T) {
	t.Parallel()
	p := NewPage(Agent{})
	p.take(live.News{Link: state.Unpaired, Since: noon})
	markup, words := html(p)
	expect(t, words, "muster link", "One-time link or code", "not paired")
	expect(t, markup, `id="pair-code"`, `class="none"`)
	if strings.Contains(markup, `aria-label="Sections"`) {
		t.Error("links to sections that can't be seen")
	}
}

func TestAPageThatStartedWithoutTheAgentKnowsNoJobs(t *testing.T) {
	t.Parallel()
	p := NewPage(Agent{})
	p.take(live.News{Link: state.Offline, Since: noon})
	_, words := html(p)
	expect(t, words, "when it is back")
	for _, claim := range []string{"No images yet", "No jobs yet", "nothing is being made"} {
		if strings.Contains(words, claim) {
			t.Errorf("claims %q", claim)
		}
	}
}

func TestNothingInlineInTheMarkup(t *testing.T) {
	t.Parallel()
	three := machine(3)
	p := shown(wire.Event{Inventory: three}, wire.Event{Snapshot: snapshot(three, 1)}, wire.Event{Job: finished("A", 0, "1")})
	p.picture, p.notice = "A1", "no"
	markup, words := html(p)
	expect(t, words, "Image 1 of 1", "Download")
	if bad := regexp.MustCompile(`(?i)\s(style|on[a-z]+)="|<style|<script|https?://[^"]*\.[a-z]`).FindString(markup); bad != "" {
		t.Errorf("the Content-Security-Policy forbids %q", bad)
	}
}

func TestManyDevicesAreDense(t *testing.T) {
	t.Parallel()
	few, many := machine(denseFrom-1), machine(64)
	markup, _ := html(shown(wire.Event{Inventory: few}))
	refuse(t, markup, "cards dense")
	markup, words := html(shown(wire.Event{Inventory: many}, wire.Event{Snapshot: snapshot(many, 1)}))
	expect(t, markup, "cards dense")
	expect(t, words, "64 device(s) detected", "Device 63", "1,023.00 GiB total VRAM")
}

func TestAnnouncements(t *testing.T) {
	t.Parallel()
	queued := func(n int) *job.Job {
		j := finished("A", n, fmt.Sprint(n))
		j.State, j.ImageID, j.Seq = job.Queued, "", 1
		return j
	}
	end := func(n int, s job.State, why string) wire.Event {
		j := finished("A", n, fmt.Sprint(n))
		j.State, j.Seq, j.Error = s, 2, why
		return wire.Event{Job: j}
	}
	p := shown(wire.Event{Job: queued(0)}, wire.Event{Job: queued(1)}, wire.Event{Job: queued(2)}, wire.Event{Job: queued(3)})
	for _, step := range []struct {
		event wire.Event
		want  string
	}{
		{end(0, job.Succeeded, ""), ""},
		{end(1, job.Failed, "no room"), "An image failed: no room"},
		{end(2, job.Succeeded, ""), "An image failed: no room"},
		{end(3, job.Cancelled, ""), "The rest is cancelled. 2 images are ready."},
	} {
		p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{step.event}})
		if p.announce != step.want {
			t.Errorf("said %q, want %q", p.announce, step.want)
		}
	}
}

func TestAllReadyIsAnnounced(t *testing.T) {
	t.Parallel()
	last := finished("A", 0, "1")
	last.State, last.ImageID, last.Seq = job.Running, "", 1
	p := shown(wire.Event{Job: last})
	done := finished("A", 0, "1")
	done.Seq = 2
	p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{{Job: done}}})
	if want := "1 image is ready."; p.announce != want {
		t.Errorf("said %q, want %q", p.announce, want)
	}
}

func TestAKeptOrderIsKeptUntilItIsSent(t *testing.T) {
	t.Parallel()
	p := NewPage(Agent{})
	p.ordered, p.kept, p.said = "1", true, "2 images kept here"
	p.waiting = []wire.Command{{Submit: &wire.Submit{ID: "1"}}, {Submit: &wire.Submit{ID: "2"}}}
	if p.release(); p.said == "" {
		t.Error("forgotten while it waits")
	}
	p.waiting = p.waiting[1:]
	if p.release(); p.said != "" {
		t.Errorf("still says %q", p.said)
	}
}

func TestProgressIsPaintedNotRendered(t *testing.T) {
	t.Parallel()
	one := machine(1)
	j := finished("A", 0, "1")
	j.State, j.ImageID = job.Running, ""
	p := shown(wire.Event{Inventory: one}, wire.Event{Snapshot: snapshot(one, 1)}, wire.Event{Job: j})
	on := record{}
	p.paint.on, p.steps.on = on, on
	p.paintAll()
	before := p.version
	further := *j
	further.Progress = job.Progress{Step: 9, Steps: 30}
	next := snapshot(one, 2)
	next.GPUs[0].UtilizationPercent = ptr(88.0)
	p.take(live.News{Link: state.Connected, Since: noon, Events: []wire.Event{{Job: &further}, {Snapshot: next}}})
	if p.version != before {
		t.Errorf("versions %+v, want %+v", p.version, before)
	}
	on.forget()
	p.paintAll()
	want := map[string]string{"g0-util": "88", "total-util": "88", "g0-step": "step 9 of 30", "g0-progress.value": "9", "g0-progress.max": "30", "jA1-words": "step 9 of 30", "jA1-bar.value": "9", "jA1-bar.max": "30"}
	if diff := cmp.Diff(want, on.written()); diff != "" {
		t.Errorf("painted (-want +got): %s", diff)
	}
	on.forget()
	p.paintAll()
	if again := on.written(); len(again) != 0 {
		t.Errorf("painted again: %v", again)
	}
}

// record is a surface on which every id exists.
type record map[string]string

func (r record) find(id string) target { return spotOf{r, id} }
func (r record) forget()               { clear(r) }
func (r record) written() map[string]string {
	return map[string]string(r)
}

type spotOf struct {
	on record
	id string
}

func (s spotOf) set(attribute, value string) {
	key := s.id
	if attribute != "" {
		key += "." + attribute
	}
	s.on[key] = value
}
