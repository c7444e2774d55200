package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/shared/gpu"
	"muster/shared/pool"
	"muster/shared/wire"
)

type steeredAnswer struct {
	wire.Steered
	Paused bool `json:"paused"`
}

func TestModes(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, test := range []struct {
		device, verb string
		key          string
		mode         pool.Mode
		phase        wire.Phase
		paused       bool
	}{
		{"1", "pause", "GPU-1", pool.Paused, wire.PhasePaused, true},
		{"1", "resume", "GPU-1", pool.Active, wire.PhaseActive, false},
		{"GPU-0", "drain", "GPU-0", pool.Draining, wire.PhaseDraining, true},
		{"GPU%2D0", "reserve", "GPU-0", pool.Reserved, wire.PhaseDraining, true},
		{"0", "pause", "GPU-0", pool.Paused, wire.PhasePaused, true},
		{"cpu", "pause", "cpu", pool.Paused, wire.PhasePaused, true},
		{"cpu", "drain", "cpu", pool.Draining, wire.PhaseDrained, true}, // it has no generator: there is nothing to wait for
		{"cpu", "reserve", "cpu", pool.Reserved, wire.PhaseReserved, true},
	} {
		var got steeredAnswer
		r := a.ask("POST", "/api/v1/devices/"+test.device+"/"+test.verb, "")
		if r.status != 200 {
			t.Errorf("%s %s: %d %s", test.verb, test.device, r.status, r.body)
			continue
		}
		r.into(t, &got)
		if got.Key != test.key || got.Control.Mode != test.mode || got.Phase != test.phase || got.Paused != test.paused || got.Control.Until != nil {
			t.Errorf("%s %s: %s", test.verb, test.device, r.body)
		}
		if kept := a.queue.Steering().Devices[test.key].At(time.Now()); kept.Mode != test.mode {
			t.Errorf("%s %s: kept is %+v", test.verb, test.device, kept)
		}
	}
	// Programs of before look at these two alone.
	if r := a.ask("POST", "/api/v1/devices/1/pause", ""); !strings.HasPrefix(string(r.body), `{"device_id":1,`) || !strings.Contains(string(r.body), `"paused":true`) {
		t.Errorf("%s", r.body)
	}
}

func TestUnknownDevices(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, name := range []string{"7", "x", "-1", "null", "1.0", "CPU", "GPU-00", "99999999999999999999", "%00", "%ff", strings.Repeat("9", 300)} {
		for _, ask := range []struct{ method, path, body string }{
			{"POST", "pause", ""}, {"POST", "drain", ""}, {"POST", "reserve", `{"for_s":5}`}, {"POST", "resume", ""}, {"GET", "control", ""}, {"PUT", "control", `{"yield":true}`}, {"PATCH", "control", `{}`},
		} {
			r := a.ask(ask.method, "/api/v1/devices/"+name+"/"+ask.path, ask.body)
			if r.status != 404 || !strings.Contains(r.message(), "there is no device") || len(r.body) > 400 {
				t.Errorf("%s %.20s/%s: %d %s", ask.method, name, ask.path, r.status, r.body)
			}
		}
	}
	if n := len(a.queue.Steering().Devices); n != 0 {
		t.Errorf("%d decisions are kept", n)
	}
}

// A device can go between the look at the inventory and the decision, and the disk may not take it.
func TestDecisionsThatAreNotKept(t *testing.T) {
	t.Parallel()
	var fault error
	a := newAgent(t, func(c *Config) {
		c.Steer = func(context.Context, gpu.Ref, pool.Control) (pool.Control, error) { return pool.Control{}, fault }
		c.SteerPool = func(context.Context, pool.Settings) error { return fault }
	})
	for _, test := range []struct {
		fault  error
		status int
	}{{fmt.Errorf("x: %w", ErrNoDevice), 404}, {context.DeadlineExceeded, 503}, {errors.New("secret"), 500}} {
		fault = test.fault
		for _, ask := range [][3]string{{"POST", "devices/1/pause", ""}, {"PUT", "devices/1/control", "{}"}, {"PATCH", "devices/1/control", "{}"}, {"PUT", "pool", "{}"}} {
			if ask[1] == "pool" && test.status == 404 {
				continue
			}
			if r := a.ask(ask[0], "/api/v1/"+ask[1], ask[2]); r.status != test.status || strings.Contains(string(r.body), "secret") {
				t.Errorf("%s: %d %s, want %d", ask[1], r.status, r.body, test.status)
			}
		}
	}
}

func TestTerms(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	for _, test := range []struct {
		body  string
		field string        // that is refused; "" when it is taken
		ends  time.Duration // from now
	}{
		{`{"for_s":3600}`, "", time.Hour}, {`{"for_s":1}`, "", time.Second}, {`{"for_s":31622400}`, "", maxTerm}, {`{"until":"` + in(time.Hour) + `"}`, "", time.Hour}, {` `, "", 0}, {`{}`, "", 0}, {`{"for_s":null}`, "", 0},
		{`{"for_s":0}`, "for_s", 0}, {`{"for_s":-1}`, "for_s", 0}, {`{"for_s":1000000000}`, "for_s", 0}, {`{"for_s":9223372036854775807}`, "for_s", 0}, {`{"for_s":1e99}`, "for_s", 0}, {`{"for_s":99999999999999999999}`, "for_s", 0},
		{`{"for_s":1.5}`, "for_s", 0}, {`{"for_s":"1h"}`, "for_s", 0}, {`{"for_s":5,"until":"` + in(time.Hour) + `"}`, "for_s", 0},
		{`{"until":"` + in(-time.Minute) + `"}`, "until", 0}, {`{"until":"0001-01-01T00:00:00Z"}`, "until", 0}, {`{"until":"9999-01-01T00:00:00Z"}`, "until", 0}, {`{"until":"tomorrow"}`, "until", 0}, {`{"until":17}`, "until", 0}, {`{"until":""}`, "until", 0},
		{`{"for":5}`, "for", 0}, {`{"mode":"active"}`, "mode", 0}, {`[]`, "-", 0}, {`{"for_s":5`, "-", 0}, {`{} {}`, "-", 0}, {`NaN`, "-", 0}, {`{"for_s":NaN}`, "-", 0},
	} {
		for _, verb := range []string{"pause", "drain", "reserve"} {
			a.ask("POST", "/api/v1/devices/1/resume", "")
			r := a.ask("POST", "/api/v1/devices/1/"+verb, test.body)
			kept := a.queue.Steering().Devices["GPU-1"]
			if test.field != "" {
				if r.status != 400 || !strings.Contains(r.message(), strings.TrimSuffix(test.field, "-")) || !kept.IsZero() {
					t.Errorf("%s %s: %d %s, kept %+v", verb, test.body, r.status, r.body, kept)
				}
				continue
			}
			if r.status != 200 || (kept.Until == nil) != (test.ends == 0) || kept.Until != nil && math.Abs(time.Until(*kept.Until).Seconds()-test.ends.Seconds()) > 20 {
				t.Errorf("%s %s: %d %s, kept %+v", verb, test.body, r.status, r.body, kept)
			}
		}
	}
	if r := a.ask("POST", "/api/v1/devices/1/resume", `{"for_s":5}`); r.status != 400 || !strings.Contains(r.message(), "for_s") {
		t.Errorf("resume for a while: %d %s", r.status, r.body)
	}
	if r := a.ask("POST", "/api/v1/devices/1/pause?for_s=5", ""); r.status != 400 {
		t.Errorf("by query: %d %s", r.status, r.body)
	}
	if r := a.ask("POST", "/api/v1/devices/1/pause", `{"until":"`+strings.Repeat("x", maxBodyBytes)+`"}`); r.status != 413 {
		t.Errorf("long body: %d", r.status)
	}
}

func TestControl(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	const path = "/api/v1/devices/GPU-1/control"
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	for _, step := range []struct{ method, body, want string }{
		{"GET", "", `{"mode":"active"}`},
		{"PUT", `{"mode":"paused","until":"` + later + `","yield":true,"max_celsius":80,"max_watts":200.5,"hours":"22:00-08:00"}`, `{"mode":"paused","until":"` + later + `","yield":true,"max_celsius":80,"max_watts":200.5,"hours":"22:00-08:00"}`},
		{"PATCH", `{"max_celsius":75}`, `{"mode":"paused","until":"` + later + `","yield":true,"max_celsius":75,"max_watts":200.5,"hours":"22:00-08:00"}`},
		{"PATCH", `{}`, `{"mode":"paused","until":"` + later + `","yield":true,"max_celsius":75,"max_watts":200.5,"hours":"22:00-08:00"}`},
		{"PATCH", `{"mode":"active","max_watts":null,"hours":""}`, `{"mode":"active","yield":true,"max_celsius":75}`},
		{"PATCH", `{"mode":"reserved","until":"` + later + `"}`, `{"mode":"reserved","until":"` + later + `","yield":true,"max_celsius":75}`},
		{"PATCH", `{"mode":"draining"}`, `{"mode":"draining","yield":true,"max_celsius":75}`},
		{"PUT", `{"max_watts":100}`, `{"mode":"active","max_watts":100}`},
		{"PUT", `{}`, `{"mode":"active"}`},
	} {
		r := a.ask(step.method, path, step.body)
		if got := strings.TrimSpace(string(r.body)); r.status != 200 || got != step.want {
			t.Errorf("%s %s: %d %s, want %s", step.method, step.body, r.status, got, step.want)
		}
		if got := strings.TrimSpace(string(a.ask("GET", path, "").body)); got != step.want {
			t.Errorf("after %s %s: %s, want %s", step.method, step.body, got, step.want)
		}
	}
	if n := len(a.queue.Steering().Devices); n != 0 {
		t.Errorf("%d devices are kept that nobody decided about", n)
	}
}

// What is published is nobody's to change, by a decision that is refused least of all.
func TestPatchChangesACopy(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.ask("PUT", "/api/v1/devices/1/control", `{"max_celsius":80,"max_watts":200}`)
	before := a.queue.Steering()
	for _, body := range []string{`{"max_celsius":70,"max_watts":100}`, `{"max_celsius":70,"hours":"x"}`} {
		a.ask("PATCH", "/api/v1/devices/1/control", body)
	}
	if c := before.Devices["GPU-1"]; *c.MaxCelsius != 80 || *c.MaxWatts != 200 {
		t.Errorf("%g %g", *c.MaxCelsius, *c.MaxWatts)
	}
	if c := a.queue.Steering().Devices["GPU-1"]; *c.MaxCelsius != 70 || *c.MaxWatts != 100 {
		t.Errorf("%g %g: a refused change was made", *c.MaxCelsius, *c.MaxWatts)
	}
}

func TestBadControls(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, test := range []struct{ body, want string }{
		{``, "empty"}, {`null`, ""}, {`[]`, "not an array"}, {`{`, "middle"}, {`{"max_celsius":NaN}`, "not JSON"}, {`{"max_celsius":1e999}`, "max_celsius: must be a number in range"},
		{`{"max_celsius":29}`, "30 to 120"}, {`{"max_celsius":121}`, "30 to 120"}, {`{"max_celsius":-1e308}`, "30 to 120"}, {`{"max_celsius":"80"}`, "max_celsius: must be a number"}, {`{"max_celsius":true}`, "number"},
		{`{"max_watts":0}`, "1 to 100000"}, {`{"max_watts":-5}`, "1 to 100000"}, {`{"max_watts":1e300}`, "1 to 100000"}, {`{"max_watts":[1]}`, "max_watts"},
		{`{"mode":"sleep"}`, "mode: is"}, {`{"mode":7}`, "mode: must be a string"}, {`{"mode":"` + strings.Repeat("x", 5000) + `"}`, "mode: is"}, {`{"yield":"yes"}`, "yield: must be true or false"}, {`{"yield":1}`, "yield"},
		{`{"hours":"at night"}`, "no time of day"}, {`{"hours":"25:00-26:00"}`, "no time of day"}, {`{"hours":"08:00"}`, "no time of day"}, {`{"hours":"` + strings.Repeat("01:00-02:00,", 4000) + `"}`, "at most 8"}, {`{"hours":["22:00-08:00"]}`, "hours"}, {`{"hours":"22:00-08:00\u0000"}`, "no time of day"},
		{`{"until":"2100-01-01T00:00:00Z"}`, "until: needs a mode"}, {`{"mode":"paused","until":"2001-01-01T00:00:00Z"}`, "until: is 2001"}, {`{"mode":"paused","until":"2999-01-01T00:00:00Z"}`, "a year ahead"}, {`{"mode":"paused","until":"soon"}`, "until: must be a time"},
		{`{"max_celcius":80}`, "max_celcius: is not a field here; allowed are mode, until, yield, max_celsius, max_watts, hours"}, {`{"for_s":5}`, "for_s: is not a field"}, {`{"device_id":1}`, "device_id: is not a field"}, {"{\"hours\":\"\xff\"}", "UTF-8"},
	} {
		for _, method := range []string{"PUT", "PATCH"} {
			r := a.ask(method, "/api/v1/devices/1/control", test.body)
			if test.want == "" { // JSON's null changes nothing
				continue
			}
			if r.status != 400 || !strings.Contains(r.message(), test.want) || len(r.body) > 600 {
				t.Errorf("%s %.60s: %d %.300s, want %q", method, test.body, r.status, r.body, test.want)
			}
		}
	}
	if n := len(a.queue.Steering().Devices); n != 0 {
		t.Errorf("%d decisions are kept: %+v", n, a.queue.Steering().Devices)
	}
	for _, body := range []string{``, `[]`, `{"max_watts":0}`, `{"max_watts":1e999}`, `{"max_watts":NaN}`, `{"max_watts":-1}`, `{"watts":5}`, `{"pool":{}}`, `{"max_watts":"1500"}`} {
		if r := a.ask("PUT", "/api/v1/pool", body); r.status != 400 {
			t.Errorf("pool %s: %d %s", body, r.status, r.body)
		}
	}
}

// Changes of one device at the same instant are made one after the other: none is lost.
func TestSimultaneousChanges(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	var all sync.WaitGroup
	for _, body := range []string{`{"yield":true}`, `{"max_celsius":80}`, `{"max_watts":200}`, `{"hours":"22:00-08:00"}`, `{"mode":"paused"}`} {
		all.Go(func() {
			if r := a.ask("PATCH", "/api/v1/devices/1/control", body); r.status != 200 {
				t.Errorf("%s: %d %s", body, r.status, r.body)
			}
		})
	}
	all.Wait()
	got, _ := json.Marshal(a.queue.Steering().Devices["GPU-1"])
	if want := `{"mode":"paused","yield":true,"max_celsius":80,"max_watts":200,"hours":"22:00-08:00"}`; string(got) != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func FuzzControl(f *testing.F) {
	f.Add(`{"mode":"paused","until":"2100-01-01T00:00:00Z","yield":true,"max_celsius":80,"max_watts":200.5,"hours":"22:00-08:00"}`)
	f.Add(`{"mode":null,"until":null,"max_celsius":null}`)
	f.Add(`{"for_s":3600}`)
	f.Add(`{"for_s":-9223372036854775808,"until":"x"}`)
	f.Add(`{"hours":",,,-"}`)
	f.Fuzz(func(t *testing.T, body string) {
		now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
		until, celsius := now.Add(time.Hour), 80.0
		before := pool.Control{Mode: pool.Paused, Until: &until, MaxCelsius: &celsius}
		if c, err := mergeControl(before, []byte(body)); err != nil {
			refusedWell(t, err)
		} else if err := c.Validate(); err != nil {
			refusedWell(t, err)
		} else if again, err := json.Marshal(c); err != nil {
			t.Errorf("%q can't be kept: %v", body, err)
		} else if back, err := mergeControl(pool.Control{}, again); err != nil || back.Validate() != nil {
			t.Errorf("%q is kept as %s, which can't be read: %v", body, again, err)
		}
		if end, err := parseTerm([]byte(body), now); err != nil {
			refusedWell(t, err)
		} else if end != nil && (!end.After(now) || end.Sub(now) > maxTerm) {
			t.Errorf("%q ends %s", body, end)
		}
	})
}
