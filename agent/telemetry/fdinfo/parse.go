package fdinfo

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"muster/agent/telemetry/kernel"
)

// maxBytes is beyond every real memory: a larger number is a fault of the driver.
const maxBytes = 1 << 50

// parse reads one fdinfo file; false when it is not a DRM device's. Lines that it does not know are skipped.
func parse(text []byte) (c Client, id identity, ok bool) {
	for line := range bytes.Lines(text) {
		key, value, found := strings.Cut(string(line), ":")
		if !found {
			continue
		}
		value = strings.TrimSpace(value)
		switch {
		case key == "drm-driver":
			c.Driver, ok = value, value != ""
		case key == "drm-pdev":
			c.Address, c.OnPCI = kernel.ParseAddress(value)
		case key == "drm-client-id":
			if v, ok := parseCount(value); ok {
				id = identity{numbered: true, id: v}
			}
		case strings.HasPrefix(key, "drm-"):
			c.measure(key, value)
		default:
			ok = c.parseOld(&id, key, value) || ok
		}
	}
	if !ok {
		return Client{}, identity{}, false
	}
	if !id.numbered {
		id = identity{}
	}
	c.ID = id.id
	return c, id, true
}

// measures are the lines of engines and memory regions by prefix, longer ones first: an engine is not called "capacity-render",
// nor a region "cycles-rcs".
var measures = []struct {
	prefix string
	take   func(c *Client, name, value string)
}{
	{"drm-engine-capacity-", func(c *Client, name, value string) {
		if v, ok := parseCount(value); ok && v > 0 {
			c.engine(name).Capacity = v
		}
	}},
	{"drm-engine-", func(c *Client, name, value string) {
		setCount(&c.engine(name).BusyNanoseconds, strings.TrimSuffix(value, " ns"))
	}},
	{"drm-total-cycles-", func(c *Client, name, value string) { setCount(&c.engine(name).TotalCycles, value) }},
	{"drm-cycles-", func(c *Client, name, value string) { setCount(&c.engine(name).Cycles, value) }},
	{"drm-maxfreq-", func(c *Client, name, value string) { c.engine(name).MaxMHz = parseMHz(value) }},
	{"drm-total-", func(c *Client, name, value string) { setSize(&c.region(name).TotalBytes, value) }},
	{"drm-resident-", func(c *Client, name, value string) { setSize(&c.region(name).ResidentBytes, value) }},
	{"drm-memory-", func(c *Client, name, value string) {
		if r := c.region(name); r.ResidentBytes == nil {
			setSize(&r.ResidentBytes, value)
		}
	}},
}

// measure takes a line of an engine or of a memory region.
func (c *Client) measure(key, value string) {
	for _, m := range measures {
		if name, ok := strings.CutPrefix(key, m.prefix); ok && name != "" {
			m.take(c, name, value)
			return
		}
	}
}

// parseOld takes a line as amdgpu wrote them before Linux 5.19; false for one that shows no DRM device.
func (c *Client) parseOld(id *identity, key, value string) bool {
	switch key {
	case "pdev":
		c.Driver = "amdgpu"
		c.Address, c.OnPCI = kernel.ParseAddress(value)
		return c.OnPCI
	case "pasid":
		// Newer kernels write it beside the client's number, which goes before it; 0 is nobody's.
		if v, ok := parseCount(value); ok && v > 0 && !id.numbered {
			*id = identity{numbered: true, id: v}
		}
	case "vram mem", "gtt mem", "cpu mem":
		setSize(&c.region(strings.TrimSuffix(key, " mem")).ResidentBytes, value)
	}
	return false
}

func (c *Client) engine(name string) *Engine {
	i := slices.IndexFunc(c.Engines, func(e Engine) bool { return e.Name == name })
	if i < 0 {
		i = len(c.Engines)
		c.Engines = append(c.Engines, Engine{Name: name, Capacity: 1})
	}
	return &c.Engines[i]
}

func (c *Client) region(name string) *Region {
	i := slices.IndexFunc(c.Regions, func(r Region) bool { return r.Name == name })
	if i < 0 {
		i = len(c.Regions)
		c.Regions = append(c.Regions, Region{Name: name})
	}
	return &c.Regions[i]
}

func parseCount(s string) (uint64, bool) {
	v, err := strconv.ParseUint(s, 10, 64)
	return v, err == nil
}

func setCount(to **uint64, s string) {
	if v, ok := parseCount(s); ok {
		*to = &v
	}
}

// setSize reads "1024", "1024 KiB", "1 MiB" or, of old amdgpu, "1024 kB", which means KiB too.
func setSize(to **uint64, s string) {
	number, unit, _ := strings.Cut(s, " ")
	factor := uint64(0)
	switch strings.TrimSpace(unit) {
	case "":
		factor = 1
	case "KiB", "kB":
		factor = 1 << 10
	case "MiB":
		factor = 1 << 20
	case "GiB":
		factor = 1 << 30
	default:
		return
	}
	if v, ok := parseCount(number); ok && v <= maxBytes/factor {
		v *= factor
		*to = &v
	}
}

// parseMHz reads "1200 MHz"; without a unit it is Hz. 0 when it is neither.
func parseMHz(s string) float64 {
	number, unit, _ := strings.Cut(s, " ")
	v, ok := parseCount(number)
	if !ok {
		return 0
	}
	switch strings.TrimSpace(unit) {
	case "", "Hz":
		return float64(v) / 1e6
	case "KHz":
		return float64(v) / 1e3
	case "MHz":
		return float64(v)
	default:
		return 0
	}
}
