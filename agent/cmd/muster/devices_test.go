package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"muster/shared/job"
	"muster/shared/pool"
	"muster/shared/wire"
)

func TestSteeringByCommandLine(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	running := r.start(r.submit(1)[0])
	for _, step := range []struct {
		line string
		want []string // in what is printed
		none []string
	}{
		{"devices", []string{"ID", "MI25", "V620", "active", running.ID, "sketch"}, []string{"all GPUs"}},
		{"devices pause 1", []string{"V620", "paused"}, []string{"MI25"}},
		{"devices resume 1", []string{"active"}, []string{"paused"}},
		{"devices reserve GPU-b --for 90m", []string{"reserved until ", "draining"}, nil},
		{"devices pause all", []string{"MI25", "V620"}, []string{"active", "reserved"}},
		{"devices resume 0 1 0 all", []string{"MI25", "V620", "active"}, []string{"paused"}},
		{"devices pause cpu", []string{"cpu", "has no generator"}, []string{"MI25"}},
		{"devices set 0 --yield --max-celsius 80 --max-watts 200.5 --hours 22:00-08:00", []string{"yes", "80 °C, 200.5 W", "22:00-08:00"}, []string{"V620"}},
		{"devices set 0 --yield=false", []string{"no", "80 °C"}, []string{"yes"}},
		{"devices set 0 --no-yield --max-celsius none", []string{"no", " 200.5 W"}, []string{"yes", "°C"}},
		{"devices set 0 --max-watts none --hours none", []string{"MI25"}, []string{"200.5", "22:00"}},
		{"devices pool", []string{"all GPUs together: no limit"}, nil},
		{"devices pool --max-watts 1500", []string{"1500 W at most"}, nil},
		{"devices", []string{"all GPUs together: 1500 W at most"}, nil},
		{"devices pool --json", []string{`{"max_watts":1500}`}, nil},
		{"devices pool --max-watts none", []string{"no limit"}, nil},
	} {
		out, err := r.run(strings.Fields(step.line)...)
		if err != nil {
			t.Errorf("%s: %v", step.line, err)
		}
		for _, want := range step.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is not in\n%s", step.line, want, out)
			}
		}
		for _, none := range step.none {
			if strings.Contains(out, none) {
				t.Errorf("%s: %q is in\n%s", step.line, none, out)
			}
		}
	}
	out, err := r.run("devices", "pause", "1", "--for", "2h", "--json")
	var now wire.Pool
	if err != nil || json.Unmarshal([]byte(out), &now) != nil || len(now.Devices) != 1 || now.Devices[0].Control.Until == nil || math.Abs(time.Until(*now.Devices[0].Control.Until).Hours()-2) > 0.1 {
		t.Errorf("%v %s", err, out)
	}
}

func TestMistakesInSteering(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, test := range []struct{ line, want string }{
		{"devices now", `unknown command "now"`}, {"devices pause", "name a device"}, {"devices set", "name a device"}, {"devices set 0", "say what to set"},
		{"devices pause 7", "there is no device 7; there are 0 (MI25), 1 (V620), cpu, all"}, {"devices pause gpu0", "no device gpu0"}, {"devices pause 0 7", "no device 7"},
		{"devices pause 0 --for 0s", "--for 0s"}, {"devices pause 0 --for -1h", "--for -1h"}, {"devices pause 0 --for 500ms", "a second at least"}, {"devices pause 0 --for soon", "--for"}, {"devices pause 0 --for 90000h", "for_s: is 324000000"}, {"devices resume 0 --for 1h", "unknown flag"},
		{"devices set 0 --yield --no-yield", "yield"}, {"devices set 0 --max-celsius 5", "max_celsius: is 5; allowed is 30 to 120"}, {"devices set 0 --max-celsius hot", "--max-celsius hot"}, {"devices set 0 --max-watts NaN", "--max-watts NaN"}, {"devices set 0 --max-watts Inf", "--max-watts"}, {"devices set 0 --max-watts -1", "--max-watts -1"}, {"devices set 0 --hours night", "--hours"},
		{"devices pool --max-watts 0", "--max-watts 0"}, {"devices pool 0", `unknown command "0"`}, {"devices resume 0 --wait", "unknown flag"},
	} {
		if out, err := r.run(strings.Fields(test.line)...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q; %s", test.line, err, test.want, out)
		}
	}
	if decided := r.queue.Steering(); len(decided.Devices) > 0 || decided.Pool.MaxWatts != nil {
		t.Errorf("kept: %+v", decided)
	}
}

func TestDrainIsWaitedFor(t *testing.T) {
	t.Parallel()
	const draining, drained, other = `"control":{"mode":"draining"},"phase":"draining"`, `"control":{"mode":"draining"},"phase":"drained"`, `"control":{"mode":"active"},"phase":"active"`
	for name, test := range map[string]struct {
		answers []string // of device a, one after the other
		want    string   // of the error; "" for none
	}{
		"at once":            {[]string{drained}, ""},
		"in a moment":        {[]string{draining, draining, drained}, ""},
		"taken back":         {[]string{draining, other}, "device 0 is not being drained any more: it is active"},
		"the agent restarts": {[]string{draining, "stopping", "stopping", drained}, ""},
		"interrupted":        {[]string{draining, ""}, "go on being drained"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, interrupt := context.WithCancel(t.Context())
			asked := 0
			agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if asked++; asked > len(test.answers) {
					t.Errorf("asked %d times", asked)
				} else if now := test.answers[asked-1]; now == "" {
					interruptAsked(r, interrupt)
				} else if now == "stopping" {
					w.WriteHeader(http.StatusServiceUnavailable)
					fmt.Fprint(w, `{"error":{"code":"stopping","message":"the agent is stopping"}}`)
				} else {
					fmt.Fprintf(w, `{"devices":[{"device_id":0,"device_key":"a",%s},{"device_id":1,"device_key":"b",%s}]}`, now, other)
				}
			}))
			defer agent.Close()
			err := awaitDrained(ctx, &client{base: agent.URL, token: "t"}, []string{"a"}, io.Discard)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if asked != len(test.answers) {
				t.Errorf("asked %d times, want %d", asked, len(test.answers))
			}
		})
	}
}

func TestModeWords(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.Local)
	soon, far, past := now.Add(90*time.Minute), now.Add(50*time.Hour), now.Add(-time.Second)
	for want, c := range map[string]pool.Control{
		"active": {Mode: pool.Paused, Until: &past}, "paused": {Mode: pool.Paused}, "paused until 13:30": {Mode: pool.Paused, Until: &soon}, "reserved until 2026-11-25 14:00": {Mode: pool.Reserved, Until: &far},
	} {
		if got := modeWords(c, now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := modeWords(pool.Control{}, now); got != "active" {
		t.Errorf("nothing decided: %q", got)
	}
}

func TestJobsShowWhenTheyAreExpected(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	j := r.submit(1)[0]
	now := time.Now()
	r.queue.Explain(map[string]job.Outlook{j.ID: {Reason: "waits for GPU 0", Expected: &job.Expected{At: now.Add(40 * time.Minute), Early: now.Add(25 * time.Minute), Late: now.Add(70 * time.Minute)}}})
	if out, err := r.run("jobs"); err != nil || !strings.Contains(out, "in 40 min, 25 to 70 min") || !strings.Contains(out, "waits for GPU 0") {
		t.Errorf("%v\n%s", err, out)
	}
}
