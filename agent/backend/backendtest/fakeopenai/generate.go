package fakeopenai

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"muster/agent/backend/backendtest"
)

// order is a body after the program's own defaults.
type order struct {
	prompt, negative, model, format string
	seed                            int64
	width, height, steps            int
	guidance                        float64
}

// fields are those that any of the programs read.
type fields struct {
	Prompt   string   `json:"prompt"`
	Model    string   `json:"model"`
	Size     string   `json:"size"`
	Format   string   `json:"response_format"`
	Output   string   `json:"output_format"`
	Seed     *int64   `json:"seed"`
	Step     int      `json:"step"`                // LocalAI
	Steps    int      `json:"num_inference_steps"` // vLLM-Omni, SGLang
	Guidance *float64 `json:"guidance_scale"`
	Negative string   `json:"negative_prompt"`
}

// read makes an order of a body; status is not 0 when the program refuses it.
func (s *Server) read(f fields) (o order, status int, message string) {
	o = order{prompt: f.Prompt, model: f.Model, format: "png", seed: rand.Int64N(1 << 31), steps: 20, guidance: 7}
	var ok bool
	if o.width, o.height, ok = parseSize(f.Size); !ok {
		return o, http.StatusInternalServerError, "invalid value for 'size'"
	}
	switch s.cfg.Flavour {
	case LocalAI, LocalOld:
		parts := strings.Split(f.Prompt, "|")
		if o.prompt = parts[0]; len(parts) > 1 {
			o.negative = parts[1]
		}
		if o.steps = 15; f.Step != 0 {
			o.steps = f.Step
		}
		o.guidance = 1
	case SDServer, LlamaSwap:
		return s.readExtra(o)
	case VLLM, SGLang:
		if f.Format == "url" && s.cfg.Flavour == VLLM {
			return o, http.StatusUnprocessableEntity, "Only 'b64_json' or 'file' response format is supported"
		}
		if s.cfg.Flavour == SGLang {
			o.seed = 1024
			if f.Output == "" && s.cfg.JPEG {
				o.format = "jpeg"
			}
		}
		if f.Steps != 0 {
			o.steps = f.Steps
		}
		if f.Guidance != nil {
			o.guidance = *f.Guidance
		}
		o.negative = f.Negative
	}
	if f.Seed != nil {
		o.seed = *f.Seed
	}
	if !slices.Contains(append(slices.Clone(s.cfg.Models), s.cfg.Others...), f.Model) {
		return o, http.StatusNotFound, fmt.Sprintf("The model `%s` does not exist.", f.Model)
	}
	return o, 0, ""
}

// readExtra takes what sd-server reads from within the prompt, the first of its tags alone.
func (s *Server) readExtra(o order) (order, int, string) {
	if o.prompt == "" {
		return o, http.StatusBadRequest, "prompt required"
	}
	o.seed, o.width, o.height = 42, (o.width+63)/64*64, (o.height+63)/64*64
	before, rest, found := strings.Cut(o.prompt, "<sd_cpp_extra_args>")
	if !found {
		return o, 0, ""
	}
	inner, after, _ := strings.Cut(rest, "</sd_cpp_extra_args>")
	var extra struct {
		Seed     *int64 `json:"seed"`
		Negative string `json:"negative_prompt"`
		Sample   struct {
			Steps    *int `json:"sample_steps"`
			Guidance struct {
				Text *float64 `json:"txt_cfg"`
			} `json:"guidance"`
		} `json:"sample_params"`
	}
	if err := json.Unmarshal([]byte(inner), &extra); err != nil {
		return o, http.StatusBadRequest, "invalid sd_cpp_extra_args"
	}
	o.prompt, o.negative = strings.TrimSpace(before+after), extra.Negative
	if extra.Seed != nil {
		o.seed = *extra.Seed
	}
	if extra.Sample.Steps != nil {
		o.steps = min(max(*extra.Sample.Steps, 1), 100)
	}
	if extra.Sample.Guidance.Text != nil {
		o.guidance = *extra.Sample.Guidance.Text
	}
	return o, 0, ""
}

func (s *Server) fault(job, step int, which ...backendtest.Action) (backendtest.Fault, bool) {
	for _, f := range s.cfg.Faults {
		if slices.Contains(which, f.Do) && (f.Job == 0 || f.Job == job) && (step == 0 || max(f.Step, 1) == step) {
			return f, true
		}
	}
	return backendtest.Fault{}, false
}

// generate is POST /v1/images/generations.
func (s *Server) generate(w http.ResponseWriter, r *http.Request, body []byte) {
	var f fields
	if err := json.Unmarshal(body, &f); err != nil {
		s.fail(w, http.StatusBadRequest, "invalid_request_error", "the body is no JSON")
		return
	}
	if s.stillLoading(w) {
		return
	}
	o, status, message := s.read(f)
	if status != 0 {
		s.fail(w, status, "invalid_request_error", message)
		return
	}
	select {
	case s.lock <- struct{}{}:
		defer func() { <-s.lock }()
	case <-s.quit:
		return
	}
	j := s.begin(body)
	if !s.sample(j, o, r) {
		return
	}
	s.finish(w, j, o, f)
}

// stillLoading answers 503 as LocalAI does while a model loads, until it has been asked often enough.
func (s *Server) stillLoading(w http.ResponseWriter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loading == 0 {
		return false
	}
	s.loading--
	w.Header().Set("Retry-After", "1")
	reply(w, http.StatusServiceUnavailable, map[string]any{
		"error":   map[string]any{"message": "model is staging on node gpu-box (41%, ETA ~11m)", "code": "model_loading", "type": "model_loading"},
		"loading": map[string]any{"model": "model", "state": "staging", "progress": 41},
	})
	return true
}

func (s *Server) begin(body []byte) *Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := &Job{Number: len(s.jobs) + 1}
	_ = json.Unmarshal(body, &j.Body)
	s.jobs = append(s.jobs, j)
	return j
}

// sample makes the steps; false when nobody waits any more, where the program notices.
func (s *Server) sample(j *Job, o order, r *http.Request) bool {
	var gone <-chan struct{}
	if s.cfg.Flavour != SDServer && s.cfg.Flavour != LlamaSwap {
		gone = r.Context().Done()
	}
	defer func() {
		s.mu.Lock()
		j.Ended = true
		s.mu.Unlock()
	}()
	for step := 1; step <= o.steps; step++ {
		if s.cfg.Before != nil {
			s.cfg.Before(j.Number, step)
		}
		if _, hit := s.fault(j.Number, step, backendtest.Hang); hit {
			<-s.quit
		}
		select {
		case <-s.quit:
			return false
		case <-gone:
			s.mu.Lock()
			j.Gone = true
			s.mu.Unlock()
			return false
		case <-time.After(s.cfg.Step):
		}
		s.mu.Lock()
		j.Made = step
		s.mu.Unlock()
	}
	return true
}

// finish answers with the image, spoilt as planned.
func (s *Server) finish(w http.ResponseWriter, j *Job, o order, f fields) {
	planned, _ := s.fault(j.Number, 0, backendtest.OutOfMemory, backendtest.ServerError, backendtest.BusyQueue, backendtest.Refuse, backendtest.ErrorBody,
		backendtest.Garbage, backendtest.HalfJSON, backendtest.Dropped, backendtest.Huge, backendtest.Drip, backendtest.HeldAnswer,
		backendtest.CutPNG, backendtest.DamagedPNG, backendtest.Bomb, backendtest.WrongSize, backendtest.NoImage)
	switch planned.Do {
	case backendtest.OutOfMemory:
		s.fail(w, http.StatusInternalServerError, "server_error", "CUDA out of memory. Tried to allocate 2.00 GiB")
		return
	case backendtest.ServerError:
		s.fail(w, http.StatusInternalServerError, "server_error", planned.Text)
		return
	case backendtest.BusyQueue:
		s.fail(w, http.StatusTooManyRequests, "rate_limit_exceeded", "too many requests")
		return
	case backendtest.Refuse:
		s.fail(w, http.StatusBadRequest, "invalid_request_error", planned.Text)
		return
	case backendtest.ErrorBody:
		reply(w, http.StatusOK, map[string]any{"error": map[string]any{"message": planned.Text, "type": "server_error"}})
		return
	case backendtest.WrongSize:
		o.width *= 2
	}
	file := backendtest.SpoilPNG(backendtest.Paint(backendtest.Picture{
		Prompt: o.prompt, Negative: o.negative, Model: o.model, Seed: o.seed, Width: o.width, Height: o.height, Steps: j.Made, Guidance: o.guidance, Grain: s.cfg.Grain,
	}), planned.Do)
	if o.format == "jpeg" {
		file = asJPEG(file)
	}
	data := []any{}
	if planned.Do != backendtest.NoImage {
		data = append(data, s.item(j, file, f))
	}
	text := encode(map[string]any{"created": 1775401200, "data": data, "usage": map[string]any{"total_tokens": 0}})
	if backendtest.Spoil(w, planned.Do, text, s.quit) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", fmt.Sprint(len(text)))
	_, _ = w.Write(text)
}

// item is one of the answer's data: the image itself, or where it can be fetched.
func (s *Server) item(j *Job, file []byte, f fields) map[string]any {
	local := s.cfg.Flavour == LocalAI || s.cfg.Flavour == LocalOld
	at := s.cfg.URL
	if at == "" && (!local && f.Format != "url" || f.Format == "b64_json") {
		return map[string]any{"index": 0, "b64_json": base64.StdEncoding.EncodeToString(file)}
	}
	path := fmt.Sprintf("/generated-images/b64%d.png", j.Number)
	s.mu.Lock()
	s.files[path] = file
	s.mu.Unlock()
	switch at {
	case "", "self":
		at = s.URL + path
	case "/":
		at = path
	case "data:":
		at = "data:image/png;base64," + base64.StdEncoding.EncodeToString(file)
	}
	return map[string]any{"index": 0, "url": at}
}
