package live

import (
	"errors"
	"testing"

	"muster/shared/pool"
)

func TestADecisionAsARequest(t *testing.T) {
	t.Parallel()
	watts := 1200.0
	for _, test := range []struct {
		name string
		in   Decision
		want [3]string
	}{
		{"an act", Decision{Device: "GPU-1", Act: Pause}, [3]string{"POST", "/api/v1/devices/GPU-1/pause", ""}},
		{"an act for a time", Decision{Device: "cpu", Act: Reserve, Seconds: 3600}, [3]string{"POST", "/api/v1/devices/cpu/reserve", `{"for_s":3600}`}},
		{"an id that needs escaping", Decision{Device: "a/b c", Act: Resume}, [3]string{"POST", "/api/v1/devices/a%2Fb%20c/resume", ""}},
		{
			"a change", Decision{Device: "pci-0000:4a:00.0", Change: Change{"yield": true, "max_celsius": (*float64)(nil), "max_watts": &watts, "hours": "22:00-08:00"}},
			[3]string{"PATCH", "/api/v1/devices/pci-0000:4a:00.0/control", `{"hours":"22:00-08:00","max_celsius":null,"max_watts":1200,"yield":true}`},
		},
		{"a budget", Decision{Pool: &pool.Settings{MaxWatts: &watts}}, [3]string{"PUT", "/api/v1/pool", `{"max_watts":1200}`}},
		{"no budget any more", Decision{Pool: &pool.Settings{}}, [3]string{"PUT", "/api/v1/pool", `{}`}},
	} {
		if method, path, body := test.in.Request(); [3]string{method, path, body} != test.want {
			t.Errorf("%s: %s %s %s, want %q", test.name, method, path, body, test.want)
		}
	}
}

func TestAnswerToADecision(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   string // "" is carried out
		field  string
	}{
		{"carried out", 200, `{"device_id":1}`, "", ""},
		{"refused", 404, `{"error":{"code":"not_found","message":"there is no device 7"}}`, "there is no device 7", ""},
		{"refused at a field", 400, `{"error":{"code":"invalid","message":"is 20; allowed is 30 to 120","field":"max_celsius"}}`, "max_celsius: is 20; allowed is 30 to 120", "max_celsius"},
		{"without a word", 502, `<html>`, "the agent refused (status 502)", ""},
	} {
		err := Decided(test.status, []byte(test.body))
		var wrong *pool.FieldError
		errors.As(err, &wrong)
		switch {
		case test.want == "" && err != nil, test.want != "" && (err == nil || err.Error() != test.want):
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		case test.field != "" && (wrong == nil || wrong.Field != test.field), test.field == "" && wrong != nil:
			t.Errorf("%s: field of %+v, want %q", test.name, wrong, test.field)
		}
	}
}
