package comfyui

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"muster/agent/backend"
	"muster/agent/backend/exchange"
	"muster/shared/job"
	"muster/shared/model"
)

// order is a graph that makes one image.
type order struct {
	graph         Graph
	output        string   // the node whose image is taken
	samplers      []string // nodes whose progress counts
	width, height int      // that the image must have; 0 for any
	// prefix is what the image's file begins with, behind its folder; "" when the workflow does not let it be set. It is made of the
	// graph: the same request gives the same file, byte for byte, although ComfyUI writes the graph into it.
	prefix string
}

// prefixFolder is the folder within ComfyUI's output folder that images are saved in.
const prefixFolder = "muster"

// check bounds what ComfyUI would refuse in words that nobody understands.
func check(req backend.Request) error {
	switch {
	case req.Steps < 1 || req.Steps > job.MaxSteps:
		return fmt.Errorf("ComfyUI is asked for 1 to %d steps, not %d", job.MaxSteps, req.Steps)
	case min(req.Width, req.Height) < 16 || max(req.Width, req.Height) > job.MaxSide:
		return fmt.Errorf("ComfyUI makes images of 16 to %d pixels a side, not %dx%d", job.MaxSide, req.Width, req.Height)
	case req.Seed < 0:
		return fmt.Errorf("seed %d: must be 0 or more", req.Seed)
	}
	return nil
}

// newOrder fills a request into the workflow of a model. try is 0 at first; a higher one has the image saved anew under another name.
func newOrder(e entry, c catalogue, req backend.Request, try int) (order, error) {
	if err := check(req); err != nil {
		return order{}, err
	}
	sampler, scheduler, err := e.sampler(c, req.Sampler)
	if err != nil {
		return order{}, err
	}
	values := map[Slot]any{
		SlotPrompt: req.Prompt, SlotNegative: req.NegativePrompt, SlotSeed: req.Seed, SlotSteps: req.Steps, SlotCFG: req.Guidance,
		SlotWidth: e.side(req.Width), SlotHeight: e.side(req.Height),
	}
	if sampler != "" {
		values[SlotSampler] = sampler
	}
	if scheduler != "" {
		values[SlotScheduler] = scheduler
	}
	w, o := e.workflow, order{}
	if w == nil {
		w = e.template.Workflow
		if o.width, o.height, err = e.fit(c, req, values); err != nil {
			return order{}, err
		}
	}
	o.graph, o.output, o.samplers = w.fill(values), w.output, w.samplers
	if e.template != nil {
		if err := e.template.allowed(o.graph); err != nil {
			return order{}, err
		}
	}
	return o, o.name(w, try)
}

// sampler translates a name that people use into ComfyUI's; "" leaves the workflow's own sampler or schedule. ComfyUI itself refuses
// what it does not know, where it does not tell before what it does.
func (e entry) sampler(c catalogue, wanted string) (sampler, schedule string, err error) {
	switch choice := e.choice(c); {
	case wanted == "" || choice == nil:
		return wanted, "", nil
	case len(choice.Samplers) == 0:
		return "", "", fmt.Errorf("the workflow %s has no place for a sampler (muster:sampler): ask for none", e.name)
	default:
		sampler, schedule, ok := choice.Find(wanted)
		if !ok {
			return "", "", fmt.Errorf("sampler %q is not known to ComfyUI: choose one of %s, or none", shorten(wanted), exchange.Clean(strings.Join(choice.Titles(), ", ")))
		}
		return sampler, schedule, nil
	}
}

// fit adds what a template needs to the values, and gives the size that is made.
func (e entry) fit(c catalogue, req backend.Request, values map[Slot]any) (width, height int, err error) {
	width, height = e.side(req.Width), e.side(req.Height)
	values[SlotModel], values[SlotWidth], values[SlotHeight] = e.file, width, height
	if model.Unguided(e.family, e.file) {
		values[SlotCFG] = 1.0
	}
	for _, need := range e.template.needs {
		file, err := need.choose(c.files[need.folder])
		if err != nil {
			return 0, 0, fmt.Errorf("model %q can't be used yet: %w", e.name, err)
		}
		values[need.slot] = file
	}
	return width, height, nil
}

// name gives the image's file its name.
func (o *order) name(w *Workflow, try int) error {
	if !w.has(SlotPrefix) {
		return nil
	}
	o.setPrefix(w, "")
	text, err := json.Marshal(o.graph)
	if err != nil {
		return fmt.Errorf("write the graph: %w", err)
	}
	sum := sha256.Sum256(text)
	o.prefix = hex.EncodeToString(sum[:12])
	if try > 0 {
		o.prefix += "-" + strconv.Itoa(try)
	}
	o.setPrefix(w, prefixFolder+"/"+o.prefix)
	return nil
}

func (o *order) setPrefix(w *Workflow, prefix string) {
	for _, at := range w.slots[SlotPrefix] {
		o.graph[at.node].Inputs[at.input] = prefix
	}
}

// warmUp makes the order load its model, with as little else as can be, and leave no file behind.
func (o *order) warmUp() {
	n := o.graph[o.output]
	n.Class = "PreviewImage"
	delete(n.Inputs, "filename_prefix")
	o.prefix = ""
}

// newUUID gives a random UUID in the one form that ComfyUI takes for a prompt's id: lower case, with hyphens.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
