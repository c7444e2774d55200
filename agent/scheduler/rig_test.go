package scheduler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"muster/agent/backend"
	"muster/agent/queue"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/pool"
	"muster/shared/wire"
)

// memoryJobs is a queue without a disk, for tests in fake time. It keeps the queue's rules of fencing and counting.
type memoryJobs struct {
	mu       sync.Mutex
	jobs     []*job.Job
	explains map[string][]string
	outlooks map[string]job.Outlook  // the newest of each
	refuse   func(what string) error // nil accepts
	deny     func(what string) error // an error for a change that was made all the same; nil tells the truth
	changed  func()
}

func (q *memoryJobs) add(n int, change ...func(*job.Job)) []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	set := fmt.Sprintf("set%03d", len(q.jobs))
	var ids []string
	for i := range n {
		j := &job.Job{ID: fmt.Sprintf("%s-%02d", set, i), SetID: set, Ordinal: i, State: job.Queued, Model: "sdxl", Width: 512, Height: 512, Steps: 20, Seed: int64(100 + i), Prompt: "x", Created: time.Now().UTC()}
		for _, c := range change {
			c(j)
		}
		q.jobs = append(q.jobs, j)
		ids = append(ids, j.ID)
	}
	q.nudge()
	return ids
}

func (q *memoryJobs) nudge() {
	if q.changed != nil {
		q.changed()
	}
}

func (q *memoryJobs) get(id string) job.Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.jobs {
		if j.ID == id {
			return *j
		}
	}
	return job.Job{}
}

func (q *memoryJobs) Active() []job.Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	var active []job.Job
	for _, j := range q.jobs {
		if !j.State.Terminal() {
			active = append(active, *j)
		}
	}
	return active
}

func (q *memoryJobs) move(ctx context.Context, what, id string, attempt int, to job.State, change func(*job.Job)) (job.Job, error) {
	if err := ctx.Err(); err != nil {
		return job.Job{}, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.nudge()
	if q.refuse != nil {
		if err := q.refuse(what); err != nil {
			return job.Job{}, err
		}
	}
	at := slices.IndexFunc(q.jobs, func(j *job.Job) bool { return j.ID == id })
	if at < 0 {
		return job.Job{}, queue.ErrNotFound
	}
	j := q.jobs[at]
	if err := j.State.Check(to); err != nil {
		return job.Job{}, err
	}
	if attempt >= 0 && attempt != j.Attempt {
		return job.Job{}, job.ErrTransition
	}
	j.State = to
	change(j)
	if q.deny != nil {
		if err := q.deny(what); err != nil {
			return job.Job{}, err
		}
	}
	return *j, nil
}

func (q *memoryJobs) Start(ctx context.Context, id string, attempt int, at queue.Placement) (job.Job, error) {
	return q.move(ctx, "start", id, attempt, job.Running, func(j *job.Job) {
		j.Attempt++
		j.DeviceID, j.DeviceKey, j.Backend, j.Simulated, j.Reason = &at.Device, at.DeviceKey, at.Backend, at.Simulated, at.Reason
	})
}

func (q *memoryJobs) Progress(id string, attempt int, p job.Progress) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.jobs {
		if j.ID == id && j.Attempt == attempt && j.State == job.Running {
			j.Progress = p
		}
	}
}

func (q *memoryJobs) Explain(outlooks map[string]job.Outlook) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id, outlook := range outlooks {
		if q.outlooks == nil {
			q.outlooks = map[string]job.Outlook{}
		}
		q.outlooks[id] = outlook
		reason := outlook.Reason
		if told := q.explains[id]; reason == "" || len(told) > 0 && told[len(told)-1] == reason {
			continue // only its time has changed
		}
		if q.explains == nil {
			q.explains = map[string][]string{}
		}
		q.explains[id] = append(q.explains[id], reason)
		for _, j := range q.jobs {
			if j.ID == id && j.State == job.Queued {
				j.Reason = reason
			}
		}
	}
}

func (q *memoryJobs) outlook(id string) job.Outlook {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.outlooks[id]
}

func (q *memoryJobs) Succeed(ctx context.Context, id string, attempt int, imageID string) (job.Job, error) {
	return q.move(ctx, "succeed", id, attempt, job.Succeeded, func(j *job.Job) { j.ImageID = imageID })
}

func (q *memoryJobs) Fail(ctx context.Context, id string, attempt int, why string) (job.Job, error) {
	return q.move(ctx, "fail", id, attempt, job.Failed, func(j *job.Job) { j.Error = why })
}

func (q *memoryJobs) Requeue(ctx context.Context, id string, attempt int, why string, counts bool) (job.Job, error) {
	return q.move(ctx, "requeue", id, attempt, job.Queued, func(j *job.Job) {
		j.Error = why
		if counts {
			if j.Failures++; j.Failures >= job.MaxFailures {
				j.State = job.Failed
			}
		}
	})
}

func (q *memoryJobs) cancel(id string) {
	if _, err := q.move(context.Background(), "cancel", id, -1, job.Cancelled, func(*job.Job) {}); err != nil {
		panic(err)
	}
}

// memoryImages keeps nothing but a count.
type memoryImages struct {
	mu   sync.Mutex
	puts int
	err  error
}

func (s *memoryImages) Put(_ context.Context, png []byte) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return "", s.err
	}
	s.puts++
	return "image of " + string(png), nil
}

func (s *memoryImages) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// fakeBackend is a generator of function fields.
type fakeBackend struct {
	name     string
	generate func(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error)
}

func (b *fakeBackend) Name() string { return b.name }
func (b *fakeBackend) Generate(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
	return b.generate(ctx, dev, req, report)
}

// steady takes so long for an image, by device, step by step.
func steady(seconds func(gpu.Device) float64) func(context.Context, gpu.Device, backend.Request, func(job.Progress)) (backend.Image, error) {
	return func(ctx context.Context, dev gpu.Device, req backend.Request, report func(job.Progress)) (backend.Image, error) {
		for step := range req.Steps {
			select {
			case <-time.After(time.Duration(seconds(dev) / float64(req.Steps) * float64(time.Second))):
			case <-ctx.Done():
				return backend.Image{}, context.Cause(ctx)
			}
			report(job.Progress{Step: step + 1, Steps: req.Steps})
		}
		return backend.Image{PNG: fmt.Append(nil, req.Seed)}, nil
	}
}

func always(seconds float64) func(gpu.Device) float64 {
	return func(gpu.Device) float64 { return seconds }
}

// rig is a scheduler with everything around it in memory.
type rig struct {
	*Scheduler
	t         *testing.T
	jobs      *memoryJobs
	images    *memoryImages
	backend   *fakeBackend
	inventory atomic.Pointer[gpu.Inventory]
	snapshot  atomic.Pointer[gpu.Snapshot]
	published atomic.Pointer[wire.Capacity]
	steering  atomic.Pointer[pool.Steering]
	speeds    []float64
	models    []backend.Model
	stop      context.CancelFunc
	done      chan error
	seq       uint64
}

// newRig gives a machine of n devices whose scheduler is not yet running.
func newRig(t *testing.T, n int, policy Policy) *rig {
	r := &rig{
		t: t, jobs: &memoryJobs{}, images: &memoryImages{}, backend: &fakeBackend{name: "fake", generate: steady(always(10))},
		models: []backend.Model{{Name: "sdxl", Title: "SDXL", Bytes: 6e9, VRAMBytes: 9 << 30}},
	}
	inventory := &gpu.Inventory{Revision: 1}
	for i := range n {
		bytes := uint64(24) << 30
		inventory.Devices = append(inventory.Devices, gpu.Device{ID: fmt.Sprintf("GPU-%d", i), Index: gpu.Ref(i), Name: "Test", MemoryBytes: &bytes})
		r.speeds = append(r.speeds, 1)
	}
	r.inventory.Store(inventory)
	r.measure(func(int, *gpu.Reading) {})
	r.Scheduler = New(Config{
		Policy: policy, Queue: r.jobs, Images: r.images, Inventory: r.inventory.Load, Snapshot: r.snapshot.Load, Steering: r.steering.Load,
		Slots: func(inventory gpu.Inventory) []Slot {
			var slots []Slot
			for i, d := range inventory.Devices {
				slots = append(slots, Slot{Device: d, Backend: r.backend, Models: r.models, Speed: r.speeds[i]})
			}
			return slots
		},
		Publish: func(c wire.Capacity) { r.published.Store(&c) },
	})
	r.jobs.changed = r.Wake
	return r
}

// measure publishes a new snapshot in which every device is well, but for what change does.
func (r *rig) measure(change func(i int, reading *gpu.Reading)) {
	r.seq++
	inventory := r.inventory.Load()
	s := &gpu.Snapshot{Seq: r.seq, Revision: inventory.Revision, Time: time.Now().UTC()}
	for i, d := range inventory.Devices {
		used := uint64(1) << 30
		reading := gpu.Reading{Index: gpu.Ref(i), State: gpu.StateOK, MemoryTotalBytes: d.MemoryBytes, MemoryUsedBytes: &used}
		change(i, &reading)
		s.GPUs = append(s.GPUs, reading)
	}
	r.snapshot.Store(s)
	if r.Scheduler != nil {
		r.Wake()
	}
}

// steer decides about a device as a person does.
func (r *rig) steer(i int, c pool.Control) {
	decided := &pool.Steering{Devices: map[string]pool.Control{}}
	if old := r.steering.Load(); old != nil {
		decided.Pool = old.Pool
		maps.Copy(decided.Devices, old.Devices)
	}
	decided.Devices[fmt.Sprintf("GPU-%d", i)] = c
	r.steering.Store(decided)
	r.Wake()
	synctest.Wait()
}

func (r *rig) run() {
	ctx, stop := context.WithCancel(r.t.Context())
	r.stop, r.done = stop, make(chan error, 1)
	go func() { r.done <- r.Run(ctx) }()
	synctest.Wait()
}

// end stops the scheduler and checks that it does so in time and without error.
func (r *rig) end() {
	r.t.Helper()
	r.stop()
	begun := time.Now()
	if err := <-r.done; err != nil {
		r.t.Errorf("Run returned %v", err)
	}
	if took := time.Since(begun); took > shutdownGrace {
		r.t.Errorf("Run took %v to return", took)
	}
}

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// where gives the device on which each job runs or ran last, −2 when it never started.
func (r *rig) where(ids []string) []int {
	var devices []int
	for _, id := range ids {
		j := r.jobs.get(id)
		if j.DeviceID == nil {
			devices = append(devices, -2)
			continue
		}
		devices = append(devices, int(*j.DeviceID))
	}
	return devices
}

func (r *rig) expect(id string, state job.State) job.Job {
	r.t.Helper()
	j := r.jobs.get(id)
	if j.State != state {
		r.t.Errorf("%s is %s (reason %q, error %q): want %s", id, j.State, j.Reason, j.Error, state)
	}
	return j
}
