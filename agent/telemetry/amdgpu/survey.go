package amdgpu

import (
	"context"
	"time"

	"muster/shared/gpu"
)

// surveyAll finds the files and facts of all cards at once. Some of it waits for a card's firmware: a card that does not answer in
// time keeps what was known of it, and its own Reads find out the rest. before are the cards of the last inventory.
func surveyAll(ctx context.Context, cards []*card, before map[string]*card, patience time.Duration) {
	done := make(chan any, len(cards))
	begun := 0
	for _, c := range cards {
		if c.beginSurvey(before[c.device.ID], done) {
			begun++
		}
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	for ; begun > 0; begun-- {
		select {
		case failure := <-done:
			if failure != nil {
				panic(failure) // the caller of Inventory guards itself against panics, but of its own goroutine only
			}
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// beginSurvey carries over what the last inventory knew of the card, and surveys it anew unless it sleeps. false when there is
// nothing to wait for. At most one survey of a card is under way, however long it takes.
func (c *card) beginSurvey(old *card, done chan<- any) bool {
	c.track = &track{}
	if old != nil {
		c.track = old.track
		c.fromMetrics.Store(old.fromMetrics.Load())
		c.tellsProcesses.Store(old.tellsProcesses.Load())
		if old.dir == c.dir {
			c.sensors.Store(old.sensors.Load())
		}
	}
	p := newProbe(c.tree)
	defer p.release()
	c.awake = !c.asleep(p)
	if c.dir == "" || !c.awake || !c.track.surveying.CompareAndSwap(false, true) {
		return false
	}
	go func() {
		defer func() {
			c.track.surveying.Store(false)
			done <- recover()
		}()
		c.resurvey()
	}()
	return true
}

// describeFacts fills what the driver tells of the device only while it is awake.
func (c *card) describeFacts() {
	s := c.sensors.Load()
	if s != nil {
		d := &c.device
		d.Limits, d.FirmwareVersion, d.SerialNumber, d.PartitionMode = s.limits, s.firmware, s.serial, s.partitionMode
		return
	}
	if c.dir == "" {
		return
	}
	why := gpu.AbsentAsleep
	if c.awake {
		why = gpu.AbsentTimedOut
	}
	for _, field := range []string{"limits", "firmware_version", "serial_number"} {
		c.absent(field, why)
	}
}
