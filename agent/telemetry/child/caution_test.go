package child

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	readA, readB, readC = place{askRead, "a"}, place{askRead, "b"}, place{askRead, "c"}
	detailsA            = place{askDetails, "a"}
)

// turns begins calls that must not have to wait.
func turns(t *testing.T, c *caution, places ...place) (list []*turn) {
	t.Helper()
	for _, p := range places {
		began := time.Now()
		got, err := c.begin(t.Context(), p)
		if err != nil || time.Since(began) > 0 {
			t.Fatalf("%v waited %v: %v", p, time.Since(began), err)
		}
		list = append(list, got)
	}
	return list
}

func endAll(c *caution, list []*turn, answered bool) {
	for _, t := range list {
		c.end(t, answered)
	}
}

func TestCallsRunBesideEachOtherWhileNothingIsSuspected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCaution()
		endAll(c, turns(t, c, readA, readB, readC, readC), true)
		if len(c.turns) != 0 {
			t.Errorf("%d turns are left", len(c.turns))
		}
	})
}

func TestSuspectsRunAloneOneAfterTheOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCaution()
		inside := turns(t, c, readA, readB)
		if c.crashed(inside) {
			t.Fatal("two calls were inside, and one is blamed")
		}
		endAll(c, inside, false)
		var order []string
		for _, p := range []place{readA, readB, readC} {
			go func() {
				got, err := c.begin(t.Context(), p)
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, "begin "+p.id)
				time.Sleep(100 * time.Millisecond)
				order = append(order, "end "+p.id)
				c.end(got, true)
			}()
			synctest.Wait() // the suspects ask first
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if want := []string{"begin a", "end a", "begin b", "end b", "begin c", "end c"}; !slices.Equal(order, want) {
			t.Errorf("got %q; want %q", order, want)
		}
		endAll(c, turns(t, c, readA, readB, readC), true) // above suspicion again
	})
}

func TestSuspectThatHangsHoldsNobodyUpForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCaution()
		c.crashed(turns(t, c, readA, readB))
		c.turns = map[*turn]bool{}
		hung := turns(t, c, readA)
		began := time.Now()
		next, err := c.begin(t.Context(), readC)
		if waited := time.Since(began); err != nil || waited != patience {
			t.Errorf("the next waited %s: %v", waited, err)
		}
		c.end(next, true)
		if !c.crashed(hung) {
			t.Error("a call that was begun alone is not blamed")
		}
	})
}

// A suspect waits for hanging calls no longer than they for it; who gives up waiting holds nobody up.
func TestWaitingForATurnEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCaution()
		inside := turns(t, c, readA)
		c.crashed(inside)
		endAll(c, inside, false)
		turns(t, c, readB) // and it never ends
		short, cancel := context.WithTimeout(t.Context(), patience/2)
		defer cancel()
		if _, err := c.begin(short, readA); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		turns(t, c, readC)
		began := time.Now()
		if _, err := c.begin(t.Context(), readA); err != nil || time.Since(began) != patience {
			t.Errorf("waited %s: %v", time.Since(began), err)
		}
	})
}

func TestBlamedCallIsLeftAloneForGrowingTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCaution()
		c.crashed(turns(t, c, detailsA))
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			c.turns = map[*turn]bool{}
			if !c.crashed(turns(t, c, detailsA)) {
				t.Fatal("it is not blamed")
			}
			_, err := c.begin(t.Context(), detailsA)
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "ended the process") {
				t.Fatalf("got %v", err)
			}
			c.turns = map[*turn]bool{}
			endAll(c, turns(t, c, readA, readB), true) // the device is read all the same
			time.Sleep(want*time.Second - time.Millisecond)
			if _, err := c.begin(t.Context(), detailsA); err == nil {
				t.Fatalf("it is made again before %d s", want)
			}
			time.Sleep(time.Millisecond)
		}
		if list := c.problems("FOO"); len(list) != 1 || !strings.Contains(list[0], "the details of device a") {
			t.Errorf("problems: %q", list)
		}
		endAll(c, turns(t, c, detailsA), true)
		if list := c.problems("FOO"); len(list) != 0 {
			t.Errorf("answered, and still there: %q", list)
		}
		turns(t, c, detailsA, readA) // beside others again
	})
}

func TestInventoryIsNeverSuspected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCaution()
		c.crashed(turns(t, c, place{askInventory, ""}))
		turns(t, c, place{askInventory, ""}, readA)
	})
}
