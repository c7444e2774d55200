package sdserver

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/exchange"
)

// api speaks the native asynchronous family of routes (/sdcpp/v1) of one sd-server on loopback.
type api struct{ client *exchange.Client }

func newAPI(port int, answer time.Duration) *api {
	return &api{exchange.New(exchange.Config{Name: "sd-server", Base: "http://127.0.0.1:" + strconv.Itoa(port), Answer: answer})}
}

func (a *api) close() { a.client.Close() }

// do makes one exchange and decodes its JSON into out. Errors are those of exchange.
func (a *api) do(ctx context.Context, method, path string, body, out any, want int) error {
	return a.client.JSON(ctx, exchange.Call{Method: method, Path: path, Body: body, Want: want}, out)
}

// capabilities is what /sdcpp/v1/capabilities says, as far as it is needed.
type capabilities struct {
	Model struct {
		Path string `json:"path"`
	} `json:"model"`
	Samplers  []string `json:"samplers"`
	Schedules []string `json:"schedulers"`
}

func (a *api) capabilities(ctx context.Context) (c capabilities, err error) {
	return c, a.do(ctx, http.MethodGet, "/sdcpp/v1/capabilities", nil, &c, http.StatusOK)
}

// loaded asks /v1/models; nil means that the model is in place.
func (a *api) loaded(ctx context.Context) error {
	var any struct{}
	return a.do(ctx, http.MethodGet, "/v1/models", nil, &any, http.StatusOK)
}

// order is the body of img_gen. The seed always stands in it: without one sd-server takes 42 for every image.
type order struct {
	Prompt         string       `json:"prompt"`
	NegativePrompt string       `json:"negative_prompt"`
	Width          int          `json:"width"`
	Height         int          `json:"height"`
	Seed           int64        `json:"seed"`
	BatchCount     int          `json:"batch_count"`
	SampleParams   sampleParams `json:"sample_params"`
	OutputFormat   string       `json:"output_format"`
}

type sampleParams struct {
	Method   string   `json:"sample_method,omitempty"`
	Schedule string   `json:"scheduler,omitempty"`
	Steps    int      `json:"sample_steps"`
	Guidance guidance `json:"guidance"`
}

type guidance struct {
	TextCFG   float64  `json:"txt_cfg"`
	Distilled *float64 `json:"distilled_guidance,omitempty"` // of models that have one of their own; nil for the others
}

// grid is what sd-server rounds both sides of an image up to: whole multiples of so many pixels.
const grid = 64

// side is what sd-server makes of a width or height.
func side(pixels int) int { return (pixels + grid - 1) / grid * grid }

// newOrder makes the body; sampler and schedule are sd-server's own names, "" for its defaults.
func newOrder(model backend.Model, req backend.Request, sampler, schedule string) order {
	scale, own := model.Guidance(req.Guidance)
	return order{
		Prompt: req.Prompt, NegativePrompt: req.NegativePrompt, Width: side(req.Width), Height: side(req.Height), Seed: req.Seed,
		BatchCount: 1, SampleParams: sampleParams{sampler, schedule, req.Steps, guidance{scale, own}}, OutputFormat: "png",
	}
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)

// submit sends an order and gives the id of its job.
func (a *api) submit(ctx context.Context, o order) (id string, err error) {
	var accepted struct{ ID string }
	if err := a.do(ctx, http.MethodPost, "/sdcpp/v1/img_gen", o, &accepted, http.StatusAccepted); err != nil {
		return "", err
	}
	if !idPattern.MatchString(accepted.ID) {
		return "", fmt.Errorf("sd-server %w: a job without a usable id", exchange.ErrBroken)
	}
	return accepted.ID, nil
}

// Statuses of a job.
const (
	statusQueued     = "queued"
	statusGenerating = "generating"
	statusCompleted  = "completed"
	statusFailed     = "failed"
	statusCancelled  = "cancelled"
)

// status is what a job's route says.
type status struct {
	ID     string
	Status string
	Result *struct {
		Images []struct {
			PNG []byte `json:"b64_json"`
		}
	}
	Error *struct{ Code, Message string }
}

func (s status) ended() bool {
	return s.Status == statusCompleted || s.Status == statusFailed || s.Status == statusCancelled
}

// job asks how a job is. The answer is that job's, in a known status.
func (a *api) job(ctx context.Context, id string) (status, error) {
	return a.checked(ctx, http.MethodGet, "/sdcpp/v1/jobs/"+id, nil, id)
}

// cancel gives up a queued job. A generating one can't be stopped: *exchange.StatusError with 409.
func (a *api) cancel(ctx context.Context, id string) (status, error) {
	return a.checked(ctx, http.MethodPost, "/sdcpp/v1/jobs/"+id+"/cancel", struct{}{}, id)
}

func (a *api) checked(ctx context.Context, method, path string, body any, id string) (s status, err error) {
	if err := a.do(ctx, method, path, body, &s, http.StatusOK); err != nil {
		return status{}, err
	}
	if s.ID != id {
		return status{}, fmt.Errorf("sd-server %w: another job's answer", exchange.ErrBroken)
	}
	if !s.ended() && s.Status != statusQueued && s.Status != statusGenerating {
		return status{}, fmt.Errorf("sd-server %w: unknown status %q", exchange.ErrBroken, exchange.Clean(s.Status))
	}
	return s, nil
}
