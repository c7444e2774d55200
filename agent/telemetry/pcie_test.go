package telemetry

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/gpu"
)

// onlyReadings hides what a reader can do beside.
type onlyReadings struct{ Reader }

func TestPCIeThroughput(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		ref   gpu.Ref
		ready func(d *detailed, other *detailed)
		want  error
	}{
		{"measured", 0, func(*detailed, *detailed) {}, nil},
		{"unknown device", 7, func(*detailed, *detailed) {}, fs.ErrNotExist},
		{"CPU", gpu.CPU, func(*detailed, *detailed) {}, ErrUnknownDevice},
		{"no reader can", 1, func(*detailed, *detailed) {}, ErrNoThroughput},
		{"suspended", 0, func(d, _ *detailed) { d.failWith("a", ErrSuspended) }, ErrSuspended},
		{"lost", 0, func(d, _ *detailed) { d.failWith("a", ErrLost) }, ErrLost},
		{"the driver says no", 0, func(d, _ *detailed) {
			d.measureBy(func(context.Context) (gpu.PCIeThroughput, error) { return gpu.PCIeThroughput{}, ErrNoPermission })
		}, ErrNoPermission},
		{"the first driver can't, the second can", 0, func(d, _ *detailed) {
			d.measureBy(func(context.Context) (gpu.PCIeThroughput, error) { return gpu.PCIeThroughput{}, ErrUnsupported })
		}, nil},
		{"neither driver can", 0, func(d, other *detailed) {
			d.measureBy(func(context.Context) (gpu.PCIeThroughput, error) { return gpu.PCIeThroughput{}, ErrUnsupported })
			other.measureBy(d.bus)
		}, errors.ErrUnsupported},
		{"too slow", 0, func(d, _ *detailed) {
			d.measureBy(func(context.Context) (gpu.PCIeThroughput, error) {
				time.Sleep(5 * time.Second)
				return gpu.PCIeThroughput{}, nil
			})
		}, context.DeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d, other, plain := newDetailed("a"), newDetailed("a"), newFake("a", "b")
				s, stop := run(t, Config{Readers: []Reader{d, other, onlyReadings{plain}}})
				after(500 * time.Millisecond)
				tt.ready(d, other)
				after(time.Second)
				got, err := s.PCIeThroughput(t.Context(), tt.ref)
				if !errors.Is(err, tt.want) || (err == nil) != (got.ReceiveBytesPerSecond != nil) {
					t.Errorf("%+v, %v: want %v", got, err, tt.want)
				}
				after(10 * time.Second)
				stop()
				if d.overlap || other.overlap {
					t.Error("two calls for one device at once")
				}
			})
		})
	}
}

// Many who ask at once get the result of one call, and the device keeps its ticks.
func TestPCIeThroughputIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDetailed("a")
		d.measureBy(func(context.Context) (gpu.PCIeThroughput, error) {
			time.Sleep(40 * time.Millisecond)
			return gpu.PCIeThroughput{ReceiveBytesPerSecond: ptr(7.0)}, nil
		})
		s, stop := run(t, Config{Readers: []Reader{d}})
		after(500 * time.Millisecond)
		var asking sync.WaitGroup
		for range 100 {
			asking.Go(func() {
				if got, err := s.PCIeThroughput(t.Context(), 0); err != nil || *got.ReceiveBytesPerSecond != 7 {
					t.Errorf("%+v, %v", got, err)
				}
			})
		}
		asking.Wait()
		if n := d.measurements(); n != 1 {
			t.Errorf("%d calls for 100 who ask at once", n)
		}
		// One call under way at a tick: the Read comes late, and is not missed.
		after(480 * time.Millisecond)
		if _, err := s.PCIeThroughput(t.Context(), 0); err != nil {
			t.Error(err)
		}
		after(time.Second / 2)
		if got := s.Snapshot().GPUs[0]; d.count("a") != 2 || got.State != gpu.StateOK {
			t.Errorf("%d reads, %+v", d.count("a"), got)
		}
		stop()
		if d.overlap {
			t.Error("two calls for one device at once")
		}
	})
}

// A measurement that hangs makes the device stuck; who asks then is told at once, and nobody waits for ever.
func TestHungPCIeThroughput(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDetailed("a", "b")
		gate := make(chan struct{})
		d.measureBy(func(context.Context) (gpu.PCIeThroughput, error) { <-gate; return gpu.PCIeThroughput{}, nil })
		s, stop := run(t, Config{Readers: []Reader{d}})
		after(500 * time.Millisecond)
		begun := time.Now()
		if _, err := s.PCIeThroughput(t.Context(), 0); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > pcieDeadline {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		after(time.Second)
		begun = time.Now()
		if _, err := s.PCIeThroughput(t.Context(), 0); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 0 {
			t.Errorf("%v after %v: want it at once", err, time.Since(begun))
		}
		if got := s.Snapshot().GPUs; got[0].State != gpu.StateStuck || got[1].State != gpu.StateOK || got[1].AgeMilliseconds != 0 {
			t.Errorf("%+v", got)
		}
		close(gate)
		after(2 * time.Second)
		if got := s.Snapshot().GPUs[0].State; got != gpu.StateOK {
			t.Errorf("after it returned: %s", got)
		}
		stop()
		if _, err := s.PCIeThroughput(t.Context(), 0); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestPCIeThroughputBeforeTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := NewSampler(Config{})
		if _, err := s.PCIeThroughput(t.Context(), 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
