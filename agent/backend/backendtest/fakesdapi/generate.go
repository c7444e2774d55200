package fakesdapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"muster/agent/backend/backendtest"
)

// order is the body of txt2img after the program's own defaults and bounds.
type order struct {
	Prompt, Negative, Sampler, Task string
	Seed                            int64
	Width, Height, Steps            int
	Guidance                        float64
	Override                        map[string]any
	Keep                            bool // the overridden settings stay
	body                            map[string]any
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

// lock waits for its turn, first come first served. A koboldcpp of today and r given up end the wait.
func (s *Server) lock(r *http.Request) bool {
	s.mu.Lock()
	if !s.locked {
		s.locked = true
		s.mu.Unlock()
		return true
	}
	turn := make(chan struct{})
	s.waiting = append(s.waiting, turn)
	s.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-s.quit:
		return false
	}
}

func (s *Server) unlock() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		s.locked = false
		return
	}
	close(s.waiting[0])
	s.waiting = s.waiting[1:]
}

// begin makes a job the one that runs. The caller has the lock.
func (s *Server) begin(j *Job, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.Number = len(s.jobs) + 1
	s.jobs = append(s.jobs, j)
	s.pending = slices.DeleteFunc(s.pending, func(id string) bool { return id == j.Task })
	s.current = j.Task
	stamp := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(j.Number) * time.Second)
	j.stamp = stamp.Format("20060102150405")
	s.state = state{job: name, jobCount: 1, timestamp: j.stamp, steps: j.Steps, begun: time.Now(), running: j}
	if s.cfg.Flavour == SDNext {
		s.state.id = fmt.Sprintf("%015x", j.Number)
	}
}

func (s *Server) end(j *Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j.Ended = true
	if s.current == j.Task {
		s.current = ""
	}
	s.finished = append(s.finished, j.Task)
	if len(s.finished) > 16 {
		s.finished = s.finished[1:]
	}
	s.state.job, s.state.jobCount, s.state.id, s.state.running = "", 0, "", nil
}

// Occupy runs somebody else's job of so many steps, made in the program's own page, until it has made them or is interrupted.
func (s *Server) Occupy(steps int) (done <-chan struct{}) {
	finished, begun := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(finished)
		if !s.lock(nil) {
			close(begun)
			return
		}
		defer s.unlock()
		j := &Job{Task: "task(theirs)", Steps: steps}
		s.begin(j, "task(theirs)")
		close(begun)
		s.sample(j, nil)
		s.end(j)
	}()
	<-begun
	return finished
}

// sample makes the steps of a job; false when it was given up. gone is closed when nobody waits for it; nil when that changes
// nothing.
func (s *Server) sample(j *Job, gone <-chan struct{}) bool {
	for step := 1; step <= j.Steps; step++ {
		if s.cfg.Before != nil {
			s.cfg.Before(j.Number, step)
		}
		if _, hit := s.fault(j.Number, step, backendtest.Hang); hit && j.Mine {
			<-s.quit
		}
		if _, hit := s.fault(j.Number, step, backendtest.Interrupted); hit && j.Mine {
			s.Interrupt()
		}
		select {
		case <-s.quit:
			return false
		case <-gone:
			return false
		case <-time.After(s.cfg.Step):
		}
		s.mu.Lock()
		if s.state.interrupted || s.state.skipped {
			s.mu.Unlock()
			return true
		}
		j.Made = step
		s.state.step = step
		s.state.preview++
		s.mu.Unlock()
	}
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

// answerImage gives the image of a job that ended by itself or was interrupted, spoilt as planned.
func (s *Server) answerImage(w http.ResponseWriter, j *Job, o order) {
	if _, hit := s.fault(j.Number, 0, backendtest.OutOfMemory); hit {
		s.outOfMemory(w)
		return
	}
	if f, hit := s.fault(j.Number, 0, backendtest.ServerError); hit {
		s.fail(w, http.StatusInternalServerError, "RuntimeError", "server_error", f.Text)
		return
	}
	f, _ := s.fault(j.Number, 0, backendtest.Garbage, backendtest.HalfJSON, backendtest.Dropped, backendtest.Huge, backendtest.Drip, backendtest.HeldAnswer,
		backendtest.CutPNG, backendtest.DamagedPNG, backendtest.Bomb, backendtest.WrongSize, backendtest.WrongSeed, backendtest.NoImage, backendtest.ErrorBody)
	switch f.Do {
	case backendtest.WrongSize:
		o.Width *= 2
	case backendtest.WrongSeed:
		o.Seed++
	case backendtest.ErrorBody:
		answer(w, http.StatusOK, map[string]any{"error": "Exception", "detail": "", "body": "", "errors": f.Text})
		return
	}
	images := []any{}
	switch {
	case f.Do != backendtest.NoImage && !(s.cfg.Flavour == SDNext && j.Made == 0):
		images = append(images, base64.StdEncoding.EncodeToString(s.file(j, o, f.Do)))
	case s.cfg.Flavour == KoboldCpp || s.cfg.Flavour == KoboldNew:
		images = append(images, "")
	}
	text := encode(map[string]any{"images": images, "parameters": s.echo(o), "info": s.info(j, o)})
	if backendtest.Spoil(w, f.Do, text, s.quit) {
		return
	}
	reply(w, http.StatusOK, "application/json", text)
}

// outOfMemory is what each program makes of torch.cuda.OutOfMemoryError, or of ggml's.
func (s *Server) outOfMemory(w http.ResponseWriter) {
	s.mu.Lock()
	s.ooms++
	s.mu.Unlock()
	switch s.cfg.Flavour {
	case SDNext: // it swallows the exception
		s.mu.Lock()
		s.state.interrupted = true
		s.mu.Unlock()
		answer(w, http.StatusOK, map[string]any{"images": []any{}, "parameters": map[string]any{}, "info": ""})
	case KoboldCpp, KoboldNew:
		answer(w, http.StatusOK, map[string]any{"images": []any{""}, "parameters": map[string]any{}, "info": ""})
	case SDServer:
		s.fail(w, http.StatusInternalServerError, "", "generate_image returned no results", "")
	default:
		s.fail(w, http.StatusInternalServerError, "OutOfMemoryError", "", "CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 15.98 GiB total capacity; 14.21 GiB already allocated)")
	}
}

func (s *Server) file(j *Job, o order, do backendtest.Action) []byte {
	file := backendtest.SpoilPNG(backendtest.Paint(backendtest.Picture{
		Prompt: o.Prompt, Negative: o.Negative, Sampler: o.Sampler, Model: j.Model, Seed: o.Seed,
		Width: o.Width, Height: o.Height, Steps: j.Made, Guidance: o.Guidance, Grain: s.cfg.Grain,
	}), do)
	switch s.cfg.SamplesFormat {
	case "jpg":
		img, err := png.Decode(bytes.NewReader(file))
		if err != nil {
			panic(err) // a mistake in the test: only whole pictures have another form
		}
		var out bytes.Buffer
		if err := jpeg.Encode(&out, img, nil); err != nil {
			panic(err)
		}
		return out.Bytes()
	case "webp":
		return append([]byte("RIFF\x24\x00\x00\x00WEBPVP8L"), file...)
	}
	return file
}

// echo is the answer's "parameters".
func (s *Server) echo(o order) map[string]any {
	if s.cfg.Flavour == KoboldCpp || s.cfg.Flavour == KoboldNew {
		return map[string]any{}
	}
	return o.body
}

// info is the JSON text that describes an image; koboldcpp says nothing.
func (s *Server) info(j *Job, o order) string {
	if s.cfg.Flavour == KoboldCpp || s.cfg.Flavour == KoboldNew {
		return ""
	}
	text := fmt.Sprintf("%s\nSteps: %d, Sampler: %s, CFG scale: %g, Seed: %d, Size: %dx%d, Model hash: %s, Model: %s", o.Prompt, o.Steps, o.Sampler, o.Guidance, o.Seed, o.Width, o.Height, hash(j.Model), j.Model)
	info := map[string]any{
		"prompt": o.Prompt, "all_prompts": []string{o.Prompt}, "negative_prompt": o.Negative, "all_negative_prompts": []string{o.Negative},
		"seed": o.Seed, "all_seeds": []int64{o.Seed}, "width": o.Width, "height": o.Height, "sampler_name": o.Sampler, "cfg_scale": o.Guidance,
		"steps": o.Steps, "batch_size": 1, "infotexts": []string{text},
	}
	switch s.cfg.Flavour {
	case SDServer:
		delete(info, "batch_size")
		info["sampler_name"], info["sd_model_name"], info["version"] = "NONE", j.Model+".safetensors", "stable-diffusion.cpp"
	case SDNext: // it gives the hash alone
		info["sd_model_hash"], info["job_timestamp"] = hash(j.Model), j.stamp
	default:
		info["sd_model_name"], info["sd_model_hash"], info["job_timestamp"] = j.Model, hash(j.Model), j.stamp
		info["version"] = map[Flavour]string{A1111: "v1.10.1", A1111Old: "v1.5.2", Forge: "f2.0.1v1.10.1-previous-665-gae278f79"}[s.cfg.Flavour]
	}
	return strings.TrimSpace(string(encode(info)))
}
