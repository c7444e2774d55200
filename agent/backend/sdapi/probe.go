package sdapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/exchange"
	"muster/shared/model"
)

// maxList bounds a list of models, samplers or settings in bytes.
const maxList = 8 << 20

func (g *Generator) get(ctx context.Context, path string, out any) error {
	return g.client.JSON(ctx, exchange.Call{Method: http.MethodGet, Path: path, Limit: maxList}, out)
}

// probe asks the server what it is. The program is found out anew after every time that it did not answer; until then it is taken for
// the one that it was.
func (g *Generator) probe(ctx context.Context) (attach.Facts, error) {
	facts, err := g.ask(ctx)
	if err != nil {
		g.mu.Lock()
		g.doubted = true
		g.mu.Unlock()
	}
	return facts, err
}

func (g *Generator) ask(ctx context.Context) (attach.Facts, error) {
	var list []listed
	if err := g.get(ctx, "/sdapi/v1/sd-models", &list); err != nil {
		return attach.Facts{}, unusable(err)
	}
	g.mu.Lock()
	p, doubted := g.program, g.doubted
	g.mu.Unlock()
	if !p.known() || doubted {
		var err error
		if p, err = g.recognise(ctx); err != nil {
			return attach.Facts{}, err
		}
	}
	if len(list) == 0 && !p.web {
		return attach.Facts{}, fmt.Errorf("%s holds no image model: start it with one (koboldcpp: --sdmodel FILE): %w", p.name, attach.ErrUnusable)
	}
	facts := attach.Facts{Title: g.title(p), Models: models(list), Grid: p.grid, Samplers: g.choice()}
	if p.web {
		facts.MemoryBytes = g.memory(ctx)
	}
	held, away := g.held()
	for _, m := range facts.Models {
		if m.Path == held && !away || !p.web {
			facts.Loaded = m.Name
		}
	}
	return facts, nil
}

// unusable explains what a person can mend.
func unusable(err error) error {
	switch exchange.StatusOf(err) {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("it wants a user and a password (--api-auth): write them before its address, as in http://USER:PASSWORD@127.0.0.1:7860: %w", attach.ErrUnusable)
	case http.StatusNotFound:
		return fmt.Errorf("it has no /sdapi/v1: AUTOMATIC1111's web UI and Forge need to be started with --api: %w", attach.ErrUnusable)
	}
	return err
}

// recognise finds out which program answers, by a route that no other has, and what it holds.
func (g *Generator) recognise(ctx context.Context) (program, error) {
	p := a1111
	g.told(nil)
	for _, try := range []struct {
		path string
		is   program
	}{{"/sdcpp/v1/capabilities", sdserver}, {"/api/extra/version", koboldcpp}, {"/sdapi/v1/version", sdnext}, {"/sdapi/v1/sd-modules", forge}} {
		var told json.RawMessage
		err := g.get(ctx, try.path, &told)
		if err == nil {
			p = try.is
			g.told(told)
			break
		}
		if exchange.StatusOf(err) == 0 && !errors.Is(err, exchange.ErrBroken) { // a page of another program is no proof
			return program{}, err
		}
	}
	if p.web {
		if err := g.learnOptions(ctx, &p); err != nil {
			return program{}, err
		}
	} else if p.progress {
		var any progressAnswer
		p.progress = g.get(ctx, "/sdapi/v1/progress?skip_current_image=true", &any) == nil
	}
	known, err := g.learnSamplers(ctx, p)
	if err != nil {
		return program{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.program, g.samplers, g.doubted = p, known, false
	g.recognised++
	return p, nil
}

// told keeps the version that a program tells: koboldcpp's, or the day of SD.Next's. It is "" when none is told.
func (g *Generator) told(text []byte) {
	var v struct{ Version, Updated string }
	_ = json.Unmarshal(text, &v) // Forge and sd-server tell none
	g.mu.Lock()
	defer g.mu.Unlock()
	g.version = exchange.Clean(v.Version)
	if g.version == "" {
		g.version = exchange.Clean(v.Updated)
	}
}

// title is what people call the program.
func (g *Generator) title(p program) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.TrimSpace(p.name + " " + g.version)
}

// learnOptions reads the settings: what is loaded, and whether a mark can be set.
func (g *Generator) learnOptions(ctx context.Context, p *program) error {
	var o options
	if err := g.get(ctx, "/sdapi/v1/options", &o); err != nil {
		return unusable(err)
	}
	g.mu.Lock()
	g.loaded = o.Checkpoint
	g.unsure = p.name == a1111.name // what was put away before, by whomever, is not told
	g.mu.Unlock()
	p.mark = p.mark || colour.MatchString(o.Mark)
	return nil
}

// options are the settings that matter here.
type options struct {
	Checkpoint string `json:"sd_model_checkpoint"`
	Mark       string `json:"img2img_background_color"` // the key is markOption
}

var colour = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)

// memoryAnswer is /sdapi/v1/memory; all zero when the device is none of CUDA's or ROCm's.
type memoryAnswer struct {
	CUDA struct {
		System struct{ Total float64 } `json:"system"`
		Events struct {
			OOM int `json:"oom"`
		} `json:"events"`
	} `json:"cuda"`
}

// memory gives the device's whole memory in bytes, 0 when it is not told, and notes how many allocations have failed.
func (g *Generator) memory(ctx context.Context) uint64 {
	var m memoryAnswer
	if err := g.get(ctx, "/sdapi/v1/memory", &m); err != nil {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ooms = m.CUDA.Events.OOM
	if total := m.CUDA.System.Total; total > 0 && total < 1<<50 {
		return uint64(total)
	}
	return 0
}

// listed is an entry of /sdapi/v1/sd-models.
type listed struct {
	Title string `json:"title"`
	Name  string `json:"model_name"`
	File  string `json:"filename"`
	Hash  string `json:"hash"`
}

// maxModels bounds how many models of a server are used.
const maxModels = 10_000

// models names what a server lists by its file, without folder and extension; of files that share a name each has its folder in
// front. Path is the title, by which the program is asked for it.
func models(list []listed) []backend.Model {
	list = list[:min(len(list), maxModels)]
	count := map[string]int{}
	for _, l := range list {
		count[l.stem()]++
	}
	var found []backend.Model
	for _, l := range list {
		name := l.stem()
		if folder := l.folder(); count[name] > 1 && folder != "" {
			name = folder + ": " + name
		}
		if name == "" || l.Title == "" || slices.ContainsFunc(found, func(m backend.Model) bool { return m.Name == name }) {
			continue
		}
		found = append(found, backend.Model{Name: name, Title: exchange.Clean(l.Title), Family: model.FamilyOfName(l.Title), Path: l.Title})
	}
	return found
}

// stem is the file's name without folder and extension.
func (l listed) stem() string {
	name := l.File
	if name == "" {
		name = l.Name
	}
	return stem(name)
}

// folder is that of the file, the last part alone.
func (l listed) folder() string {
	dir := path.Base(path.Dir(slashes(l.File)))
	if dir == "." || dir == "/" {
		return ""
	}
	return exchange.Clean(strings.ReplaceAll(dir, ":", ""))
}

// slashes makes a path of Windows one of its folders.
func slashes(name string) string { return strings.ReplaceAll(name, `\`, "/") }

// weights are the extensions of model files.
var weights = []string{".safetensors", ".gguf", ".ckpt", ".pt", ".pth", ".bin", ".sft"}

func stem(name string) string {
	name = path.Base(slashes(name))
	if ext := strings.ToLower(path.Ext(name)); slices.Contains(weights, ext) {
		name = name[:len(name)-len(ext)]
	}
	if name == "." || name == "/" {
		return ""
	}
	return exchange.Clean(name)
}
