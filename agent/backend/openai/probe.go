package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/exchange"
	"muster/shared/model"
	"muster/shared/sampler"
)

// maxList bounds a list of models in bytes.
const maxList = 4 << 20

func (g *Generator) get(ctx context.Context, path string, out any) error {
	return g.client.JSON(ctx, exchange.Call{Method: http.MethodGet, Path: path, Limit: maxList}, out)
}

// listed is an entry of /v1/models, and of LocalAI's /v1/models/capabilities.
type listed struct {
	ID           string
	Owner        string   `json:"owned_by"`
	Capabilities []string // what it is for; nil where that is not told
}

type modelList struct{ Data []listed }

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
	var list modelList
	if err := g.get(ctx, "/v1/models", &list); err != nil {
		return attach.Facts{}, unusable(err)
	}
	g.mu.Lock()
	p, doubted := g.program, g.doubted
	g.mu.Unlock()
	if !p.known() || doubted {
		var err error
		if p, err = g.recognise(ctx, list); err != nil {
			return attach.Facts{}, err
		}
	}
	facts := attach.Facts{Title: g.title(p), Grid: p.grid, Samplers: &sampler.List{}} // the API has no word for one
	var err error
	switch p.dialect {
	case extra:
		facts.Models, err = g.heldModel(ctx, list)
		if len(facts.Models) > 0 {
			facts.Loaded = facts.Models[0].Name
		}
	case local:
		facts.Models, err = g.imageModels(ctx, list)
	default:
		facts.Models, err = g.choice(list)
	}
	return facts, err
}

// unusable explains what a person can mend.
func unusable(err error) error {
	switch exchange.StatusOf(err) {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("it wants an API key: write it before its address, as in http://:KEY@127.0.0.1:8080: %w", attach.ErrUnusable)
	case http.StatusNotFound:
		return fmt.Errorf("it has no /v1/models, so it does not speak OpenAI's API: %w", attach.ErrUnusable)
	}
	return err
}

// recognise finds out which program answers, by whose name the models stand, or by a route that no other has.
func (g *Generator) recognise(ctx context.Context, list modelList) (program, error) {
	p := unnamed
	for _, m := range list.Data {
		switch m.Owner {
		case "vllm":
			p = vllm
		case "sglang":
			p = sglang
		case "llama-swap":
			p = llamaSwap
		}
	}
	if p == unnamed {
		for _, try := range []struct {
			path string
			is   program
		}{{"/sdcpp/v1/capabilities", sdserver}, {"/v1/models/capabilities", localAI}, {"/readyz", localAI}} {
			_, err := g.client.Bytes(ctx, exchange.Call{Method: http.MethodGet, Path: try.path, Limit: maxList})
			if err == nil {
				p = try.is
				break
			}
			if exchange.StatusOf(err) == 0 && !errors.Is(err, exchange.ErrBroken) {
				return program{}, err
			}
		}
	}
	var v struct{ Version string }
	if p == localAI || p == vllm {
		_ = g.get(ctx, "/version", &v) // for people alone
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.program, g.version, g.doubted = p, exchange.Clean(v.Version), false
	return p, nil
}

// title is what people call the program.
func (g *Generator) title(p program) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.TrimSpace(p.name + " " + g.version)
}

// heldModel gives the one model of an sd-server, which /v1/models has no name for.
func (g *Generator) heldModel(ctx context.Context, list modelList) ([]backend.Model, error) {
	var c struct {
		Model struct{ Name, Stem string }
	}
	if err := g.get(ctx, "/sdcpp/v1/capabilities", &c); err != nil {
		return nil, err
	}
	id := "sd-cpp-local"
	if len(list.Data) > 0 {
		id = list.Data[0].ID
	}
	name := named(c.Model.Stem)
	if name == "" {
		name = named(id)
	}
	return []backend.Model{{Name: name, Title: name, Family: model.FamilyOfName(name), Path: id}}, nil
}

// imageModels gives those of LocalAI's that make images, where it tells.
func (g *Generator) imageModels(ctx context.Context, list modelList) ([]backend.Model, error) {
	var told modelList
	err := g.get(ctx, "/v1/models/capabilities", &told)
	if exchange.StatusOf(err) != 0 {
		return g.choice(list) // before that route
	}
	if err != nil {
		return nil, err
	}
	told.Data = slices.DeleteFunc(told.Data, func(m listed) bool { return m.Capabilities != nil && !slices.Contains(m.Capabilities, "image") })
	if slices.ContainsFunc(told.Data, func(m listed) bool { return m.Capabilities == nil }) {
		return g.choice(told) // loose files, which it knows nothing about
	}
	return models(told.Data), nil
}

// choice gives the models of a server that does not tell what they are for: the only one, or those that a person named.
func (g *Generator) choice(list modelList) ([]backend.Model, error) {
	if len(list.Data) > 1 && len(g.Config().Models) == 0 {
		return nil, fmt.Errorf("it lists %d models and does not say which of them make images: name those behind its address, as in %s?model=NAME: %w",
			len(list.Data), g.Config().Base, attach.ErrUnusable)
	}
	return models(list.Data), nil
}

// maxModels bounds how many models of a server are used.
const maxModels = 10_000

// models names what a server lists: "Qwen/Qwen-Image" is "Qwen-Image", and "Qwen: Qwen-Image" where another one has that name, too.
// Path is the id, by which the server is asked for it.
func models(list []listed) []backend.Model {
	list = list[:min(len(list), maxModels)]
	count := map[string]int{}
	for _, l := range list {
		count[named(l.ID)]++
	}
	seen := map[string]bool{}
	var found []backend.Model
	for _, l := range list {
		name := named(l.ID)
		if owner := named(path.Dir(slashes(l.ID))); count[name] > 1 && owner != "" {
			name = owner + ": " + name
		}
		if name == "" || seen[name] {
			continue
		}
		seen[name] = true
		found = append(found, backend.Model{Name: name, Title: exchange.Clean(l.ID), Family: model.FamilyOfName(l.ID), Path: l.ID})
	}
	return found
}

// slashes makes a path of Windows one of its folders.
func slashes(name string) string { return strings.ReplaceAll(name, `\`, "/") }

// weights are the extensions of model files.
var weights = []string{".safetensors", ".gguf", ".ckpt", ".bin"}

// named is the last part of an id, without a model file's extension; "" when there is none.
func named(id string) string {
	name := path.Base(slashes(id))
	if ext := strings.ToLower(path.Ext(name)); slices.Contains(weights, ext) {
		name = name[:len(name)-len(ext)]
	}
	if name == "." || name == ".." || name == "/" {
		return ""
	}
	return exchange.Clean(name)
}

// alive asks whether the server answers.
func (g *Generator) alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, g.limits.look)
	defer cancel()
	var any json.RawMessage
	err := g.get(ctx, "/v1/models", &any)
	if exchange.StatusOf(err) != 0 {
		return nil // in its way it does
	}
	return err
}
