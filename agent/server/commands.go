package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"muster/agent/models"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/wire"
)

// commandTimeout bounds how long a command may wait for the disk.
const commandTimeout = 10 * time.Second

// submit is the one way in for generation, from HTTP and from the socket. created is false when the key was used for the same
// command before: then the jobs are as they are now. adapt may change what is made of the command once its model is known, nil for
// nothing: what was asked for stays the same whatever this machine is by then.
func (s *Server) submit(ctx context.Context, who caller, key string, spec job.Spec, adapt adapter) (jobs []job.Job, created bool, err error) {
	if len(key) > job.MaxKeyBytes {
		return nil, false, invalid("Idempotency-Key", "is %d bytes long; at most %d are allowed", len(key), job.MaxKeyBytes)
	}
	if !who.bearer {
		if wait := s.submissions.take(who.session); wait > 0 {
			return nil, false, &refusal{status: http.StatusTooManyRequests, code: "rate_limited", message: "60 submissions a minute are allowed: wait a little", retry: wait}
		}
	}
	asked := spec.WithDefaults()
	if err := asked.Validate(); err != nil {
		return nil, false, err
	}
	capacity := s.capacity(ctx)
	made, unfit := fit(asked, capacity, s.config.Inventory())
	if unfit == nil {
		made, unfit = s.settle(spec, made, adapt)
	}
	if why := s.barred(asked.Model, capacity); unfit != nil && why != "" {
		unfit = invalid("model", "%q %s", cut(asked.Model), why)
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	if made.ClientID == "" {
		made.ClientID = who.client()
	}
	if unfit == nil {
		jobs, created, err = s.config.Queue.Submit(ctx, key, asked, made)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = errNotKnown
		}
		return jobs, created, err
	}
	if key != "" { // it may have been taken when the machine was another
		if jobs, err := s.config.Queue.Submitted(ctx, key, asked); jobs != nil || err != nil {
			return jobs, false, err
		}
	}
	return nil, false, unfit
}

// errNotKnown is for a submission that the disk did not answer in time: it is taken whole or not at all.
var errNotKnown = &refusal{status: http.StatusServiceUnavailable, code: "timeout", retry: 2 * time.Second,
	message: "the disk did not answer in time, so whether it was taken is not known: send it again with the same Idempotency-Key, or look at the list of jobs"}

// errNoBackend is what a command meets where nothing can generate.
var errNoBackend = &refusal{status: http.StatusServiceUnavailable, code: "no_backend", message: "no backend can generate images on this machine: see muster doctor", retry: 30 * time.Second}

// fit chooses the model where none was named, completes the pin, and refuses models and devices that are not there. One that is
// paused, drained or reserved is: the images wait for it, and say so.
func fit(spec job.Spec, capacity wire.Capacity, inventory *gpu.Inventory) (job.Spec, error) {
	if !capacity.TakesOrders() {
		return spec, errNoBackend
	}
	field := "device_id"
	if spec.DeviceID == nil {
		field = "device_key"
	}
	spec, err := pin(spec, capacity, inventory)
	if err != nil {
		return spec, err
	}
	if spec.Model == "" {
		spec.Model = defaultModel(capacity, spec.DeviceID)
	}
	var names []string
	for _, m := range capacity.Models {
		names = append(names, m.Name)
	}
	if found, ok := modelNamed(spec.Model, capacity); ok {
		spec.Model = found
	}
	if !slices.Contains(names, spec.Model) {
		return spec, invalid("model", "%q is not here; allowed are %s%s", cut(spec.Model), strings.Join(names, ", "), mayHave(capacity))
	}
	if spec.DeviceID == nil {
		return spec, nil
	}
	slot, _ := slotOf(capacity, *spec.DeviceID)
	if !slices.Contains(slot.Models, spec.Model) {
		return spec, invalid(field, "%s has no generator for the model %q; it has %s", *spec.DeviceID, spec.Model, strings.Join(slot.Models, ", "))
	}
	return spec, nil
}

// modelNamed gives the model that a person means: by its name in any case, by its file's, or by that of the catalogue from which it was
// installed.
func modelNamed(name string, capacity wire.Capacity) (string, bool) {
	if found, ok := sdapiModel(name, capacity); ok {
		return found, true
	}
	if installed, ok := models.CatalogueModel(strings.ToLower(name)); ok {
		return sdapiModel(installed, capacity)
	}
	return "", false
}

// defaultModel gives the agent's default, or the first model of the device that was asked for when it has not that one.
func defaultModel(capacity wire.Capacity, device *gpu.Ref) string {
	if device != nil {
		if slot, ok := slotOf(capacity, *device); ok && len(slot.Models) > 0 && !slices.Contains(slot.Models, capacity.DefaultModel) {
			return slot.Models[0]
		}
	}
	if capacity.DefaultModel == "" {
		return capacity.Models[0].Name
	}
	return capacity.DefaultModel
}

// barred says why a model of the library can't be generated with, in words that go on after its name; "" when nothing is known.
func (s *Server) barred(name string, capacity wire.Capacity) string {
	if s.config.Library == nil || name == "" {
		return ""
	}
	for _, m := range s.config.Library.Library().Models {
		switch {
		case m.Name != name:
		case m.Disabled:
			return "is disabled: enable it with muster models enable, or on the page"
		case m.Problem != "":
			return "can't be used: " + m.Problem
		case m.Part != model.NoPart:
			return "makes no images by itself: it is " + m.Part.Title()
		case m.Lacks() == "", slices.ContainsFunc(capacity.Models, func(has wire.Model) bool { return has.Name == name }):
		case m.Scaled:
			return m.Lacks() + ", and no other generator here has it"
		default:
			return m.Lacks() + ": install that with muster models install, or put it into the models folder"
		}
	}
	return ""
}

// mayHave names the generators that are away, whose models are not known; "" when all are here.
func mayHave(capacity wire.Capacity) string {
	var away []string
	for _, g := range capacity.Generators {
		if g.Attached && g.Models == 0 && (g.State == wire.GeneratorStarting || g.State == wire.GeneratorUnreachable) {
			away = append(away, g.ID)
		}
	}
	if len(away) == 0 {
		return ""
	}
	return "; what " + strings.Join(away, " and ") + " has is not known while it does not answer"
}

func slotOf(capacity wire.Capacity, device gpu.Ref) (wire.Slot, bool) {
	at := slices.IndexFunc(capacity.Slots, func(slot wire.Slot) bool { return slot.Device == device })
	if at < 0 {
		return wire.Slot{}, false
	}
	return capacity.Slots[at], true
}

// cancel gives up a job. One that was cancelled before is given as it is, changed is false then: asking twice is no error.
func (s *Server) cancel(ctx context.Context, id string) (cancelled job.Job, changed bool, err error) {
	ctx, done := context.WithTimeout(ctx, commandTimeout)
	defer done()
	cancelled, err = s.config.Queue.Cancel(ctx, id)
	if !errors.Is(err, job.ErrTransition) {
		return cancelled, err == nil, err
	}
	now, lookErr := s.config.Queue.Job(ctx, id)
	switch {
	case lookErr != nil:
		return job.Job{}, false, lookErr
	case now.State == job.Cancelled:
		return now, false, nil
	default:
		return job.Job{}, false, err
	}
}
