package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"muster/agent/backend"
	"muster/shared/gpu"
)

// wish is a model that a person wants in a device's memory before any image is asked for.
type wish struct {
	model  string
	device gpu.Device
	asked  time.Time
	done   chan error      // of size 1
	gone   <-chan struct{} // closed when nobody wants it any more
	why    func() error    // why so, once gone is closed
}

// Load is a model to load on an idle slot.
type Load struct {
	Slot  Slot
	Model backend.Model
	key   string
	wish  *wish
}

// maxWishes is how many models may wait to be loaded.
const maxWishes = 64

// loadLimit bounds the loading of a model that a person asked for, however large.
const loadLimit = 30 * time.Minute

// Load has a model in a device's memory when it returns. It waits for what runs there, and competes with the images that wait: the
// device takes none meanwhile. Its error says in words why it can't be, and what would help; it is the context's when that ends.
func (s *Scheduler) Load(ctx context.Context, model string, device gpu.Device) error {
	w := &wish{model: model, device: device, asked: time.Now(), done: make(chan error, 1), gone: ctx.Done(), why: ctx.Err}
	select {
	case s.asks <- w:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.gone:
		return errors.New("the agent stops")
	}
	s.Wake()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.gone:
		return errors.New("the agent stops")
	}
}

// Want takes a wish; Plan grants it when its device is free. What failed before of the same is forgotten.
func (c *Core) Want(w *wish) {
	if len(c.wishes) >= maxWishes {
		w.done <- fmt.Errorf("%d models wait to be loaded already: ask again when some of them are", len(c.wishes))
		return
	}
	c.forgetLoad(w.model, w.device.ID)
	c.wishes = append(c.wishes, w)
}

// preload grants the wishes whose devices are free, and refuses those that nothing can grant.
func (c *Core) preload(now time.Time, orders *Orders) {
	c.expireLoads(now)
	c.wishes = slices.DeleteFunc(c.wishes, func(w *wish) bool {
		select {
		case <-w.gone:
			if errors.Is(w.why(), context.DeadlineExceeded) {
				c.noteLoad(w, fmt.Errorf("the device was not free in time: it %s; ask for it again when less is to do", c.waitsFor(w)), now)
			}
			return true
		default:
		}
		load, err := c.grant(w)
		switch {
		case err != nil:
			c.noteLoad(w, err, now)
			w.done <- err
			return true
		case load == nil:
			return false
		}
		orders.Loads = append(orders.Loads, *load)
		return true
	})
}

// grant gives the order, nil while the device is not free, or why it never will be.
func (c *Core) grant(w *wish) (*Load, error) {
	if c.inventory == nil {
		return nil, nil
	}
	st := c.slotOf(w.device.ID)
	if st == nil {
		return nil, fmt.Errorf("%s has no generator: muster doctor says what is missing", c.labelOf(w.device))
	}
	name := st.Device.Index.Label()
	model, has := st.model(w.model)
	_, can := st.Backend.(backend.Loader)
	switch {
	case st.Problem != "":
		return nil, fmt.Errorf("%s can't generate: %s", name, st.Problem)
	case !has:
		return nil, fmt.Errorf("%s has no generator for the model %q: muster models lists what each has", name, w.model)
	case !can:
		return nil, fmt.Errorf("%s of %s loads a model with its first image only: ask for an image", st.Backend.Name(), name)
	case st.steeredAway() != "":
		return nil, fmt.Errorf("%s %s: ask again when it takes work (muster devices resume)", name, st.steeredAway())
	case st.state != "" && !st.state.Usable():
		return nil, fmt.Errorf("%s %s: muster doctor says what to do", name, stateWords(st.state))
	case st.current != nil || st.unloading || st.loading != nil:
		return nil, nil
	}
	if room, needs := st.room(0), model.VRAMBytes; st.loaded != w.model && room != nil && needs > *room {
		return nil, fmt.Errorf("%s has room for %s, %s needs about %s: close what else uses its memory, or choose another device or a smaller model", name, gib(*room), w.model, gib(needs))
	}
	st.loading, st.used = w, true
	st.loaded, st.holds = w.model, model.VRAMBytes // being loaded; taken back when it fails
	return &Load{Slot: st.Slot, Model: model, key: st.key, wish: w}, nil
}

// do loads it. Whoever asked may have gone since: it is loaded all the same, for half a load serves nobody.
func (l Load) do(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil { // a panic there is the backend's death, not the agent's
			err = fmt.Errorf("%s failed inside: %v: %w", l.Slot.Backend.Name(), p, backend.ErrUnavailable)
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, loadLimit, fmt.Errorf("loading took longer than %s: %w", loadLimit, backend.ErrUnavailable))
	defer cancel()
	return l.Slot.Backend.(backend.Loader).Load(ctx, l.Slot.Device, l.Model.Name)
}

// Loaded tells how loading ended.
func (c *Core) Loaded(l Load, err error, now time.Time) {
	if st := c.byKey[l.key]; st != nil && st.loading == l.wish {
		st.loading = nil
		st.idleSince = now // the load that was seen meanwhile was ours
		if err == nil {
			c.forgetLoad(l.wish.model, l.wish.device.ID)
		} else {
			st.loaded, st.holds = "", 0
			if errors.Is(err, backend.ErrUnavailable) || errors.Is(err, backend.ErrOutOfMemory) {
				st.failed(err.Error(), now)
			}
		}
	}
	if err != nil && !errors.Is(err, errShutdown) {
		err = withAdvice(err)
		c.noteLoad(l.wish, err, now)
	}
	l.wish.done <- err
}
