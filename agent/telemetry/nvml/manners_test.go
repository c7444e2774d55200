//go:build cgo

package nvml

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestManners(t *testing.T) {
	t.Parallel()
	idle, busy := power{maySleep: true, idle: true}, power{maySleep: true}
	asleep, server := power{maySleep: true, sleeps: true}, power{idle: true}
	type moment struct {
		after time.Duration // since the one before
		cards []power
		used  bool
		want  deed
	}
	for name, moments := range map[string][]moment{
		"no card":              {{0, nil, false, nothing}, {time.Hour, nil, false, nothing}},
		"a server":             {{0, []power{server}, false, nothing}, {time.Hour, []power{server}, false, nothing}},
		"one that stays awake": {{0, []power{idle, server}, false, nothing}, {time.Hour, []power{idle, server}, false, nothing}},
		"one that works":       {{0, []power{idle, busy}, false, nothing}, {time.Hour, []power{idle, busy}, false, nothing}},
		"idle": {{0, []power{idle}, false, nothing}, {29 * time.Second, []power{idle}, false, nothing}, {time.Second, []power{idle}, false, disconnect},
			{time.Second, []power{idle}, false, nothing}, {time.Second, []power{asleep}, false, nothing}, {time.Hour, []power{asleep}, false, nothing},
			{time.Second, []power{busy}, false, reconnect}, {time.Second, []power{busy}, false, nothing}},
		"idle with one asleep": {{0, []power{idle, asleep}, false, nothing}, {30 * time.Second, []power{idle, asleep}, false, disconnect}},
		"idle, but used": {{0, []power{idle}, true, nothing}, {30 * time.Second, []power{idle}, true, nothing}, {29 * time.Second, []power{idle}, false, nothing},
			{time.Second, []power{idle}, false, disconnect}},
		"idle not long enough": {{0, []power{idle}, false, nothing}, {20 * time.Second, []power{busy}, false, nothing}, {20 * time.Second, []power{idle}, false, nothing},
			{29 * time.Second, []power{idle}, false, nothing}, {time.Second, []power{idle}, false, disconnect}},
		"does not fall asleep": {{0, []power{idle}, false, nothing}, {30 * time.Second, []power{idle}, false, disconnect}, {14 * time.Second, []power{idle}, false, nothing},
			{time.Second, []power{idle}, false, reconnect}, {time.Minute, []power{idle}, false, nothing}, {8 * time.Minute, []power{idle}, false, nothing},
			{time.Minute, []power{idle}, false, disconnect}},
		"one of two stays awake": {{0, []power{idle, idle}, false, nothing}, {30 * time.Second, []power{idle, idle}, false, disconnect},
			{15 * time.Second, []power{asleep, idle}, false, reconnect}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var m manners
				for i, moment := range moments {
					time.Sleep(moment.after)
					if got := m.step(time.Now(), moment.cards, func() bool { return moment.used }); got != moment.want {
						t.Fatalf("moment %d: got %v, want %v", i, got, moment.want)
					}
				}
			})
		})
	}
}

// Whatever happens, nobody is told to connect twice or to disconnect twice, and no card is kept awake that could sleep.
func FuzzManners(f *testing.F) {
	f.Add([]byte{0x03, 0x1f, 0x03, 0xff, 0x05, 0x11})
	f.Fuzz(func(t *testing.T, steps []byte) {
		var m manners
		now, connected := time.Unix(0, 0), true
		for _, b := range steps {
			now = now.Add(time.Duration(b>>3) * time.Second)
			cards := []power{{maySleep: true, idle: b&1 != 0, sleeps: b&2 != 0}}
			switch deed := m.step(now, cards, func() bool { return b&4 != 0 }); {
			case deed == disconnect && !connected, deed == reconnect && connected:
				t.Fatalf("%x: told twice", steps)
			case deed != nothing:
				connected = deed == reconnect
			}
			if connected != (m.phase == open) {
				t.Fatalf("%x: connected %v in phase %v", steps, connected, m.phase)
			}
		}
	})
}
