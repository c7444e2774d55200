package view

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/wire"
)

// generators is the programs that make the images: first those that can't, then the others in short.
type generators struct {
	app.Compo
	Page    *Page
	Version int
}

// foldedFrom is the number of generators without a problem from which they stand behind a click.
const foldedFrom = 7

// connections are the settings that connect a generator, and what each is for.
var connections = [][2]string{
	{"--sd-server PATH", "stable-diffusion.cpp: muster starts one for each device"},
	{"--comfyui http://127.0.0.1:8188", "a ComfyUI that runs already"},
	{"--comfyui-dir DIR", "an installed ComfyUI: muster starts one for each device"},
	{"--sdapi http://127.0.0.1:7860", "A1111, Forge, SD.Next or koboldcpp"},
	{"--openai http://127.0.0.1:8080", "LocalAI, vLLM-Omni or another server of OpenAI's images API"},
}

// Render shows the section.
func (g *generators) Render() app.UI {
	capacity := g.Page.state.Capacity
	if capacity == nil {
		return section("generators", "setup", heading("generators", "Generators"), el("p", "empty", nil, text("The agent has not said yet which generators it has.")))
	}
	troubled, well := sortedGenerators(capacity.Generators)
	return section("generators", "setup",
		heading("generators", "Generators", el("p", "tally", nil, text(generatorTally(len(troubled), len(well))))),
		el("ul", "entries", at{"data-count", strconv.Itoa(len(troubled))}, g.rows(troubled)...),
		g.renderWell(well),
		renderConnections(connected(capacity.Generators)))
}

// sortedGenerators parts those that a person should look at from those that work, each by device and name.
func sortedGenerators(list []wire.Generator) (troubled, well []wire.Generator) {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b wire.Generator) int {
		return cmp.Or(cmp.Compare(place(&a), place(&b)), cmp.Compare(a.ID, b.ID))
	})
	for i := range list {
		if troubledGenerator(&list[i]) {
			troubled = append(troubled, list[i])
		} else {
			well = append(well, list[i])
		}
	}
	return troubled, well
}

// place orders generators: those of devices by number, the processor's, those whose device is not known.
func place(g *wire.Generator) int {
	switch {
	case g.Device == nil:
		return 1 << 30
	case *g.Device == gpu.CPU:
		return 1 << 29
	default:
		return int(*g.Device)
	}
}

func troubledGenerator(g *wire.Generator) bool {
	switch g.State {
	case wire.GeneratorIdle, wire.GeneratorStarting, wire.GeneratorReady:
		return g.Problem != ""
	default:
		return true
	}
}

func generatorTally(troubled, well int) string {
	switch {
	case troubled+well == 0:
		return ""
	case troubled == 0:
		return strconv.Itoa(well) + " in order"
	default:
		return plural(troubled, "takes", "take") + " no work, " + strconv.Itoa(well) + " in order"
	}
}

// connected says whether there is any generator beside the built-in renderer.
func connected(list []wire.Generator) bool {
	return slices.ContainsFunc(list, func(g wire.Generator) bool { return g.Kind != "builtin" })
}

func (g *generators) rows(list []wire.Generator) []app.UI {
	rows := make([]app.UI, len(list))
	for i := range list {
		rows[i] = g.row(&list[i])
	}
	return rows
}

// renderWell shows those without a problem: many of them as one line that opens.
func (g *generators) renderWell(well []wire.Generator) app.UI {
	if len(well) < foldedFrom {
		return el("ul", "entries", nil, g.rows(well)...)
	}
	return el("details", "fold", nil,
		el("summary", "", at{"id", "generators-well"}, el("span", "", nil, text(inShort(well)))),
		el("ul", "entries", nil, g.rows(well)...))
}

// inShort counts generators by kind: "8 × sd-server on devices 0–7 · 1 × built in on CPU".
func inShort(list []wire.Generator) string {
	var kinds []string
	count, on := map[string]int{}, map[string][]gpu.Ref{}
	for i := range list {
		kind := kindName(&list[i])
		if count[kind] == 0 {
			kinds = append(kinds, kind)
		}
		count[kind]++
		if list[i].Device != nil {
			on[kind] = append(on[kind], *list[i].Device)
		}
	}
	for i, kind := range kinds {
		words := strconv.Itoa(count[kind]) + " × " + kind
		if devices := devicesText(on[kind]); devices != "" {
			words += " on " + devices
		}
		kinds[i] = words
	}
	return listed(kinds...)
}

func kindName(g *wire.Generator) string { return wire.KindTitle(g.Kind) }

func (g *generators) row(one *wire.Generator) app.UI {
	tone := "well"
	if troubledGenerator(one) {
		tone = "trouble"
	}
	return el("li", "entry", at{"data-generator", one.ID, "data-state", string(one.State), "data-tone", tone},
		el("div", "entry-body", nil,
			el("p", "entry-head", nil, el("strong", "", nil, text(generatorTitle(one))), el("span", "badge state", nil, text(generatorState(one)))),
			el("p", "entry-meta", nil, text(g.about(one))),
			el("p", "entry-meta", nil, text(seenWords(one))),
			el("p", "entry-problem", nil, text(sentenceOf(one.Problem))),
			el("p", "entry-meta", nil, text(breakerWords(one)))))
}

func generatorTitle(g *wire.Generator) string {
	switch g.Title {
	case "":
		return g.ID
	case g.Kind: // it has not said yet what it is
		return kindName(g)
	default:
		return g.Title
	}
}

// generatorState says what a generator does, in a word or two.
func generatorState(g *wire.Generator) string {
	switch g.State {
	case wire.GeneratorIdle:
		if g.Attached || g.Kind == "builtin" {
			return "idle"
		}
		return "starts when needed"
	case wire.GeneratorStarting:
		return "starting"
	case wire.GeneratorReady:
		return "running"
	case wire.GeneratorResting:
		return "resting"
	case wire.GeneratorUnreachable:
		return "does not answer"
	case wire.GeneratorUnplaced:
		return "device not known"
	case wire.GeneratorUnusable:
		return "can't be used"
	default:
		return string(g.State)
	}
}

// about says what a generator is, where it is, and what it has.
func (g *generators) about(one *wire.Generator) string {
	who := "started by muster"
	switch {
	case one.Attached:
		who = "attached: somebody else runs it"
	case one.Kind == "builtin":
		who = ""
	}
	device, models, loaded := "", plural(one.Models, "model", "models"), ""
	if one.Device != nil {
		device = one.Device.Label()
	} else if one.Kind != "builtin" {
		device = "device not known"
	}
	switch {
	case one.Models == 0 && one.State == wire.GeneratorUnreachable && one.Seen == nil:
		models = "models not known"
	case one.Models == 0:
		models = "no model"
	case one.Seen != nil:
		models = "had " + models
	}
	if one.Kind == "builtin" {
		models = ""
	}
	if one.Loaded != "" && one.Loaded != sketchModel {
		loaded = "holds " + g.Page.modelTitle(one.Loaded)
	}
	return listed(kindName(one), device, one.Address, who, models, loaded)
}

// seenWords say since when one that does not answer is away; "" for all others.
func seenWords(g *wire.Generator) string {
	if g.Seen == nil {
		return ""
	}
	return "Answered last at " + clockOr(*g.Seen, "")
}

// breakerWords say what the breaker of a generator has seen, and when it is tried again; "" while it has seen nothing.
func breakerWords(g *wire.Generator) string {
	failures, next := "", ""
	if g.Failures > 0 {
		failures = plural(g.Failures, "failure", "failures") + " in a row"
	}
	if g.RetryAt != nil {
		next = "next try at " + clockOr(*g.RetryAt, "")
	}
	return capital(listed(failures, next))
}

// renderConnections says how a generator is connected, where there is none.
func renderConnections(there bool) app.UI {
	if there {
		return nothing()
	}
	rows := make([]app.UI, len(connections))
	for i, c := range connections {
		rows[i] = el("div", "", nil, el("dt", "", nil, el("code", "", nil, text(c[0]))), el("dd", "", nil, text(c[1])))
	}
	return el("div", "connect", nil,
		el("p", "", nil, el("strong", "", nil, text("No generator is connected.")), text(" Until one is, images are sketches that no AI model made. Start muster with one of these, or write it into its configuration file:")),
		el("dl", "connect-list", nil, rows...),
		el("p", "steering-help", nil, text("Behind an address, #0 names the device that the generator works on, where muster can't find that out.")))
}

// sentenceOf makes a sentence of what the agent says of a problem; "" stays empty. A name or an address at its beginning stays as it
// is written.
func sentenceOf(words string) string {
	if words == "" {
		return ""
	}
	words = endSentence(words)
	if first, _, _ := strings.Cut(words, " "); strings.ContainsAny(first, ".:/-_0123456789") || wire.KindTitle(first) != first {
		return words
	}
	return capital(words)
}
