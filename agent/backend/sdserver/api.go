package sdserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"muster/agent/backend"
)

// maxAnswer bounds an answer of sd-server in bytes: a PNG of 16 megapixels in base64 fits.
const maxAnswer = 64 << 20

// api speaks the native asynchronous family of routes (/sdcpp/v1) of one sd-server on loopback.
type api struct {
	base   string
	client http.Client
	answer time.Duration // for one exchange
}

func newAPI(port int, answer time.Duration) *api {
	return &api{
		base: "http://127.0.0.1:" + strconv.Itoa(port), answer: answer,
		client: http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
				MaxIdleConnsPerHost: 1,
				IdleConnTimeout:     2 * time.Second, // sd-server drops idle connections after 5 s
				DisableCompression:  true,
			},
		},
	}
}

func (a *api) close() { a.client.CloseIdleConnections() }

// errBroken is wrapped by the errors of answers that no sound sd-server gives: its state is unknown.
var errBroken = errors.New("sd-server answered nonsense")

// statusError is an answer with an unexpected status.
type statusError struct {
	status  int
	message string // the server's, "" for none
}

func (e *statusError) Error() string {
	if e.message == "" {
		return fmt.Sprintf("sd-server answered %d", e.status)
	}
	return fmt.Sprintf("sd-server answered %d: %s", e.status, e.message)
}

// do makes one exchange and decodes its JSON into out. Its error is a *statusError for any other status than wanted, wraps
// errBroken for nonsense, and is the transport's otherwise.
func (a *api) do(ctx context.Context, method, path string, body, out any, want int) error {
	ctx, cancel := context.WithTimeout(ctx, a.answer)
	defer cancel()
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(encoded) // its length is known: sd-server stalls 5.1 s on a POST without Content-Length
	}
	request, err := http.NewRequestWithContext(ctx, method, a.base+path, content)
	if err != nil {
		return err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	bounded := &io.LimitedReader{R: response.Body, N: maxAnswer + 1}
	if response.StatusCode != want {
		return failure(response.StatusCode, bounded)
	}
	// Read first, decode then: a flood is noticed at the speed of memory.
	text, err := io.ReadAll(bounded)
	switch {
	case bounded.N <= 0:
		return fmt.Errorf("%w: more than %d MB", errBroken, maxAnswer>>20)
	case err != nil:
		return err // the connection was dropped, or the deadline is over
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%w: %s", errBroken, cut(err.Error()))
	}
	return nil
}

// failure reads {"error":"…"} or {"error":"…","message":"…"}.
func failure(status int, body io.Reader) error {
	var said struct{ Error, Message string }
	_ = json.NewDecoder(io.LimitReader(body, 64<<10)).Decode(&said) // most have no body
	if said.Message != "" {
		said.Error += ": " + said.Message
	}
	return &statusError{status, cut(said.Error)}
}

// capabilities is what /sdcpp/v1/capabilities says, as far as it is needed.
type capabilities struct {
	Model struct {
		Path string `json:"path"`
	} `json:"model"`
	Samplers []string `json:"samplers"`
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
	Steps    int      `json:"sample_steps"`
	Guidance guidance `json:"guidance"`
}

type guidance struct {
	TextCFG float64 `json:"txt_cfg"`
}

// side is what sd-server makes of a width or height.
func side(pixels int) int { return (pixels + 63) / 64 * 64 }

func newOrder(req backend.Request, sampler string) order {
	return order{
		Prompt: req.Prompt, NegativePrompt: req.NegativePrompt, Width: side(req.Width), Height: side(req.Height), Seed: req.Seed,
		BatchCount: 1, SampleParams: sampleParams{sampler, req.Steps, guidance{req.Guidance}}, OutputFormat: "png",
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
		return "", fmt.Errorf("%w: a job without a usable id", errBroken)
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

// cancel gives up a queued job. A generating one can't be stopped: *statusError with 409.
func (a *api) cancel(ctx context.Context, id string) (status, error) {
	return a.checked(ctx, http.MethodPost, "/sdcpp/v1/jobs/"+id+"/cancel", struct{}{}, id)
}

func (a *api) checked(ctx context.Context, method, path string, body any, id string) (s status, err error) {
	if err := a.do(ctx, method, path, body, &s, http.StatusOK); err != nil {
		return status{}, err
	}
	if s.ID != id {
		return status{}, fmt.Errorf("%w: another job's answer", errBroken)
	}
	if !s.ended() && s.Status != statusQueued && s.Status != statusGenerating {
		return status{}, fmt.Errorf("%w: unknown status %q", errBroken, cut(s.Status))
	}
	return s, nil
}
