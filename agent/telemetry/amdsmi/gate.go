package amdsmi

import (
	"os"
	"path/filepath"
	"sync"
	"time"

	"muster/agent/telemetry/kernel"
)

// The library opens render nodes, which wakes a sleeping card and keeps it from sleeping. So it is asked only while no card may
// sleep.

// gateInterval is how long an answer of the gate counts. A card falls asleep after seconds of idleness at the soonest.
const gateInterval = time.Second

// gate says whether a card may sleep. It may be used from several goroutines at once.
type gate struct {
	tree kernel.Tree

	mu      sync.Mutex
	cards   []card
	checked time.Time
	sleeper string // address of a card that may sleep, at the time of checked; "" for none
}

// card is an AMD card that the library would open. dir is the real path of its folder; status and control are those of its power
// files, "" when it has none.
type card struct {
	kernel.Address
	dir, status, control string
}

// rescan looks which cards there are.
func (g *gate) rescan() []card {
	cards := scan(g.tree)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cards, g.checked = cards, time.Time{}
	return cards
}

// closed gives the address of a card that may sleep, so that the library must not be asked.
func (g *gate) closed() (address string, yes bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); g.checked.IsZero() || now.Sub(g.checked) >= gateInterval {
		g.sleeper, g.checked = sleeper(g.tree, g.cards), now
	}
	return g.sleeper, g.sleeper != ""
}

// scan lists the AMD cards whose driver has render nodes. Those given to virtual machines and those without a driver have none.
func scan(t kernel.Tree) []card {
	var cards []card
	for _, d := range kernel.ScanPCI(t) {
		if d.Vendor != kernel.VendorAMD || d.Driver != "amdgpu" && d.Driver != "radeon" {
			continue
		}
		c := card{Address: d.Address, dir: d.Dir, status: t.RuntimeStatusFile(d.Dir)}
		if c.status != "" {
			c.control = filepath.Join(filepath.Dir(c.status), "control")
		}
		cards = append(cards, c)
	}
	return cards
}

// sleeper gives the address of the first card that may sleep; "" when none may.
func sleeper(t kernel.Tree, cards []card) string {
	for _, c := range cards {
		if c.maySleep(t) {
			return c.String()
		}
	}
	return ""
}

// maySleep is false for a card without runtime power management, and for one that is awake and told to stay so.
func (c card) maySleep(t kernel.Tree) bool {
	if c.status == "" {
		return false
	}
	status, err := t.Text(c.status)
	switch {
	case err != nil:
		return !os.IsNotExist(err)
	case status == "" || status == "unsupported":
		return false
	default:
		control, err := t.Text(c.control)
		return status != "active" || err != nil || control != "on"
	}
}

// Worth says whether asking AMD SMI can bring anything: the machine below root has a card that AMD's driver serves and the
// library, or a person named one; and no card may sleep, since asking would wake it. It opens no device and loads nothing.
func Worth(root, library string) bool {
	t, err := kernel.Open(root)
	if err != nil {
		return false
	}
	cards := scan(t)
	if sleeper(t, cards) != "" {
		return false
	}
	named := named(library, os.Getenv) != ""
	return named || len(cards) > 0 && len(find(t, os.Getenv)) > 0
}

// named gives the library that a person named, by configuration or environment; "" for none.
func named(library string, getenv func(string) string) string {
	if library == "" {
		library = getenv("AMDSMI_LIB")
	}
	return library
}
