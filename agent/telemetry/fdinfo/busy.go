package fdinfo

// Busy gives by engine which share of the time between two looks at one device it worked for its clients, in percent of all
// engines of that kind, 0 to 100. Engines that no client has are not in it. Clients count that are in both looks: one that is
// new, or was found late, may have worked before.
func Busy(before, after Clients) map[string]float64 {
	elapsed := after.Time.Sub(before.Time)
	busy := map[string]float64{}
	if elapsed <= 0 {
		return busy
	}
	was := make(map[uint64]Client, len(before.List))
	for _, c := range before.List {
		was[c.ID] = c
	}
	for _, c := range after.List {
		old, ok := was[c.ID]
		if !ok || old.PID != c.PID {
			continue
		}
		for _, e := range c.Engines {
			if share, ok := e.share(old.Engines, float64(elapsed)); ok {
				busy[e.Name] = min(100, busy[e.Name]+share*100)
			}
		}
	}
	return busy
}

// share is the part of its capacity that the engine worked since it was one of before.
func (e Engine) share(before []Engine, nanoseconds float64) (float64, bool) {
	for _, b := range before {
		if b.Name != e.Name {
			continue
		}
		if worked, ok := advance(b.BusyNanoseconds, e.BusyNanoseconds); ok {
			return worked / nanoseconds / float64(e.Capacity), true
		}
		worked, ok1 := advance(b.Cycles, e.Cycles)
		passed, ok2 := advance(b.TotalCycles, e.TotalCycles)
		if ok1 && ok2 && passed > 0 {
			return worked / passed / float64(e.Capacity), true
		}
	}
	return 0, false
}

// advance is how far a counter went; false when it isn't there or went back.
func advance(before, after *uint64) (float64, bool) {
	if before == nil || after == nil || *after < *before {
		return 0, false
	}
	return float64(*after - *before), true
}

// Moved says whether any engine of any client worked between two looks, or a client came that has worked. false for no clients.
func Moved(before, after Clients) bool {
	was := make(map[uint64]Client, len(before.List))
	for _, c := range before.List {
		was[c.ID] = c
	}
	for _, c := range after.List {
		for _, e := range c.Engines {
			worked, known := e.share(was[c.ID].Engines, 1)
			if known && worked > 0 || !known && e.worked() {
				return true
			}
		}
	}
	return false
}

// worked says whether the engine ever did.
func (e Engine) worked() bool {
	return e.BusyNanoseconds != nil && *e.BusyNanoseconds > 0 || e.Cycles != nil && *e.Cycles > 0
}
