package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"muster/shared/gpu"
)

// pcieTimeout is how long a measurement of the bus may take.
const pcieTimeout = 5 * time.Second

var errNoThroughput = &refusal{status: http.StatusNotImplemented, code: "not_supported", field: "device_id", message: "nothing that reads this device can measure its PCIe throughput"}

// pcieThroughput answers GET /api/v1/devices/{id}/pcie-throughput: what moves over the bus at this moment. It is measured now,
// which takes the driver tens of milliseconds.
func (s *Server) pcieThroughput(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	ref, err := parseRef(r.PathValue("id"))
	if err != nil {
		return err
	}
	inventory := s.awaitInventory(r.Context())
	if inventory == nil {
		return errNotMeasured
	}
	if _, ok := inventory.Device(ref); !ok {
		return noDevice("device_id", ref.String())
	}
	if s.config.PCIeThroughput == nil {
		return errNoThroughput
	}
	ctx, cancel := context.WithTimeout(r.Context(), pcieTimeout)
	defer cancel()
	throughput, err := s.config.PCIeThroughput(ctx, ref)
	if err != nil {
		return s.noThroughput(ref, err)
	}
	writeJSON(w, http.StatusOK, throughput)
	return nil
}

func noDevice(field, name string) *refusal {
	return &refusal{status: http.StatusNotFound, code: "not_found", field: field, message: fmt.Sprintf("there is no device %s", cut(name))}
}

// noThroughput says why a device's bus was not measured.
func (s *Server) noThroughput(ref gpu.Ref, err error) error {
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return errNoThroughput
	case errors.Is(err, fs.ErrNotExist):
		return noDevice("device_id", ref.String())
	case errors.Is(err, context.DeadlineExceeded):
		return &refusal{status: http.StatusGatewayTimeout, code: "timeout", field: "device_id", message: "the driver did not answer in time", cause: err}
	}
	s.log.Debug("PCIe throughput", "device", ref, "error", err)
	message := "the device can't be measured now"
	if snapshot := s.config.Snapshot(); snapshot != nil && int(ref) < len(snapshot.GPUs) {
		message += ": its state is " + string(snapshot.GPUs[ref].State)
	}
	return &refusal{status: http.StatusServiceUnavailable, code: "not_now", field: "device_id", message: message, retry: 5 * time.Second}
}
