package live

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muster/shared/gpu"
	"muster/shared/wire"
)

func TestPastQueryPath(t *testing.T) {
	t.Parallel()
	q := PastQuery{Device: 3, Metric: gpu.MetricPower, From: time.Unix(1000, 0), To: time.Unix(1600, 0), Points: 240}
	if got, want := q.Path(), "/api/v1/history?device=3&metric=power_watts&points=240&from=1000&to=1600"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestDecodePast(t *testing.T) {
	t.Parallel()
	nan := math.NaN()
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   Past
		err    string // "" for none
	}{
		{"whole", 200, `{"device_id":0,"id":"GPU-1","metric":"power","unit":"W","resolution":"10s","step_s":10,"times":["1970-01-01T00:00:10Z","1970-01-01T00:00:20Z","1970-01-01T00:00:30.5Z"],"min":[1,null,3],"mean":[2,null,4],"max":[3,null,5]}`,
			Past{StepSeconds: 10, Times: []time.Time{time.Unix(10, 0).UTC(), time.Unix(20, 0).UTC(), time.UnixMilli(30500).UTC()}, Min: wire.Column{1, nan, 3}, Mean: wire.Column{2, nan, 4}, Max: wire.Column{3, nan, 5}}, ""},
		{"nothing recorded", 200, `{"step_s":10,"times":[],"min":[],"mean":[],"max":[]}`, Past{StepSeconds: 10}, ""},
		{"refused with a reason", 404, `{"error":{"code":"unknown_device","message":"there is no device 9"}}`, Past{}, "there is no device 9"},
		{"refused without", 502, `<html>`, Past{}, "the agent refused (status 502)"},
		{"columns of different lengths", 200, `{"step_s":10,"times":["1970-01-01T00:00:10Z","1970-01-01T00:00:20Z"],"min":[1],"mean":[1,2],"max":[1,2]}`, Past{}, "the agent's answer contradicts itself"},
		{"times that go back", 200, `{"step_s":10,"times":["1970-01-01T00:00:20Z","1970-01-01T00:00:10Z"],"min":[1,1],"mean":[1,2],"max":[1,2]}`, Past{}, "the agent's answer contradicts itself"},
		{"steps that go back", 200, `{"step_s":-1,"times":[],"min":[],"mean":[],"max":[]}`, Past{}, "the agent's answer contradicts itself"},
		{"half an answer", 200, `{"step_s":10,"times":["1970-01-01T00:00:10Z"`, Past{}, "the agent's answer can't be read: unexpected end of JSON input"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := DecodePast(test.status, []byte(test.body))
			if (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.EquateNaNs(), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What passes can be drawn without looking again.
func FuzzDecodePast(f *testing.F) {
	f.Add([]byte(`{"step_s":10,"times":["1970-01-01T00:00:10Z","1970-01-01T00:00:20Z","1970-01-01T00:00:30Z"],"min":[1,null,3],"mean":[2,null,4],"max":[3,null,5]}`))
	f.Add([]byte(`{"step_s":1e300,"times":[null],"min":null,"mean":[0],"max":[0]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		past, err := DecodePast(200, body)
		if err != nil {
			return
		}
		for i := range past.Times {
			_, _, _ = past.Min[i], past.Mean[i], past.Max[i]
			if i > 0 && past.Times[i].Before(past.Times[i-1]) {
				t.Errorf("times %v", past.Times)
			}
		}
	})
}
