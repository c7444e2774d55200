// Package history keeps what the devices measured: 10 minutes of everything in memory, 24 hours by 10 s and 30 days by minutes on
// disk, each as minimum, mean and maximum.
//
// Record takes snapshots and never waits. What becomes complete goes through a bounded queue to the goroutine that alone touches
// files: a disk that is full, gone or hangs costs rows, never a snapshot. Rows are written without a sync, and synced every 5
// minutes: kill -9 loses the minute that was being measured, a power cut besides what the kernel had not written yet (about half
// a minute on usual settings, 5 minutes at most).
package history

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"muster/shared/gpu"
)

// MaxDevices bounds the devices that are remembered, in memory and on disk. The one that was written longest ago makes place.
const MaxDevices = 128

// tier is one resolution on disk.
type tier struct {
	step time.Duration
	rows int    // of the ring
	name string // of the resolution, and the end of the file's name
}

// tiers are the resolutions on disk, finest first.
var tiers = [2]tier{{10 * time.Second, 8640, "10s"}, {time.Minute, 43200, "1m"}}

func (t tier) span() time.Duration { return t.step * time.Duration(t.rows) }

// slot gives the number of the stretch of time that holds t, counted from 1970.
func (t tier) slot(at time.Time) int64 {
	seconds, step := at.Unix(), int64(t.step/time.Second)
	slot := seconds / step
	if seconds%step < 0 {
		slot--
	}
	return slot
}

func (t tier) time(slot int64) time.Time { return time.Unix(slot*int64(t.step/time.Second), 0).UTC() }

// Store is the history of one machine's devices. Make it with Open. Its methods may be called from any goroutine.
type Store struct {
	interval time.Duration
	began    time.Time
	orders   chan order    // to the goroutine that touches files; nil without a folder
	reading  chan struct{} // has a place for each question that may wait for the disk
	ended    chan struct{} // closed when Run has returned
	disk     *disk

	mu      sync.Mutex
	latest  time.Time     // of the newest snapshot
	clock   time.Duration // of the newest snapshot, on the store's own clock
	devices map[string]*past
	dropped int // rows for which the queue had no place since one was taken
}

// past is what is known of one device in memory.
type past struct {
	recent   recent
	measured time.Duration // the newest measurement
	last     gpu.Reading   // that it was taken from
	open     [len(tiers)]row
}

// Open makes a store that keeps its files in that folder; with "" it keeps the last 10 minutes alone. interval is the time between
// snapshots. Nothing is read or written before Run. nil as log discards.
func Open(folder string, interval time.Duration, log *slog.Logger) (*Store, error) {
	if interval <= 0 {
		return nil, errors.New("history: the interval must be longer than nothing")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Store{interval: interval, began: time.Now(), devices: map[string]*past{}, ended: make(chan struct{})}
	if folder != "" {
		s.orders, s.reading = make(chan order, maxOrders), make(chan struct{}, maxQuestions)
		s.disk = newDisk(folder, log)
	}
	return s, nil
}

// Record notes what a snapshot holds, each measurement once: it was made the reading's age before the snapshot, and counts only when
// that is later than the last one. A snapshot that belongs to another inventory is ignored, and so is nil.
func (s *Store) Record(inventory *gpu.Inventory, snapshot *gpu.Snapshot) {
	if inventory == nil || snapshot == nil || snapshot.Revision != inventory.Revision {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(snapshot.Time)
	var complete []line
	for i := range min(len(inventory.Devices), len(snapshot.GPUs)) {
		s.note(inventory.Devices[i], snapshot.GPUs[i], &complete)
	}
	s.close(func(t tier, open *row) bool { return open.slot != t.slot(snapshot.Time) }, &complete)
	s.write(complete)
}

// clockStep is how far the time of day may run ahead of the monotonic clock between two snapshots before it counts: the machine
// slept, or the time was set.
const clockStep = 5 * time.Second

// advance moves the clock to a snapshot. It runs with the monotonic clock and never back, and takes leaps of the time of day
// forward with it: what was measured before the machine slept is not of the last minutes.
func (s *Store) advance(at time.Time) {
	if !s.latest.IsZero() {
		passed := at.Sub(s.latest)
		if leap := at.Round(0).Sub(s.latest.Round(0)); leap > passed+clockStep {
			passed = leap
		}
		s.clock += max(passed, 0)
	}
	s.latest = at
	for id, p := range s.devices {
		if s.clock-p.measured > recentWindow+recentSlack && p.open == [len(tiers)]row{} {
			delete(s.devices, id)
		}
	}
}

// note adds what one device measured, if it is news.
func (s *Store) note(d gpu.Device, r gpu.Reading, complete *[]line) {
	age := time.Duration(max(r.AgeMilliseconds, 0)) * time.Millisecond
	v, ok := valuesOf(d, &r)
	if !ok || d.ID == "" || age > recentWindow {
		return
	}
	at := s.clock - age
	p := s.devices[d.ID]
	switch {
	case p == nil && len(s.devices) >= MaxDevices:
		return
	case p == nil:
		p = &past{recent: newRecent(s.interval)}
		s.devices[d.ID] = p
	case at-p.measured < s.interval/4, at-p.measured < s.interval*9/10 && sameMeasurement(p.last, r):
		return
	}
	p.measured, p.last = at, r
	p.recent.add(measurement{at, v})
	wall := s.wall(at)
	for i, t := range tiers {
		open := &p.open[i]
		if slot := t.slot(wall); open.slot != slot {
			finish(d.ID, i, open, complete)
			open.slot = slot
		}
		open.add(v)
	}
}

// sameMeasurement says whether two readings hold the very same values: snapshots between two ticks repeat them with age 0.
func sameMeasurement(a, b gpu.Reading) bool {
	return a.UtilizationPercent == b.UtilizationPercent && a.MemoryUsedBytes == b.MemoryUsedBytes && a.PowerWatts == b.PowerWatts &&
		a.CoreClockMHz == b.CoreClockMHz && a.MemoryClockMHz == b.MemoryClockMHz && a.TemperatureCelsius() == b.TemperatureCelsius()
}

// close finishes the open rows that are done.
func (s *Store) close(done func(tier, *row) bool, complete *[]line) {
	for id, p := range s.devices {
		for i, t := range tiers {
			if done(t, &p.open[i]) {
				finish(id, i, &p.open[i], complete)
			}
		}
	}
}

// finish takes an open row, unless it is empty.
func finish(id string, tier int, open *row, complete *[]line) {
	if !open.empty() {
		*complete = append(*complete, line{id: id, tier: tier, row: *open})
	}
	*open = row{}
}

// write hands rows to the disk. When the queue is full because it hangs, they are dropped; the disk's goroutine tells how many
// once it is back.
func (s *Store) write(rows []line) {
	if len(rows) == 0 || s.orders == nil {
		return
	}
	select {
	case s.orders <- order{rows: rows, dropped: s.dropped}:
		s.dropped = 0
	default:
		if s.dropped == 0 {
			s.disk.log.Warn("the disk does not answer: history is kept in memory alone until it does", "folder", s.disk.folder)
		}
		s.dropped += len(rows)
	}
}
