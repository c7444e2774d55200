package intel

import (
	"context"
	"strconv"
	"time"

	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

const (
	// restMargin is how much longer than its delay a device is given to fall asleep; maxRest bounds the two, so that nobody
	// looks at old values for long.
	restMargin = time.Second
	maxRest    = 15 * time.Second
	// restEvery is how often one that stays awake all the same is left alone again.
	restEvery = time.Minute
)

// rest is a time in which an idle device is left alone. Whoever reads its sensors puts its sleep off: both drivers count that as
// use, and one that is read every second would never sleep again once it was awake.
type rest struct {
	until, next time.Time
	reading     gpu.Reading // what it is said to be in that time
}

// sleepDelay is how long the device with that real folder must be unused before it sleeps; 0 when it does not sleep, or so late
// that it is not worth waiting for.
func sleepDelay(t kernel.Tree, dir string) time.Duration {
	if t.PowerControl(dir) != "auto" {
		return 0
	}
	power, err := t.ResolveIn(dir, "power")
	if err != nil {
		return 0
	}
	ms, err := strconv.Atoi(t.Word(power, "autosuspend_delay_ms"))
	if delay := time.Duration(ms) * time.Millisecond; err == nil && ms > 0 && delay <= maxRest-restMargin {
		return delay
	}
	return 0
}

// resting gives the reading of a device that is left alone. Clients that came end it; looking for them touches no device.
func (c *card) resting(ctx context.Context) (gpu.Reading, bool) {
	m := c.meter
	if !m.resting.Load() {
		return gpu.Reading{}, false
	}
	clients, err := c.scanner.Clients(ctx, c.nodes)
	if err == nil && len(clients.List) == 0 && time.Now().Before(m.rest.until) {
		return m.rest.reading, true
	}
	m.resting.Store(false)
	return gpu.Reading{}, false
}

// leave begins a rest when nobody uses the device.
func (c *card) leave(s *sensors, r gpu.Reading) {
	m, now := c.meter, time.Now()
	idle := len(m.looks.clients.List) == 0 && m.looks.busy.percent != nil && *m.looks.busy.percent == 0
	if idle && s.sleepDelay > 0 && !now.Before(m.rest.next) {
		m.rest = rest{until: now.Add(s.sleepDelay + restMargin), next: now.Add(restEvery), reading: r}
		m.resting.Store(true)
	}
}
