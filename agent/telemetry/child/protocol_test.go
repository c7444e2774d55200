package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

func ptr[T any](v T) *T { return &v }

// arrive sends an answer through the wire.
func arrive(t *testing.T, a answer) answer {
	t.Helper()
	line := a.line()
	if n := len(line); line[n-1] != '\n' || strings.ContainsAny(string(line[:n-1]), "\r\n\x1b") {
		t.Fatalf("not one line: %q", line)
	}
	got, err := decodeAnswer(line[:len(line)-1])
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAnswersArriveAsTheyWere(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	throttle := gpu.ThrottlePower | gpu.ThrottleIdle
	for _, a := range []answer{
		{Hello: &hello{Version, "v1.2"}},
		{Number: 1, Found: &telemetry.Found{
			Devices: []gpu.Device{{ID: "GPU-1", Index: 3, VendorIndex: ptr(0), Vendor: gpu.NVIDIA, Name: "H100 \"K\"\r\n\x1b[K", PCIAddress: "0000:1a:00.0", MemoryBytes: ptr(uint64(math.MaxUint64)),
				Sources: map[string]string{"name": "nvmlDeviceGetName"}, Absent: map[string]gpu.Absence{"fan_rpm": gpu.AbsentUnsupported},
				Limits: &gpu.Limits{PowerMaxWatts: ptr(700.0)}, Partitions: []gpu.Device{{ID: "MIG-1"}}}, {ID: "GPU-2", Error: "hidden"}},
			Adapters: []gpu.Adapter{{PCIAddress: "0000:02:00.0", Name: "ASPEED"}}, Host: gpu.Host{CUDAVersion: "12.4"}, Problems: []string{"reboot"},
		}, Wedged: true},
		{Number: math.MaxUint64, Reading: &gpu.Reading{State: gpu.StateOK, UtilizationPercent: ptr(0.0), MemoryUsedBytes: ptr(uint64(1)<<63 + 1),
			Temperatures: []gpu.Temperature{{Sensor: gpu.SensorEdge, Celsius: 71.5}}, PerformanceState: ptr(0), Throttle: &throttle, Suspect: []string{"utilization_percent"}}},
		{Number: 3, Details: &gpu.Details{Time: now, EnergyJoules: ptr(1e12), Processes: []gpu.Process{}, Faults: []gpu.Fault{{Time: now, Kind: "XID", Code: 79}}}},
		{Number: 4, Details: &gpu.Details{}},
		{Number: 5, PCIe: &gpu.PCIeThroughput{ReceiveBytesPerSecond: ptr(1e9)}},
		{Number: 6, Findings: &[]telemetry.Finding{{Level: telemetry.LevelFault, Subject: "/dev/nvidia0", Text: "is missing", Mend: "nvidia-modprobe -u"}}},
		{Number: 7, Failure: &failure{gpu.StateLost, "it fell off"}, Reading: &gpu.Reading{}},
	} {
		if diff := cmp.Diff(a, arrive(t, a)); diff != "" {
			t.Errorf("changed on its way (-sent +got):\n%s", diff)
		}
	}
}

func TestErrorsKeepTheirWordsAndWhatTheyWrap(t *testing.T) {
	t.Parallel()
	all := []error{telemetry.ErrSuspended, telemetry.ErrLost, telemetry.ErrDriverMismatch, telemetry.ErrNoDriver, telemetry.ErrNoPermission, telemetry.ErrUnsupported, context.DeadlineExceeded}
	for _, sentinel := range append(all, errors.New("something else")) {
		sent := fmt.Errorf("NVIDIA device 3: %w", sentinel)
		got := arrive(t, answer{Number: 1, Failure: newFailure(sent)}).Failure.err()
		if got.Error() != sent.Error() {
			t.Errorf("got %q; want %q", got, sent)
		}
		for _, other := range all {
			if errors.Is(got, other) != (other == sentinel) {
				t.Errorf("%q is %q: %v", got, other, errors.Is(got, other))
			}
		}
	}
	if len(sentinels) != len(all) {
		t.Errorf("%d errors have a name, %d are tested", len(sentinels), len(all))
	}
	if newFailure(nil) != nil || newFailure(nil).err() != nil {
		t.Error("no error became one")
	}
}

// What a reader should not give does not silence it: the request is answered all the same.
func TestAnswersThatCanNotBePassedOn(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]answer{
		"not a number": {Number: 1, Reading: &gpu.Reading{PowerWatts: ptr(math.NaN())}},
		"too long":     {Number: 1, Found: &telemetry.Found{Problems: []string{strings.Repeat("x", maxAnswer)}}},
	} {
		got := arrive(t, a)
		if got.Number != 1 || got.Failure == nil || got.Reading != nil || got.Found != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestLinesThatAreNoAnswers(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"", "{}", "null", "[]", "7", `"x"`, "{", `{"n":1,"reading":{"power_watts":"much"}}`, `{"n":-1}`, "NVRM: hello", "\x00\x00", `{"n":1} {"n":2}`, `{"reading":{}}`} {
		if a, err := decodeAnswer([]byte(line)); err == nil {
			t.Errorf("%q became %+v", line, a)
		}
	}
	if a, err := decodeAnswer([]byte(`{"n":1,"reading":{"state":"ok"},"of a newer version":1}`)); err != nil || a.Reading == nil {
		t.Errorf("an unknown field: %+v, %v", a, err)
	}
}

// Whatever a collector prints, it is an answer whose parts can be used, or an error.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"hello":{"protocol":1,"build":"x"}}`))
	f.Add([]byte(`{"n":1,"found":{"Devices":[{"id":"GPU-1","device_id":0}]},"wedged":true}`))
	f.Add([]byte(`{"n":2,"reading":{"device_id":"cpu","state":"ok","throttle_reasons":["power"]},"failure":{"state":"lost","text":"x"}}`))
	f.Add([]byte(`{"n":3,"details":{"time":"2026-01-01T00:00:00Z","processes":null}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		a, err := decodeAnswer(line)
		if err != nil {
			return
		}
		if a.Hello == nil && a.Number == 0 {
			t.Fatalf("%+v answers nothing", a)
		}
		if err := a.Failure.err(); err != nil {
			_ = err.Error()
		}
		again, err := decodeAnswer([]byte(strings.TrimSuffix(string(a.line()), "\n")))
		if err != nil || again.Number != a.Number {
			t.Fatalf("sent on it is %+v, %v", again, err)
		}
	})
}

// Whatever is sent to a collector, every request in it is answered once, and nothing else.
func FuzzRequests(f *testing.F) {
	f.Add([]byte(`{"n":1,"do":"read","id":"a"}` + "\n" + `{"n":2,"do":"inventory"}` + "\n"))
	f.Add([]byte("garbage\n\n" + strings.Repeat("x", 2*maxRequest) + "\n" + `{"n":3,"do":"details","id":"a","ms":1}` + "\n" + `{"n":4,"do":"half`))
	f.Add([]byte(`{"n":5,"do":"nonsense"}` + "\n" + `{"n":0}` + "\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		want := map[uint64]int{}
		for line := range strings.Lines(string(stream)) {
			if r, err := decodeRequest([]byte(strings.TrimSuffix(line, "\n"))); err == nil && strings.HasSuffix(line, "\n") && len(line) <= maxRequest {
				want[r.Number]++
			}
		}
		var out strings.Builder
		if err := Serve(t.Context(), "build", still{}, nopCloser{strings.NewReader(string(stream))}, &out); err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
			var a answer
			if err := json.Unmarshal([]byte(line), &a); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if (a.Hello != nil) != (i == 0) {
				t.Fatalf("line %d is %q", i, line)
			}
			if i > 0 {
				want[a.Number]--
			}
		}
		for number, missing := range want {
			if missing != 0 {
				t.Errorf("request %d: %d answers are missing", number, missing)
			}
		}
	})
}
