package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"muster/shared/gpu"
)

func TestDetails(t *testing.T) {
	t.Parallel()
	if r := newAgent(t).ask("GET", "/api/v1/details", ""); r.status != 503 || r.header.Get("Retry-After") == "" || !strings.Contains(r.message(), "not_measured") {
		t.Errorf("without reports: %d %s", r.status, r.body)
	}
	if r := newAgentOf(t, twoMI25(), twoReadings(), nil).ask("GET", "/api/v1/details", ""); r.status != 503 {
		t.Errorf("before the first: %d %s", r.status, r.body)
	}
	report := &gpu.Report{Revision: 1, Devices: []gpu.Details{
		{Processes: []gpu.Process{{PID: 7, Type: gpu.ProcessCompute, Name: "python3", MemoryBytes: p(uint64(5))}}, Absent: map[string]gpu.Absence{"ecc": gpu.AbsentUnsupported}}, {},
	}}
	a := newAgentOf(t, twoMI25(), twoReadings(), report)
	want := `{"revision":1,"devices":[{"time":"0001-01-01T00:00:00Z","processes":[{"pid":7,"type":"compute","name":"python3","memory_bytes":5}],"absent":{"ecc":"unsupported"}},{"time":"0001-01-01T00:00:00Z","processes":null}]}`
	if r := a.ask("GET", "/api/v1/details", ""); r.status != 200 || strings.TrimSpace(string(r.body)) != want {
		t.Errorf("%d %s\nwant %s", r.status, r.body, want)
	}
	if r := a.ask("GET", "/api/v1/details?device=0", ""); r.status != 400 || !strings.Contains(r.message(), "device: is not a parameter here") {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestPCIeThroughput(t *testing.T) {
	t.Parallel()
	var answer gpu.PCIeThroughput
	var failure error
	var asked gpu.Ref
	a := newAgent(t, func(c *Config) {
		c.PCIeThroughput = func(ctx context.Context, ref gpu.Ref) (gpu.PCIeThroughput, error) {
			if _, ok := ctx.Deadline(); !ok {
				t.Error("a measurement without a deadline")
			}
			asked = ref
			return answer, failure
		}
	})
	for _, tt := range []struct {
		path    string
		answer  gpu.PCIeThroughput
		failure error
		status  int
		body    string
	}{
		{"1", gpu.PCIeThroughput{ReceiveBytesPerSecond: p(12e9), TransmitBytesPerSecond: p(0.0)}, nil, 200, `{"receive_bytes_per_second":12000000000,"transmit_bytes_per_second":0}`},
		{"0", gpu.PCIeThroughput{}, nil, 200, `{"receive_bytes_per_second":null,"transmit_bytes_per_second":null}`},
		{"0", answer, fmt.Errorf("amdgpu: %w", errors.ErrUnsupported), 501, "not_supported"},
		{"0", answer, fmt.Errorf("nvml: %w", context.DeadlineExceeded), 504, "did not answer in time"},
		{"0", answer, fmt.Errorf("gone: %w", fs.ErrNotExist), 404, "there is no device 0"},
		{"0", answer, errors.New("open /dev/secret: no"), 503, "can't be measured now: its state is ok"},
		{"2", answer, nil, 404, "there is no device 2"},
		{"cpu", answer, nil, 404, "there is no device cpu"},
		{"x", answer, nil, 400, "whole number"},
		{"-1", answer, nil, 400, "whole number"},
		{"0?fast=1", answer, nil, 400, "fast"},
	} {
		answer, failure = tt.answer, tt.failure
		path, query, _ := strings.Cut(tt.path, "?")
		r := a.ask("GET", "/api/v1/devices/"+path+"/pcie-throughput?"+query, "")
		if r.status != tt.status || !strings.Contains(string(r.body), tt.body) || strings.Contains(string(r.body), "secret") {
			t.Errorf("%s, %v: %d %s, want %d %s", tt.path, tt.failure, r.status, r.body, tt.status, tt.body)
		}
		if r.status == 200 && asked.String() != tt.path {
			t.Errorf("device %s was asked instead of %s", asked, tt.path)
		}
	}
	if r := newAgent(t).ask("GET", "/api/v1/devices/0/pcie-throughput", ""); r.status != 501 {
		t.Errorf("without readers that can: %d", r.status)
	}
	if r := newAgentOf(t, nil, nil, nil).ask("GET", "/api/v1/devices/0/pcie-throughput", ""); r.status != 503 {
		t.Errorf("before the first look: %d", r.status)
	}
}
