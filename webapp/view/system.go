package view

import (
	"strconv"
	"strings"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/webapp/state"
)

// system is the banner over everything: how many devices there are, what they are together, and which software was found.
type system struct {
	app.Compo
	Page    *Page
	Version int
}

// Render shows the banner.
func (s *system) Render() app.UI {
	inventory := s.Page.state.Inventory
	if inventory == nil {
		return section("system", "system waiting",
			el("h1", "", at{"id", "system-title"}, text("Looking for devices…")),
			el("p", "system-sub", nil, text("The agent has not said yet what this machine has.")))
	}
	return section("system", "system",
		el("div", "system-head", nil,
			el("div", "", nil,
				el("h1", "", at{"id", "system-title"}, text(detected(len(inventory.Devices)))),
				el("p", "system-sub", nil, text(composition(inventory)))),
			el("div", "builds", nil, s.builds(&inventory.Host)...)),
		el("dl", "figures", nil, s.figures(inventory)...),
		s.renderBudget(len(inventory.Devices)))
}

// renderBudget stands where there are GPUs to be limited.
func (s *system) renderBudget(devices int) app.UI {
	if devices == 0 {
		return nothing()
	}
	return s.Page.renderBudget()
}

// detected is the sentence that scripts and people look for.
func detected(n int) string { return strconv.Itoa(n) + " device(s) detected" }

// composition names the devices by kind: "6 × Radeon Instinct MI25, 2 × NVIDIA H100 PCIe".
func composition(inventory *gpu.Inventory) string {
	if len(inventory.Devices) == 0 {
		return "No GPU that muster can read. Images are drawn by the CPU."
	}
	var names []string
	count := map[string]int{}
	for _, d := range inventory.Devices {
		if count[d.Name] == 0 {
			names = append(names, d.Name)
		}
		count[d.Name]++
	}
	for i, name := range names {
		names[i] = strconv.Itoa(count[name]) + " × " + name
	}
	return strings.Join(names, ", ")
}

// builds shows which PyTorch and which drivers there are. "ROCm Build" stands only where the PyTorch found is one.
func (s *system) builds(host *gpu.Host) []app.UI {
	var out, items []app.UI
	torch, badge := "not found", ""
	if host.Torch != nil {
		torch, badge = host.Torch.Version, torchBadge(host.Torch)
	}
	if badge == "ROCm" {
		out = append(out, el("div", "rocm-build", at{"id", "rocm-build"},
			el("strong", "", nil, text("ROCm Build")), el("span", "", nil, text("HIP "+host.Torch.HIP))))
	}
	for _, v := range [][3]string{
		{"PyTorch", torch, badge}, {"ROCm", host.ROCmVersion}, {"amdgpu", host.AMDGPUDriver}, {"NVIDIA", host.NVIDIADriver}, {"CUDA", host.CUDAVersion},
	} {
		if v[1] == "" {
			continue
		}
		row := []app.UI{el("dt", "", nil, text(v[0])), el("dd", "", nil, text(v[1]))}
		if v[2] != "" {
			row = append(row, el("dd", "badge stack", nil, text(v[2])))
		}
		items = append(items, el("div", "", nil, row...))
	}
	return append(out, el("dl", "versions", nil, items...))
}

func torchBadge(t *gpu.Torch) string {
	switch {
	case t.HIP != "":
		return "ROCm"
	case t.CUDA != "":
		return "CUDA"
	default:
		return "CPU"
	}
}

// figures shows the devices as one: sums, the mean, the hottest. Without devices, the machine itself.
func (s *system) figures(inventory *gpu.Inventory) []app.UI {
	words := s.Page.totals()
	if len(inventory.Devices) == 0 {
		return []app.UI{
			figure("total-cpu", "CPU in use", words.cpu, "%", cpuName(&inventory.Host)),
			figure("total-ram", "Memory in use", words.ram, "GiB", "of "+wholeGiB(inventory.Host.MemoryBytes)+" GiB"),
		}
	}
	out := []app.UI{
		figure("total-vram", "VRAM in use", words.vram, "GiB", "of "+gib(inventory.TotalMemoryBytes())+" GiB total VRAM"),
		figure("total-util", "Mean utilisation", words.utilization, "%", words.utilizationContext),
		figure("total-power", "Power", words.power, "W", ""),
		figure("total-heat", "Hottest", words.heat, "°C", ""),
	}
	return out
}

// figure is a large number with its unit, what it is, and a line of context (painted for those whose context changes).
func figure(id, label string, v value, unit, context string) app.UI {
	return el("div", "figure", nil,
		el("dt", "", nil, text(label)),
		el("dd", "", nil, measured(id, v), el("span", "unit", nil, text(" "+unit))),
		el("dd", "context", nil, el("span", "", at{"id", id + "-context"}, text(context))))
}

func cpuName(h *gpu.Host) string {
	cores := plural(h.CPUCount, "core", "cores")
	if h.CPUModel == "" {
		return cores
	}
	return h.CPUModel + ", " + cores
}

// totalWords are the figures of the banner as text.
type totalWords struct {
	vram, utilization, power, heat, cpu, ram value
	powerContext, heatContext                string
	utilizationContext                       string
}

func (p *Page) totals() totalWords {
	t := p.state.Totals()
	const why = "no device reports it"
	w := totalWords{
		vram: value{absent, why}, power: value{absent, why},
		utilization: number(t.UtilizationPercent, why), heat: number(t.HottestCelsius, why),
		cpu: value{absent, "not reported yet"}, ram: value{absent, "not reported yet"},
	}
	if t.MemoryUsedBytes != nil {
		w.vram = reported(gib(*t.MemoryUsedBytes))
	}
	if t.PowerWatts != nil {
		w.power = reported(grouped(*t.PowerWatts))
	}
	if p.state.Inventory != nil {
		w.utilizationContext = over(t.Utilized, len(p.state.Inventory.Devices))
	}
	if budget := p.state.Budget().MaxWatts; budget != nil {
		w.powerContext = "of " + grouped(*budget) + " W budget"
	} else if t.PowerLimitWatts != nil {
		w.powerContext = "of " + grouped(*t.PowerLimitWatts) + " W limit"
	}
	if t.HottestCelsius != nil {
		w.heatContext = t.Hottest.Label()
	}
	if p.state.Snapshot != nil {
		w.machine(p.state)
	}
	return w
}

// over says of how many devices a mean was taken.
func over(counted, all int) string {
	if counted == 0 || counted == all {
		return "over " + plural(all, "device", "devices")
	}
	return "over " + strconv.Itoa(counted) + " of " + plural(all, "device", "devices")
}

func (w *totalWords) machine(s state.State) {
	w.cpu = number(s.Snapshot.Host.CPUPercent, "not reported")
	if used := s.Snapshot.Host.MemoryUsedBytes; used != nil {
		w.ram = reported(gib(*used))
	}
}

func (p *Page) paintTotals(w totalWords) {
	p.paint.value("total-vram", w.vram)
	p.paint.value("total-util", w.utilization)
	p.paint.value("total-power", w.power)
	p.paint.value("total-heat", w.heat)
	p.paint.text("total-util-context", w.utilizationContext)
	p.paint.text("total-power-context", w.powerContext)
	p.paint.text("total-heat-context", w.heatContext)
	p.paint.value("total-cpu", w.cpu)
	p.paint.value("total-ram", w.ram)
}
