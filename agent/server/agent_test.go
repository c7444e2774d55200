package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"io/fs"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/agent/feed"
	"muster/agent/images"
	"muster/agent/queue"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/pool"
	"muster/shared/wire"
)

const (
	testToken = "0123456789abcdef-token"
	testAddr  = "127.0.0.1:8000"
)

// testAgent is a server on a real queue and store, with telemetry that the test makes up.
type testAgent struct {
	t      testing.TB
	server *Server
	queue  *queue.Queue
	images *images.Store
	feed   *feed.Feed

	mu        sync.Mutex
	inventory *gpu.Inventory
	snapshot  *gpu.Snapshot
	capacity  wire.Capacity
	ready     error
}

func newAgent(t testing.TB, change ...func(*Config)) *testAgent {
	t.Helper()
	return newAgentWith(t, queue.Options{}, change...)
}

func newAgentWith(t testing.TB, options queue.Options, change ...func(*Config)) *testAgent {
	t.Helper()
	return newAgentIn(t, t.TempDir(), options, change...)
}

func newAgentIn(t testing.TB, dir string, options queue.Options, change ...func(*Config)) *testAgent {
	t.Helper()
	a := &testAgent{t: t, feed: feed.New(), inventory: twoMI25(), snapshot: twoReadings(), capacity: wire.Capacity{
		DefaultModel: "sketch", Models: []wire.Model{{Name: "sketch", Title: "built-in sketch renderer, no AI model"}, {Name: "sd15", Title: "sd15", Bytes: 2 * gpu.GiB}},
		Slots: []wire.Slot{{Device: 0, Backend: "builtin", Models: []string{"sketch", "sd15"}, Loaded: "sd15"}, {Device: 1, Backend: "builtin", Models: []string{"sketch"}}},
	}}
	var err error
	options.Publish = a.feed.Jobs
	if options.Free == nil {
		options.Free = func(string) (uint64, uint64, error) { return 1 << 40, 1 << 41, nil }
	}
	if a.queue, err = queue.Open(t.Context(), dir, options); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	stopped := make(chan struct{})
	go func() { defer close(stopped); _ = a.queue.Run(ctx) }()
	t.Cleanup(func() { stop(); <-stopped })
	if a.images, err = images.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	config := Config{
		Build: "test", Instance: "i1", Interval: time.Second, Addr: testAddr, Token: testToken, ModelsDir: "/models",
		Queue: a.queue, Images: a.images, Feed: a.feed, Capacity: a.nowCapacity,
		Inventory: func() *gpu.Inventory { a.mu.Lock(); defer a.mu.Unlock(); return a.inventory },
		Snapshot:  func() *gpu.Snapshot { a.mu.Lock(); defer a.mu.Unlock(); return a.snapshot },
		History: func(window time.Duration, points int) wire.History {
			return wire.History{Start: time.Unix(100, 0).UTC(), StepMilliseconds: 1000, Devices: []wire.Series{{
				ID: fmt.Sprint(window, " ", points), UtilizationPercent: wire.Column{1, math.NaN()}, MemoryUsedPercent: wire.Column{2, 2}, TemperatureCelsius: wire.Column{3, 3}, PowerWatts: wire.Column{4, 4},
			}}}
		},
		Temperatures: func(ref gpu.Ref) []TemperaturePoint {
			if ref != 0 {
				return nil
			}
			return []TemperaturePoint{{time.Unix(10, 0).UTC(), 41}, {time.Unix(11, 0).UTC(), 44}, {time.Unix(12, 0).UTC(), 42}}
		},
		Steering: a.queue.Steering, SteerPool: a.queue.SteerPool,
		Steer: func(ctx context.Context, ref gpu.Ref, c pool.Control) (pool.Control, error) {
			if ref == gpu.CPU {
				return a.queue.Steer(ctx, "cpu", c)
			}
			a.mu.Lock()
			device, ok := a.inventory.Device(ref)
			a.mu.Unlock()
			if !ok {
				return pool.Control{}, fmt.Errorf("%w: %s", ErrNoDevice, ref)
			}
			return a.queue.Steer(ctx, device.ID, c)
		},
		Ready: func() error { a.mu.Lock(); defer a.mu.Unlock(); return a.ready },
		Site:  testSite(),
	}
	for _, c := range change {
		c(&config)
	}
	if a.server, err = New(config); err != nil {
		t.Fatal(err)
	}
	a.server.began = time.Now().Add(-time.Hour) // nothing waits for a first look
	t.Cleanup(func() { a.server.stop(); a.server.sockets.wait(0) })
	return a
}

func (a *testAgent) nowCapacity() wire.Capacity { a.mu.Lock(); defer a.mu.Unlock(); return a.capacity }

func (a *testAgent) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

func p[T any](v T) *T { return &v }

// twoMI25 is the machine of the example in facts/api.md; its cards have full 16 GiB.
func twoMI25() *gpu.Inventory {
	device := func(i int) gpu.Device {
		return gpu.Device{ID: fmt.Sprint("GPU-", i), Index: gpu.Ref(i), Vendor: gpu.AMD, Name: "Radeon Instinct MI25", ComputeCapability: "9.0",
			MultiprocessorCount: p(64), MemoryBytes: p(uint64(16 * gpu.GiB))}
	}
	return &gpu.Inventory{Revision: 1, Devices: []gpu.Device{device(0), device(1)}, Host: gpu.Host{Platform: "linux", HIPVersion: "5.7.1-other",
		Torch: &gpu.Torch{Version: "2.3.1+rocm5.7", HIP: "5.7.31921-d1770ee1b"}}}
}

func twoReadings() *gpu.Snapshot {
	return &gpu.Snapshot{Seq: 9, Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Revision: 1, GPUs: []gpu.Reading{
		{Index: 0, State: gpu.StateOK, MemoryTotalBytes: p(uint64(16 * gpu.GiB)), MemoryUsedBytes: p(uint64(8 * gpu.GiB)), MemoryReservedBytes: p(uint64(gpu.GiB)),
			Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 61}, {Sensor: gpu.SensorJunction, Celsius: 70}}},
		{Index: 1, State: gpu.StateOK, MemoryTotalBytes: p(uint64(16 * gpu.GiB)), MemoryUsedBytes: p(uint64(gpu.GiB))},
	}}
}

// answer is a response whose body was read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (r answer) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(r.body, v); err != nil {
		t.Fatalf("answer %d %.200s: %v", r.status, r.body, err)
	}
}

// message gives the text of an error in either form, its field before it.
func (r answer) message() string {
	var e struct {
		Detail string
		Error  struct{ Code, Message, Field string }
	}
	_ = json.Unmarshal(r.body, &e)
	if e.Detail != "" {
		return "detail: " + e.Detail
	}
	return e.Error.Code + " " + e.Error.Field + ": " + e.Error.Message
}

// ask sends a request from a program that knows the token, straight into the handler. Headers come in pairs and replace.
func (a *testAgent) ask(method, target, body string, headers ...string) answer {
	a.t.Helper()
	return a.send(method, target, body, append([]string{"Authorization", "Bearer " + testToken}, headers...)...)
}

// send is ask without credentials.
func (a *testAgent) send(method, target, body string, headers ...string) answer {
	a.t.Helper()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, target, content)
	r.Host = testAddr
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		} else if headers[i+1] == "" {
			r.Header.Del(headers[i])
		} else {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	a.server.Handler().ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.Bytes()}
}

// pair gives the cookie of a new session, as "name=value".
func (a *testAgent) pair() string {
	a.t.Helper()
	_, code, _ := strings.Cut(a.server.NewLink(), "#pair=")
	r := a.send("POST", "/api/v1/session", fmt.Sprintf(`{"code":%q}`, code), "Origin", "http://"+testAddr)
	if r.status != http.StatusOK {
		a.t.Fatalf("pair: %d %s", r.status, r.body)
	}
	cookie, _, _ := strings.Cut(r.header.Get("Set-Cookie"), ";")
	return cookie
}

// picture is a small PNG.
func picture(t testing.TB, side int, shade uint8) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, side, side))
	img.SetGray(0, 0, color.Gray{Y: shade})
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// generate plays the scheduler: it carries out queued jobs, dealt over devices 0 and 1, until the test ends. outcome says why a
// job shall fail; "" for one that succeeds.
func (a *testAgent) generate(outcome func(job.Job) string) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	a.t.Cleanup(func() { stop(); <-done })
	subscription := a.feed.Subscribe(wire.JSON)
	go func() {
		defer close(done)
		defer subscription.Close()
		for {
			for _, j := range a.queue.Active() {
				if j.State == job.Queued {
					a.finish(ctx, j, outcome(j))
				}
			}
			select {
			case <-subscription.Wake():
				subscription.Take()
			case <-ctx.Done():
				return
			}
		}
	}()
}

func (a *testAgent) finish(ctx context.Context, j job.Job, failure string) {
	device := gpu.Ref(j.Ordinal % 2)
	if j.PinnedTo != nil {
		device = *j.PinnedTo
	}
	started, err := a.queue.Start(ctx, j.ID, j.Attempt, queue.Placement{Device: device, DeviceKey: "x", Backend: "builtin"})
	if err != nil {
		return // cancelled meanwhile
	}
	if failure != "" {
		_, _ = a.queue.Fail(ctx, j.ID, started.Attempt, failure)
		return
	}
	id, err := a.images.Put(ctx, picture(a.t, 8, uint8(j.Ordinal)))
	if err != nil && !errors.Is(err, context.Canceled) {
		a.t.Errorf("put: %v", err)
	}
	_, _ = a.queue.Succeed(ctx, j.ID, started.Attempt, id)
}

func testSite() fs.FS { return siteFiles() }
