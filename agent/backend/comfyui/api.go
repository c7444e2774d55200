package comfyui

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"muster/agent/backend/exchange"
	"muster/shared/sampler"
)

// Bounds of answers in bytes.
const (
	maxHistory = 16 << 20 // a prompt's own entry, with its graph
	maxQueue   = 64 << 20 // every prompt that waits, each with its graph
	maxInfo    = 16 << 20
	maxImage   = 64 << 20
)

// api speaks the routes of one ComfyUI. It never sends an Origin: one that differs from the Host is refused.
type api struct{ *exchange.Client }

func (a api) get(ctx context.Context, path string, limit int64, out any) error {
	return a.JSON(ctx, exchange.Call{Method: http.MethodGet, Path: path, Limit: limit}, out)
}

func (a api) post(ctx context.Context, path string, body, out any) error {
	return a.JSON(ctx, exchange.Call{Method: http.MethodPost, Path: path, Body: body, Limit: maxInfo}, out)
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)

// submission is the body of POST /prompt.
type submission struct {
	Prompt   Graph  `json:"prompt"`
	ClientID string `json:"client_id"`
	PromptID string `json:"prompt_id"`
}

// submit queues a prompt. Servers before the middle of 2025 give it an id of their own: the id that counts is returned.
func (a api) submit(ctx context.Context, s submission) (id string, err error) {
	var accepted struct {
		PromptID *string         `json:"prompt_id"`
		Error    json.RawMessage `json:"error"`
	}
	if err := a.post(ctx, "/prompt", s, &accepted); err != nil {
		return "", err
	}
	switch {
	case len(accepted.Error) > 0 && string(accepted.Error) != "null":
		return "", fmt.Errorf("%s %w: 200 with an error", a.Name(), exchange.ErrBroken)
	case accepted.PromptID == nil || !idPattern.MatchString(*accepted.PromptID):
		return "", fmt.Errorf("%s %w: a prompt without a usable id", a.Name(), exchange.ErrBroken)
	}
	return *accepted.PromptID, nil
}

// history asks for a prompt that has ended; nil when it has not, or is not known.
func (a api) history(ctx context.Context, id string) (*record, error) {
	text, err := a.Bytes(ctx, exchange.Call{Method: http.MethodGet, Path: "/history/" + id, Limit: maxHistory})
	if err != nil {
		return nil, err
	}
	r, err := parseHistory(text, id)
	if err != nil {
		return nil, fmt.Errorf("%s %w: %w", a.Name(), exchange.ErrBroken, err)
	}
	return r, nil
}

// whereabouts is where a prompt is in a server's queue.
type whereabouts int

const (
	absent whereabouts = iota // it has ended, or was never there
	waiting
	running
)

// queue says where a prompt is, and whether others are there.
func (a api) queue(ctx context.Context, id string) (at whereabouts, others bool, err error) {
	text, err := a.Bytes(ctx, exchange.Call{Method: http.MethodGet, Path: "/queue", Limit: maxQueue})
	if err != nil {
		return absent, false, err
	}
	at, others, err = parseQueue(text, id)
	if err != nil {
		return absent, false, fmt.Errorf("%s %w: %w", a.Name(), exchange.ErrBroken, err)
	}
	return at, others, nil
}

// cancel gives up a prompt, whatever its state. Servers before 2026 have no route for that: there it is taken out of the queue, and
// interrupted by its id, and only while the queue says that it is the one that runs, since the oldest would interrupt any other.
func (a api) cancel(ctx context.Context, id string) error {
	err := a.post(ctx, "/api/jobs/"+id+"/cancel", struct{}{}, nil)
	var answered *exchange.StatusError
	if err == nil || !errors.As(err, &answered) || answered.Status != http.StatusNotFound && answered.Status != http.StatusMethodNotAllowed {
		return err
	}
	if err := a.do(ctx, "/queue", map[string][]string{"delete": {id}}); err != nil {
		return err
	}
	at, _, err := a.queue(ctx, id)
	if err != nil || at != running {
		return err
	}
	return a.do(ctx, "/interrupt", map[string]string{"prompt_id": id})
}

// do posts to a route that answers without a body.
func (a api) do(ctx context.Context, path string, body any) error {
	_, err := a.Bytes(ctx, exchange.Call{Method: http.MethodPost, Path: path, Body: body, Limit: maxInfo})
	return err
}

// free has models and caches unloaded, as soon as nothing runs.
func (a api) free(ctx context.Context) error {
	return a.do(ctx, "/free", map[string]bool{"unload_models": true, "free_memory": true})
}

func (a api) stats(ctx context.Context) (stats, error) {
	var s stats
	if err := a.get(ctx, "/system_stats", maxInfo, &s); err != nil {
		return stats{}, err
	}
	if s.System.Version == "" && len(s.Devices) == 0 {
		return stats{}, fmt.Errorf("%s %w: no system_stats of ComfyUI's", a.Name(), exchange.ErrBroken)
	}
	return s, nil
}

// catalogue asks what there is: by the lists of folders, and by the nodes that load from them on servers that have no lists.
func (a api) catalogue(ctx context.Context) (catalogue, error) {
	c := catalogue{files: map[string][]string{}}
	for folder, node := range map[string]struct{ class, input string }{
		folderCheckpoints: {"CheckpointLoaderSimple", "ckpt_name"}, folderDiffusion: {"UNETLoader", "unet_name"},
		folderEncoders: {"CLIPLoader", "clip_name"}, folderVAE: {"VAELoader", "vae_name"},
	} {
		text, err := a.Bytes(ctx, exchange.Call{Method: http.MethodGet, Path: "/models/" + folder, Limit: maxInfo})
		var answered *exchange.StatusError
		if errors.As(err, &answered) && answered.Status == http.StatusNotFound {
			if c.files[folder], err = a.options(ctx, node.class, node.input); err != nil {
				return catalogue{}, err
			}
			continue
		}
		if err != nil {
			return catalogue{}, err
		}
		if c.files[folder], err = parseFiles(text); err != nil {
			return catalogue{}, fmt.Errorf("%s %w: %w", a.Name(), exchange.ErrBroken, err)
		}
	}
	var err error
	c.samplers, err = a.samplers(ctx)
	return c, err
}

// samplers asks what the node that makes steps can be told; nil when there is none.
func (a api) samplers(ctx context.Context) (*sampler.List, error) {
	names, err := a.options(ctx, "KSampler", "sampler_name")
	if err != nil || len(names) == 0 {
		return nil, err
	}
	schedules, err := a.options(ctx, "KSampler", "scheduler")
	if err != nil {
		return nil, err
	}
	return &sampler.List{Samplers: sampler.Named(names...), Schedules: sampler.Named(schedules...)}, nil
}

// options asks for the values that an input of a class of nodes takes; none when there is no such class.
func (a api) options(ctx context.Context, class, input string) ([]string, error) {
	text, err := a.Bytes(ctx, exchange.Call{Method: http.MethodGet, Path: "/object_info/" + class, Limit: maxInfo})
	if err != nil {
		return nil, err
	}
	values, err := parseOptions(text, class, input)
	if err != nil {
		return nil, fmt.Errorf("%s %w: %w", a.Name(), exchange.ErrBroken, err)
	}
	return values, nil
}

// view fetches an image, whose bytes are held once.
func (a api) view(ctx context.Context, f file, wait time.Duration) ([]byte, error) {
	query := url.Values{"filename": {f.Filename}, "subfolder": {f.Subfolder}, "type": {f.Type}}
	return a.Bytes(ctx, exchange.Call{Method: http.MethodGet, Path: "/view?" + query.Encode(), Limit: maxImage, Read: wait})
}
