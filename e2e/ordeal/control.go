package ordeal

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"muster/e2e/harness"
	"muster/shared/pool"
)

// decide says something about one of the devices. One client does that, so that what holds is the last that was acknowledged, or
// what was sent after it.
func (c *client) decide(ctx context.Context, devices []string) bool {
	if c.random.IntN(4) > 0 {
		return true
	}
	device := devices[c.random.IntN(len(devices))]
	celsius := pool.MaxCelsius - float64(c.random.IntN(4000))/100
	control := pool.Control{MaxCelsius: &celsius, Mode: []pool.Mode{pool.Active, pool.Active, pool.Paused, pool.Draining, pool.Reserved}[c.random.IntN(5)]}
	if c.random.IntN(8) == 0 {
		control = pool.Control{} // nothing is decided any more
	}
	return alive(c.decideThat(ctx, c.agent, device, control))
}

// decideThat sends a control and notes the answer.
func (l *Ledger) decideThat(ctx context.Context, agent *harness.Agent, device string, control pool.Control) (status int) {
	l.mu.Lock()
	d := l.controls[device]
	if d == nil {
		d = &decided{}
		l.controls[device] = d
	}
	d.pending = append(d.pending, control)
	l.mu.Unlock()
	l.tell(Deciding)
	status, err := agent.Do(ctx, "PUT", "/api/v1/devices/"+device+"/control", control, nil)
	l.mu.Lock()
	switch {
	case err == nil:
		d.last, d.pending = control, nil
		l.totals.Decisions++
	case status < 400 || strings.Contains(err.Error(), `"timeout"`):
	case status == http.StatusServiceUnavailable:
		d.pending = d.pending[:len(d.pending)-1] // refused: the devices are not known yet
	default:
		l.note("control of device %s: %v", device, err)
	}
	l.mu.Unlock()
	if err == nil {
		l.tell(Decided)
	}
	return status
}

// checkControls compares what the agent says about the devices with what it had acknowledged. Devices are asked for until they
// are known.
func (l *Ledger) checkControls(ctx context.Context, agent *harness.Agent) error {
	l.mu.Lock()
	expected := map[string][]pool.Control{}
	for device, d := range l.controls {
		expected[device] = append([]pool.Control{d.last}, d.pending...)
	}
	l.mu.Unlock()
	for device, allowed := range expected {
		control, err := controlOf(ctx, agent, device)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(allowed, func(c pool.Control) bool { return same(c, control) })
		if i < 0 {
			l.breach("device %s: acknowledged was %s, and it is %s", device, words(allowed[0]), words(control))
			continue
		}
		l.mu.Lock()
		l.controls[device] = &decided{last: control}
		l.mu.Unlock()
	}
	return nil
}

func controlOf(ctx context.Context, agent *harness.Agent, device string) (control pool.Control, err error) {
	for began := time.Now(); time.Since(began) < harness.StartTimeout; rest(ctx) {
		var status int
		status, err = agent.Do(ctx, "GET", "/api/v1/devices/"+device+"/control", nil, &control)
		if err == nil || status != http.StatusServiceUnavailable && status != http.StatusNotFound {
			break
		}
	}
	return control, err
}

func same(a, b pool.Control) bool {
	if a.IsZero() || b.IsZero() {
		return a.IsZero() && b.IsZero()
	}
	return words(a) == words(b)
}

func words(c pool.Control) string {
	c = c.At(time.Now())
	limit := "no limit"
	if c.MaxCelsius != nil {
		limit = fmt.Sprintf("up to %.2f °C", *c.MaxCelsius)
	}
	return fmt.Sprintf("%s, %s", c.Mode, limit)
}
