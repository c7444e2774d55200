package agent

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"muster/agent/scheduler"
	"muster/agent/telemetry"
	"muster/agent/telemetry/sim"
	"muster/shared/gpu"
)

// What the sampler knows reaches the API: details, throughput on request and the past, even when the folder of the past is
// something else.
func TestTelemetryReachesTheAPI(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	if err := os.WriteFile(filepath.Join(config.Data, "history"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	machine, err := sim.Parse("2x H100, MI25")
	if err != nil {
		t.Fatal(err)
	}
	defer machine.Busy("sim-h100-0", gpu.GiB)()
	config.Interval = MinInterval
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	hardware := Hardware{Readers: []telemetry.Reader{machine}, Slots: func(gpu.Inventory) []scheduler.Slot { return nil }}
	started, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- Run(ctx, config, hardware, nil, "test", out, quiet()) }()
	if _, err := started.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, started) }()

	var report gpu.Report
	await(t, config, "/api/v1/details", &report)
	if len(report.Devices) != 3 || len(report.Devices[1].Links) != 18 || len(report.Devices[0].Processes) != 1 {
		t.Errorf("details: %+v", report)
	}
	var moved gpu.PCIeThroughput
	await(t, config, "/api/v1/devices/1/pcie-throughput", &moved)
	if moved.ReceiveBytesPerSecond == nil {
		t.Error("no throughput")
	}
	for path, want := range map[string]int{"/api/v1/devices/2/pcie-throughput": http.StatusNotImplemented, "/api/v1/devices/9/pcie-throughput": http.StatusNotFound} {
		if status := get(t, config, path, nil); status != want {
			t.Errorf("%s: status %d, want %d", path, status, want)
		}
	}
	var past struct {
		Mean []*float64 `json:"mean"`
	}
	for begun := time.Now(); len(past.Mean) == 0 && time.Since(begun) < 10*time.Second; {
		await(t, config, "/api/v1/history?device=0&metric=power_watts", &past)
	}
	if len(past.Mean) == 0 {
		t.Error("no past")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// await asks until there is an answer.
func await(t *testing.T, config Config, path string, into any) {
	t.Helper()
	for t.Context().Err() == nil {
		switch status := get(t, config, path, into); status {
		case http.StatusOK:
			return
		case http.StatusServiceUnavailable:
			<-time.After(20 * time.Millisecond)
		default:
			t.Fatalf("%s: status %d", path, status)
		}
	}
}

func get(t *testing.T, config Config, path string, into any) (status int) {
	t.Helper()
	address, err := Address(config)
	if err != nil {
		t.Fatal(err)
	}
	token, err := Token(config, false)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if into != nil && answer.StatusCode == http.StatusOK {
		if err := json.NewDecoder(answer.Body).Decode(into); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return answer.StatusCode
}
