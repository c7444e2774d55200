package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"muster/shared/gpu"
	"muster/shared/pool"
	"muster/shared/wire"
)

// ErrNoDevice is wrapped by the error of Config.Steer when there is no such device.
var ErrNoDevice = errors.New("no such device")

// maxTerm bounds how far ahead a decision may end by itself.
const maxTerm = 366 * 24 * time.Hour

// device finds what a path names: a device's number, "cpu", or a stable ID. The key is the stable ID, "cpu" for the processor.
func (s *Server) device(ctx context.Context, name string) (ref gpu.Ref, key string, err error) {
	if name == gpu.CPU.String() {
		return gpu.CPU, name, nil
	}
	inventory := s.awaitInventory(ctx)
	if inventory == nil {
		return 0, "", errNotMeasured
	}
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		if d, ok := inventory.Device(gpu.Ref(n)); ok {
			return d.Index, d.ID, nil
		}
	}
	for _, d := range inventory.Devices {
		if d.ID == name {
			return d.Index, d.ID, nil
		}
	}
	return 0, "", noDevice("device_id", name)
}

// setMode makes what answers POST /api/v1/devices/{id}/pause, drain, reserve and resume.
func (s *Server) setMode(mode pool.Mode) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		until, err := readTerm(w, r, mode)
		if err != nil {
			return err
		}
		now, err := s.steer(r.Context(), r.PathValue("id"), func(c pool.Control) (pool.Control, error) {
			c.Mode, c.Until = mode, until
			return c, nil
		})
		if err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, steeredDevice{now, mode != pool.Active})
		return nil
	}
}

// steeredDevice is the answer to a mode.
type steeredDevice struct {
	wire.Steered
	Paused bool `json:"paused"` // by whatever mode
}

// readTerm reads when a mode ends by itself: nothing, {"for_s"} or {"until"}. nil is when a person says so.
func readTerm(w http.ResponseWriter, r *http.Request, mode pool.Mode) (*time.Time, error) {
	if _, err := query(r); err != nil {
		return nil, err
	}
	body, err := readBody(w, r)
	if err != nil || len(bytes.TrimSpace(body)) == 0 {
		return nil, err
	}
	if mode == pool.Active {
		return nil, decodeJSON(body, &struct{}{})
	}
	return parseTerm(body, time.Now())
}

// termAsk is the body of what sets a mode: one of the two, or nothing for until a person says otherwise.
type termAsk struct {
	ForSeconds *int64     `json:"for_s"`
	Until      *time.Time `json:"until"`
}

func parseTerm(body []byte, now time.Time) (*time.Time, error) {
	var term termAsk
	if err := decodeJSON(body, &term); err != nil {
		return nil, err
	}
	if term.ForSeconds == nil {
		return term.Until, checkUntil(term.Until, now)
	}
	if term.Until != nil {
		return nil, invalid("for_s", "and until are two ends: give one of them")
	}
	const most = int64(maxTerm / time.Second)
	if n := *term.ForSeconds; n < 1 || n > most {
		return nil, invalid("for_s", "is %d; allowed is 1 to %d", n, most)
	}
	until := now.Add(time.Duration(*term.ForSeconds) * time.Second).UTC().Truncate(time.Second)
	return &until, nil
}

func checkUntil(until *time.Time, now time.Time) error {
	switch {
	case until == nil:
		return nil
	case !until.After(now):
		return invalid("until", "is %s, which is over", until.Format(time.RFC3339))
	case until.Sub(now) > maxTerm:
		return invalid("until", "is %s; allowed is a year ahead at most", until.Format(time.RFC3339))
	}
	return nil
}

// getControl answers GET /api/v1/devices/{id}/control.
func (s *Server) getControl(w http.ResponseWriter, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	_, key, err := s.device(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, s.control(key))
	return nil
}

// putControl answers PUT /api/v1/devices/{id}/control: what is not given is undone.
func (s *Server) putControl(w http.ResponseWriter, r *http.Request) error {
	return s.changeControl(w, r, func(_ pool.Control, body []byte) (c pool.Control, err error) {
		return c, decodeJSON(body, &c)
	})
}

// patchControl answers PATCH /api/v1/devices/{id}/control: what is not given stays, null undoes.
func (s *Server) patchControl(w http.ResponseWriter, r *http.Request) error {
	return s.changeControl(w, r, mergeControl)
}

func (s *Server) changeControl(w http.ResponseWriter, r *http.Request, read func(pool.Control, []byte) (pool.Control, error)) error {
	if _, err := query(r); err != nil {
		return err
	}
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	now, err := s.steer(r.Context(), r.PathValue("id"), func(c pool.Control) (pool.Control, error) { return read(c, body) })
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, now.Control)
	return nil
}

// mergeControl changes the fields of c that the body has. A mode without an end is one until a person says otherwise, whatever end
// the mode before had.
func mergeControl(c pool.Control, body []byte) (pool.Control, error) {
	var given struct {
		Mode json.RawMessage `json:"mode"`
	}
	if json.Unmarshal(body, &given) == nil && given.Mode != nil {
		c.Until = nil
	}
	return c, decodeJSON(body, &c)
}

// control is what people decided about a device, as it holds now. It shares nothing with what is kept.
func (s *Server) control(key string) pool.Control {
	c := s.config.Steering().Devices[key].At(time.Now())
	c.Until, c.MaxCelsius, c.MaxWatts = clone(c.Until), clone(c.MaxCelsius), clone(c.MaxWatts)
	return c
}

func clone[T any](v *T) *T {
	if v == nil {
		return nil
	}
	own := *v
	return &own
}

// steer makes what next makes of a device's control durable. One change follows the other, so that none is lost.
func (s *Server) steer(ctx context.Context, name string, next func(pool.Control) (pool.Control, error)) (wire.Steered, error) {
	ref, key, err := s.device(ctx, name)
	if err != nil {
		return wire.Steered{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	if err := s.steering.Acquire(ctx, 1); err != nil {
		return wire.Steered{}, err
	}
	defer s.steering.Release(1)
	c, err := next(s.control(key))
	if err == nil {
		err = c.Validate()
	}
	if err == nil {
		err = checkUntil(c.Until, time.Now())
	}
	if err != nil {
		return wire.Steered{}, err
	}
	kept, err := s.config.Steer(ctx, ref, c)
	if errors.Is(err, ErrNoDevice) {
		return wire.Steered{}, noDevice("device_id", name)
	}
	if err != nil {
		return wire.Steered{}, err
	}
	return steeredNow(s.config.Capacity(), ref, key, kept.At(time.Now())), nil
}
