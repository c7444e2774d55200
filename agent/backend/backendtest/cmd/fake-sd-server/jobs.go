package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"muster/agent/backend/backendtest"
)

// maxPending is how many jobs wait or run before 429.
const maxPending = 64

// server is a loaded model and its queue.
type server struct {
	*program
	options  options
	scenario backendtest.Scenario
	number   int // of this start with this model, from 1
	loaded   sync.Once
	making   sync.Mutex // one image at a time, whichever family of routes asks
	made     int        // images begun; under making
	wake     chan struct{}

	mu     sync.Mutex
	jobs   map[string]*record
	queue  []*record
	nextID int
}

// record is one asynchronous job.
type record struct {
	id                          string
	number                      int // from 1
	request                     request
	status                      string
	created, started, completed int64 // Unix seconds; 0 for not yet
	images                      [][]byte
	code, message               string // of its failure
}

// fault finds what the scenario plans for a job; step -1 stands for any.
func (s *server) fault(job, step int, actions ...backendtest.Action) (backendtest.Fault, bool) {
	for _, f := range s.scenario.Faults {
		if (f.Start == 0 || f.Start == s.number) && (f.Job == 0 || f.Job == job) &&
			(step < 0 || max(1, f.Step) == step) && slices.Contains(actions, f.Do) {
			return f, true
		}
	}
	return backendtest.Fault{}, false
}

// loadFaults does what goes wrong before the program listens.
func (s *server) loadFaults() (code int, ended bool) {
	f, ok := s.fault(0, -1, backendtest.LoadHangs, backendtest.LoadCrashes, backendtest.LoadFails, backendtest.LoadOutOfMemory, backendtest.TakesTwinPort)
	if !ok {
		return 0, false
	}
	switch f.Do {
	case backendtest.LoadHangs:
		hang()
	case backendtest.LoadCrashes:
		die(syscall.SIGSEGV)
	case backendtest.LoadFails:
		fmt.Fprintln(os.Stderr, line("ERROR", "stable-diffusion.cpp", 1693, "%s", f.Text))
	case backendtest.LoadOutOfMemory:
		fmt.Fprintln(os.Stderr, "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 1639.00 MiB on device 0: cudaMalloc failed: out of memory")
		fmt.Fprintln(os.Stderr, line("ERROR", "model_manager.cpp", 857, "model manager load tensors failed"))
	case backendtest.TakesTwinPort:
		s.twin()
		return 0, false
	}
	fmt.Fprintln(os.Stderr, line("ERROR", "main.cpp", 92, "new_sd_ctx_t failed"))
	return 1, true
}

// twin starts a second sd-server on the port, in a session of its own, that ends with this one.
func (s *server) twin() {
	cmd := exec.Command(s.path, "--fake-twin", s.address(), s.options.model)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = out.Read(make([]byte, 1)) // it listens
	}
	if err != nil {
		fatal(err)
	}
}

// load draws the bars of loading, which look like steps but for the # and the unit.
func (s *server) load() {
	s.loaded.Do(func() {
		const tensors = 4
		begun := time.Now()
		for i := 1; i <= tensors; i++ {
			time.Sleep(s.takes(s.scenario.LoadMilliseconds) / tensors)
			fmt.Fprint(s.out, bar(i, tensors, "311.47MB/s", '#', false))
		}
		s.info("model_loader.cpp", 1304, "loading tensors completed, taking %.2fs (read: 0.00s, memcpy: 0.00s, convert: 0.00s, copy_to_backend: 0.00s)", time.Since(begun).Seconds())
	})
}

// submit queues a job; nil when the queue is full.
func (s *server) submit(r request) *record {
	s.mu.Lock()
	defer s.mu.Unlock()
	pending := 0
	for _, j := range s.jobs {
		if j.status == "queued" || j.status == "generating" {
			pending++
		}
	}
	if _, full := s.fault(s.nextID+1, -1, backendtest.BusyQueue); full || pending >= maxPending {
		return nil
	}
	now := time.Now().Unix()
	j := &record{id: fmt.Sprintf("job_%x_%08x", now, s.nextID), number: s.nextID + 1, request: r, status: "queued", created: now}
	s.nextID++
	s.jobs[j.id] = j
	s.queue = append(s.queue, j)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return j
}

// work makes the queued jobs one after another.
func (s *server) work() {
	for range s.wake {
		for {
			s.mu.Lock()
			if len(s.queue) == 0 {
				s.mu.Unlock()
				break
			}
			j := s.queue[0]
			s.queue = s.queue[1:]
			j.status, j.started = "generating", time.Now().Unix()
			s.mu.Unlock()

			images, message := s.make(j.request)
			s.mu.Lock()
			j.status, j.images, j.completed = "completed", images, time.Now().Unix()
			if message != "" {
				j.status, j.images, j.code, j.message = "failed", nil, "generation_failed", message
			}
			s.mu.Unlock()
		}
	}
}

// cancel gives up a queued job; false when it is being made.
func (s *server) cancel(j *record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch j.status {
	case "generating":
		return false
	case "queued":
		s.queue = slices.DeleteFunc(s.queue, func(q *record) bool { return q == j })
		j.status, j.completed, j.code, j.message = "cancelled", time.Now().Unix(), "cancelled", "job cancelled by client"
	}
	return true
}

// find gives a job; nil when there is none.
func (s *server) find(id string) *record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.jobs[id]
}

// describe is a job's JSON, keys in alphabetical order as the real one's.
func (s *server) describe(j *record) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	position := 0
	if i := slices.Index(s.queue, j); i >= 0 {
		position = i + 1
	}
	d := map[string]any{
		"id": j.id, "kind": "img_gen", "status": j.status, "created": j.created, "started": orNull(j.started), "completed": orNull(j.completed),
		"queue_position": position, "result": nil, "error": nil,
	}
	switch j.status {
	case "completed":
		images := []any{}
		for i, png := range j.images {
			images = append(images, map[string]any{"index": i, "b64_json": png})
		}
		d["result"] = map[string]any{"output_format": j.request.format, "images": images}
	case "failed", "cancelled":
		d["error"] = map[string]any{"code": j.code, "message": j.message}
	}
	return d
}

func orNull(seconds int64) any {
	if seconds == 0 {
		return nil
	}
	return seconds
}
