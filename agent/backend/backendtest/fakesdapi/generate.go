package fakesdapi

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"

	"muster/agent/backend/backendtest"
)

// order is the body of txt2img after the program's own defaults and bounds.
type order struct {
	Prompt, Negative, Task string
	Sampler, Schedule      string // Schedule is the label of one of schedulers; "" for the sampler's own
	Seed                   int64
	Width, Height, Steps   int
	Guidance               float64
	Override               map[string]any
	Keep                   bool // the overridden settings stay
	body                   map[string]any
}

// fault finds the first planned one of a job before a step; job and step 0 match every plan.
func (s *Server) fault(job, step int, which ...backendtest.Action) (backendtest.Fault, bool) {
	for _, f := range s.cfg.Faults {
		if slices.Contains(which, f.Do) && (f.Job == 0 || job == 0 || f.Job == job) && (step == 0 || max(f.Step, 1) == step) {
			return f, true
		}
	}
	return backendtest.Fault{}, false
}

// read takes a body apart; false when it has answered.
func (s *Server) read(w http.ResponseWriter, body []byte) (order, bool) {
	o := order{Seed: -1, Width: 512, Height: 512, Steps: 50, Guidance: 7}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&o.body); err != nil {
		s.fail(w, http.StatusInternalServerError, "bad_input", "server_error", "Error parsing input.")
		return o, false
	}
	var text struct {
		Prompt   *string        `json:"prompt"`
		Negative string         `json:"negative_prompt"`
		Sampler  string         `json:"sampler_name"`
		Schedule string         `json:"scheduler"`
		Task     string         `json:"force_task_id"`
		Seed     *int64         `json:"seed"`
		Width    *int           `json:"width"`
		Height   *int           `json:"height"`
		Steps    *int           `json:"steps"`
		Guidance *float64       `json:"cfg_scale"`
		Override map[string]any `json:"override_settings"`
		Restore  *bool          `json:"override_settings_restore_afterwards"`
	}
	if err := json.Unmarshal(body, &text); err != nil {
		if s.cfg.Flavour.python() {
			s.invalid(w, "width", "value is not a valid integer", "type_error.integer")
		} else {
			s.fail(w, http.StatusInternalServerError, "bad_input", "server_error", "[json.exception.type_error.302] type must be number, but is string")
		}
		return o, false
	}
	if slices.ContainsFunc(schedules, func(k scheduler) bool { return text.Schedule == k.Label && k.Name != "automatic" }) {
		o.Schedule = text.Schedule // any other is its own, without a word
	}
	o.Negative, o.Sampler, o.Task, o.Override, o.Keep = text.Negative, text.Sampler, text.Task, text.Override, text.Restore != nil && !*text.Restore
	take(&o.Prompt, text.Prompt)
	take(&o.Seed, text.Seed)
	take(&o.Width, text.Width)
	take(&o.Height, text.Height)
	take(&o.Steps, text.Steps)
	take(&o.Guidance, text.Guidance)
	return o, s.bound(w, &o)
}

func take[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// bound is what each program makes of sizes, steps and samplers; false when it has answered.
func (s *Server) bound(w http.ResponseWriter, o *order) bool {
	switch s.cfg.Flavour {
	case SDServer:
		if o.Prompt == "" {
			s.fail(w, http.StatusBadRequest, "", "prompt required", "")
			return false
		}
		if o.Width <= 0 || o.Height <= 0 {
			s.fail(w, http.StatusBadRequest, "", "width and height must be positive", "")
			return false
		}
		o.Width, o.Height, o.Steps = (o.Width+63)/64*64, (o.Height+63)/64*64, min(max(o.Steps, 1), 100)
		if _, rest, found := strings.Cut(o.Prompt, "<sd_cpp_extra_args>"); found { // it takes orders from within prompts
			inner, _, _ := strings.Cut(rest, "</sd_cpp_extra_args>")
			_ = json.Unmarshal([]byte(inner), &struct{ Seed *int64 }{&o.Seed})
		}
	case KoboldCpp, KoboldNew:
		o.Width, o.Height, o.Steps = max(o.Width/64*64, 64), max(o.Height/64*64, 64), min(max(o.Steps, 1), 80)
		o.Guidance = min(max(o.Guidance, 1), 25)
	case SDNext:
		o.Width, o.Height = o.Width/8*8, o.Height/8*8
	default:
		o.Width, o.Height = (o.Width+7)/8*8, (o.Height+7)/8*8
	}
	if o.Seed < 0 {
		o.Seed = rand.Int64N(1 << 31)
	}
	return s.pickSampler(w, o)
}

// pickSampler refuses an unknown sampler where the program does, and takes its default where it does that.
func (s *Server) pickSampler(w http.ResponseWriter, o *order) bool {
	if o.Sampler == "" {
		o.Sampler = "Euler"
		return true
	}
	for _, k := range s.known() {
		if o.Sampler == k.name || s.cfg.Flavour != A1111Old && slices.Contains(k.aliases, o.Sampler) {
			o.Sampler = k.name
			return true
		}
	}
	switch s.cfg.Flavour {
	case A1111Old, SDNext:
		s.fail(w, http.StatusNotFound, "HTTPException", "Sampler not found", "")
		return false
	}
	o.Sampler = "Euler a" // without a word
	return true
}

// textToImage is POST /sdapi/v1/txt2img.
func (s *Server) textToImage(w http.ResponseWriter, r *http.Request, body []byte) {
	o, ok := s.read(w, body)
	if !ok {
		return
	}
	s.mu.Lock()
	if s.cfg.SingleUser && s.locked {
		s.mu.Unlock()
		s.fail(w, http.StatusServiceUnavailable, "service_unavailable", "", "Server is busy; please try again later.")
		return
	}
	j := &Job{Task: o.Task, Mine: true, Body: o.body, Steps: o.Steps}
	if s.cfg.Flavour != A1111 && s.cfg.Flavour != Forge || j.Task == "" {
		j.Task = "" // the other programs know no force_task_id
	} else {
		s.pending = append(s.pending, j.Task)
	}
	s.mu.Unlock()
	if !s.lock(r) {
		return
	}
	s.begin(j, map[Flavour]string{SDNext: "API-TXT"}[s.cfg.Flavour]+map[Flavour]string{A1111: "scripts_txt2img", A1111Old: "scripts_txt2img", Forge: "scripts_txt2img"}[s.cfg.Flavour])
	restore, ok := s.override(w, j, o)
	if !ok {
		s.end(j)
		s.unlock()
		return
	}
	var gone <-chan struct{}
	if s.cfg.Flavour == KoboldNew {
		gone = r.Context().Done()
	}
	whole := s.sample(j, gone)
	restore()
	s.end(j)
	s.unlock() // the image is packed while the next job runs already
	if whole {
		s.answerImage(w, j, o)
	}
}

// override applies settings for the time of a job, and switches the model; restore takes them back. false when it has answered.
func (s *Server) override(w http.ResponseWriter, j *Job, o order) (restore func(), ok bool) {
	restore = func() {}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.cfg.Flavour.python() {
		j.Model = s.cfg.Models[0]
		return restore, true
	}
	before := map[string]any{}
	for key, value := range o.Override {
		if s.cfg.Frozen {
			continue
		}
		if _, known := s.options[key]; !known && s.cfg.Flavour != SDNext {
			s.fail(w, http.StatusInternalServerError, "KeyError", "", "'"+key+"'")
			return restore, false
		}
		if name, isText := value.(string); key == "sd_model_checkpoint" && isText {
			if _, known := s.alias(name); !known {
				continue // it takes the one that is set, without a word
			}
		}
		before[key] = s.options[key]
		s.options[key] = value
	}
	title, _ := s.options["sd_model_checkpoint"].(string)
	wanted, _ := s.alias(title)
	if f, hit := s.fault(j.Number, 0, backendtest.SwitchFails); hit {
		s.fail(w, http.StatusInternalServerError, "RuntimeError", "", f.Text)
		return restore, false
	}
	if _, hit := s.fault(j.Number, 0, backendtest.OtherModel); hit {
		wanted = "another"
	}
	if s.offline && (s.loaded == wanted || s.cfg.Flavour != A1111Old) {
		s.fail(w, http.StatusInternalServerError, "RuntimeError", "", "Expected all tensors to be on the same device, but found at least two devices, cpu and cuda:0!")
		return restore, false
	}
	s.loaded, j.Model = wanted, wanted
	if o.Keep {
		return restore, true
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for key, value := range before {
			s.options[key] = value
		}
		if s.cfg.Flavour == SDNext {
			title, _ := s.options["sd_model_checkpoint"].(string)
			s.loaded, _ = s.alias(title) // it loads the other one again at once
		}
	}, true
}
