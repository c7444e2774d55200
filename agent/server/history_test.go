package server

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"muster/agent/telemetry/history"
	"muster/shared/gpu"
	"muster/shared/wire"
)

// historian is an agent whose history has two values for device 0, and one of a device that is gone.
func historian(t testing.TB, asked *HistoryQuery) *testAgent {
	return newAgent(t, func(c *Config) {
		c.Query = func(q HistoryQuery) (HistorySeries, error) {
			*asked = q
			switch q.ID {
			case "GPU-0", "GPU-gone":
				return HistorySeries{Start: time.Unix(1700000000, 0), Step: 1500 * time.Millisecond, Resolution: "full",
					Min: wire.Column{1, math.NaN()}, Mean: wire.Column{1.5, math.NaN()}, Max: wire.Column{2, math.NaN()}}, nil
			case "GPU-sick":
				return HistorySeries{}, history.ErrBusy
			}
			return HistorySeries{}, fmt.Errorf("%s: %w", q.ID, fs.ErrNotExist)
		}
	})
}

func TestHistoryGolden(t *testing.T) {
	t.Parallel()
	var asked HistoryQuery
	a := historian(t, &asked)
	for _, tt := range []struct{ query, want string }{
		{"device=0&metric=power_watts&from=1700000000&to=1700000003&points=2",
			`{"device_id":0,"id":"GPU-0","metric":"power_watts","unit":"watts","from":"2023-11-14T22:13:20Z","to":"2023-11-14T22:13:23Z","step_s":1.5,"resolution":"full","times":["2023-11-14T22:13:20Z","2023-11-14T22:13:21.5Z"],"min":[1,null],"mean":[1.5,null],"max":[2,null]}`},
		{"device=GPU-gone&metric=utilization_percent&from=2023-11-14T22:13:20Z&to=2023-11-14T22:13:23.25Z",
			`{"device_id":null,"id":"GPU-gone","metric":"utilization_percent","unit":"percent","from":"2023-11-14T22:13:20Z","to":"2023-11-14T22:13:23.25Z","step_s":1.5,"resolution":"full","times":["2023-11-14T22:13:20Z","2023-11-14T22:13:21.5Z"],"min":[1,null],"mean":[1.5,null],"max":[2,null]}`},
		{"device=1&metric=memory_used_bytes&from=1&to=2",
			`{"device_id":1,"id":"GPU-1","metric":"memory_used_bytes","unit":"bytes","from":"1970-01-01T00:00:01Z","to":"1970-01-01T00:00:02Z","step_s":0,"resolution":"none","times":[],"min":[],"mean":[],"max":[]}`},
	} {
		if r := a.ask("GET", "/api/v1/history?"+tt.query, ""); r.status != 200 || strings.TrimSpace(string(r.body)) != tt.want {
			t.Errorf("%s: %d\n%s\nwant\n%s", tt.query, r.status, r.body, tt.want)
		}
	}
}

func TestHistoryAsk(t *testing.T) {
	t.Parallel()
	var asked HistoryQuery
	a := historian(t, &asked)
	now := time.Now()
	unix := func(s int64) time.Time { return time.Unix(s, 0) }
	for _, tt := range []struct {
		query    string
		id       string
		from, to time.Time
		points   int
	}{
		{"device=0", "GPU-0", now.Add(-10 * time.Minute), now, 300},
		{"device=GPU-0", "GPU-0", now.Add(-10 * time.Minute), now, 300},
		{"device=0&from=-3600", "GPU-0", now.Add(-time.Hour), now, 300},
		{"device=0&from=-3600.5&to=-60&points=1", "GPU-0", now.Add(-3600500 * time.Millisecond), now.Add(-time.Minute), 1},
		{"device=0&to=-3600", "GPU-0", now.Add(-70 * time.Minute), now.Add(-time.Hour), 300},
		{"device=0&from=0&to=1700000000.25&points=5000", "GPU-0", unix(0), unix(1700000000).Add(250 * time.Millisecond), 5000},
		{"device=0&from=2026-01-01T00:00:00%2B01:00&to=2026-01-01T00:00:00Z", "GPU-0", time.Date(2025, 12, 31, 23, 0, 0, 0, time.UTC), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), 300},
		{"device=0&from=2026-01-01T00:00:00+01:00&to=2026-01-01T00:00:00Z", "GPU-0", time.Date(2025, 12, 31, 23, 0, 0, 0, time.UTC), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), 300},
		{"device=0&to=0001-01-01T00:00:00Z", "GPU-0", time.Time{}.Add(-10 * time.Minute), time.Time{}, 300},
		{"device=0&to=99999999999999", "", time.Time{}, time.Time{}, 0},
	} {
		asked = HistoryQuery{}
		r := a.ask("GET", "/api/v1/history?metric=power_watts&"+tt.query, "")
		if tt.id == "" {
			if r.status != 400 {
				t.Errorf("%s: %d %s", tt.query, r.status, r.body)
			}
			continue
		}
		near := func(a, b time.Time) bool { return a.Sub(b).Abs() < 10*time.Second }
		if r.status != 200 || asked.ID != tt.id || !near(asked.From, tt.from) || !near(asked.To, tt.to) || asked.Points != tt.points || asked.Metric != gpu.MetricPower {
			t.Errorf("%s: %d %.200s %+v", tt.query, r.status, r.body, asked)
		}
	}
}

func TestHistoryRefusals(t *testing.T) {
	t.Parallel()
	var asked HistoryQuery
	a := historian(t, &asked)
	for _, tt := range []struct {
		query  string
		status int
		want   string
	}{
		{"", 400, `device: is ""`},
		{"metric=power_watts", 400, `device: is ""`},
		{"device=cpu&metric=power_watts", 400, "device: is \"cpu\""},
		{"device=" + strings.Repeat("x", 257) + "&metric=power_watts", 400, "device: "},
		{"device=2&metric=power_watts", 404, "not_found device: there is no device 2"},
		{"device=99999999999999999999&metric=power_watts", 404, "there is no device"},
		{"device=-1&metric=power_watts", 404, "there is no device -1"},
		{"device=GPU-9&metric=power_watts", 404, "there is no device GPU-9"},
		{"device=GPU-sick&metric=power_watts", 503, "timeout"},
		{"device=0", 400, `metric: is ""; allowed are utilization_percent, memory_used_percent, memory_used_bytes, temperature_celsius, power_watts, core_clock_mhz, memory_clock_mhz`},
		{"device=0&metric=Power_Watts", 400, "metric: "},
		{"device=0&metric=power_watts&from=yesterday", 400, `from: is "yesterday"; allowed are RFC 3339`},
		{"device=0&metric=power_watts&from=nan", 400, "from: "},
		{"device=0&metric=power_watts&from=0x10", 400, "from: "},
		{"device=0&metric=power_watts&from=1e3", 400, "from: "},
		{"device=0&metric=power_watts&from=--1", 400, "from: "},
		{"device=0&metric=power_watts&from=2026-01-01", 400, "from: "},
		{"device=0&metric=power_watts&to=0000-01-01T00:00:00Z", 400, "to: "},
		{"device=0&metric=power_watts&from=-999999999999", 400, "from: "},
		{"device=0&metric=power_watts&from=5&to=5", 400, "from: is 1970-01-01T00:00:05Z, which is not before to, 1970-01-01T00:00:05Z"},
		{"device=0&metric=power_watts&from=9&to=5", 400, "not before to"},
		{"device=0&metric=power_watts&points=0", 400, `points: is "0"; allowed is a whole number from 1 to 5000`},
		{"device=0&metric=power_watts&points=5001", 400, "points: "},
		{"device=0&metric=power_watts&points=1.5", 400, "points: "},
		{"device=0&device=1&metric=power_watts", 400, "device: is given 2 times"},
		{"device=0&metric=power_watts&step=5", 400, "step: is not a parameter here; allowed are device, metric, from, to, points"},
		{"device=%zz", 400, "not well-formed"},
	} {
		if r := a.ask("GET", "/api/v1/history?"+tt.query, ""); r.status != tt.status || !strings.Contains(r.message(), tt.want) {
			t.Errorf("%.60s: %d %s, want %d %s", tt.query, r.status, r.body, tt.status, tt.want)
		}
	}
	if r := newAgent(t).ask("GET", "/api/v1/history?device=0&metric=power_watts", ""); r.status != 501 {
		t.Errorf("an agent without a history: %d", r.status)
	}
	if r := newAgentOf(t, nil, nil, nil).ask("GET", "/api/v1/history?device=0&metric=power_watts", ""); r.status != 503 {
		t.Errorf("before the first look: %d", r.status)
	}
}

// The route and the store behind it agree on names and bounds.
func TestHistoryThroughTheStore(t *testing.T) {
	t.Parallel()
	store, err := history.Open("", time.Second, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, func(c *Config) {
		c.Query = func(q HistoryQuery) (HistorySeries, error) {
			series, err := store.Query(history.Query(q))
			return HistorySeries(series), err
		}
	})
	s := twoReadings()
	s.Time = time.Now().Add(-time.Second)
	store.Record(twoMI25(), s)
	for _, metric := range gpu.Metrics {
		r := a.ask("GET", fmt.Sprint("/api/v1/history?device=0&points=5000&from=-60&metric=", metric), "")
		var got struct {
			Times []time.Time
			Mean  []*float64
			Unit  string
		}
		r.into(t, &got)
		known := 0
		for _, v := range got.Mean {
			if v != nil {
				known++
			}
		}
		want := 0
		switch metric {
		case gpu.MetricMemory, gpu.MetricMemoryPercent, gpu.MetricTemperature:
			want = 1
		}
		if r.status != 200 || known != want || len(got.Times) != len(got.Mean) || got.Unit == "" {
			t.Errorf("%s: %d %.300s", metric, r.status, r.body)
		}
	}
	if maxHistoryPoints != history.MaxPoints {
		t.Errorf("the route allows %d points and the store %d", maxHistoryPoints, history.MaxPoints)
	}
}

func FuzzHistoryAsk(f *testing.F) {
	f.Add("device=0&metric=power_watts&from=-600&to=0&points=300")
	f.Add("device=GPU-0&metric=memory_used_bytes&from=2026-01-01T00:00:00%2B01:00&to=1700000000.123456789")
	f.Add("device=\xff&metric=&from=-0.0000001&to=-0")
	f.Add("device=0&metric=power_watts&from=0001-01-01T00:00:00-23:59&to=9999-12-31T23:59:59.999999999Z")
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		r := httptest.NewRequest("GET", "/api/v1/history", nil)
		r.URL = &url.URL{Path: "/api/v1/history", RawQuery: text}
		ask, err := parseHistoryAsk(r, now)
		if err != nil {
			refusedWell(t, err)
			return
		}
		if !ask.From.Before(ask.To) || ask.Points < 1 || ask.Points > maxHistoryPoints || ask.ID == "" || ask.Metric.Unit() == "" {
			t.Fatalf("%q becomes %+v", text, ask)
		}
		if _, err := json.Marshal(newPast(ask, gpu.Device{}, true, HistorySeries{Start: ask.From})); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
