package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/agent/backend/backendtest"
)

// parseObject reads a body as nlohmann's library would, and says what went wrong in its words.
func parseObject(body []byte) (object map[string]any, syntax, kind string) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		what := "invalid literal"
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			what = "unexpected end of input"
		}
		return nil, fmt.Sprintf("[json.exception.parse_error.101] parse error at line 1, column %d: syntax error while parsing value - %s; expected '[', '{', or a literal", len(body)+1, what), ""
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, "", "[json.exception.type_error.306] cannot use value() with " + typeName(value)
	}
	return object, "", ""
}

func typeName(value any) string {
	switch value.(type) {
	case []any:
		return "array"
	case string:
		return "string"
	case json.Number:
		return "number"
	case bool:
		return "boolean"
	case nil:
		return "null"
	}
	return "object"
}

// integer reads a number of an object; anything else gives the default, as the native family does.
func integer(object map[string]any, key string, otherwise int64) int64 {
	if n, ok := object[key].(json.Number); ok {
		if v, err := n.Int64(); err == nil {
			return v
		}
	}
	return otherwise
}

func number(object map[string]any, key string, otherwise float64) float64 {
	if n, ok := object[key].(json.Number); ok {
		if v, err := n.Float64(); err == nil {
			return v
		}
	}
	return otherwise
}

func text(object map[string]any, key, otherwise string) string {
	if v, ok := object[key].(string); ok {
		return v
	}
	return otherwise
}

func child(object map[string]any, key string) map[string]any {
	v, _ := object[key].(map[string]any)
	return v
}

// side rounds up to multiples of 64; what is not positive becomes the default of 512.
func side(n int64) int {
	if n <= 0 || n > 1<<20 {
		n = 512
	}
	return int((n + 63) / 64 * 64)
}

func (s *server) newRequest() request {
	return request{seed: s.options.seed, width: side(int64(s.options.width)), height: side(int64(s.options.height)), steps: s.options.steps,
		guidance: s.options.guidance, batch: 1, format: "png", metadata: !s.options.disableEmbedImage}
}

func (r *request) bound() {
	r.steps = min(max(r.steps, 1), 100)
	r.batch = min(max(r.batch, 1), 8)
	if r.seed < 0 {
		r.seed = rand.Int64N(1 << 31)
	}
}

// known is a name of the program's own; it takes its default for any other, without a word.
func known(name string, own []string) string {
	if !slices.Contains(own, name) {
		return ""
	}
	return name
}

// native reads the body of img_gen; a text is its 400.
func (s *server) native(object map[string]any) (request, string) {
	r := s.newRequest()
	r.format = text(object, "output_format", "png")
	if !slices.Contains(formats, r.format) {
		return r, "invalid output_format, must be one of [png, jpeg, webp]"
	}
	loras, _ := object["lora"].([]any)
	if strength := number(object, "strength", 0.75); strength < 0 || strength > 1 || len(loras) > 0 {
		return r, "invalid generation parameters"
	}
	sample := child(object, "sample_params")
	r.prompt, r.negative = text(object, "prompt", ""), text(object, "negative_prompt", "")
	r.width, r.height = side(integer(object, "width", int64(s.options.width))), side(integer(object, "height", int64(s.options.height)))
	r.seed = integer(object, "seed", s.options.seed)
	r.batch = int(integer(object, "batch_count", 1))
	r.steps = int(integer(sample, "sample_steps", int64(s.options.steps)))
	r.sampler = known(text(sample, "sample_method", ""), samplers)
	r.schedule = known(text(sample, "scheduler", ""), schedulers)
	r.guidance = number(child(sample, "guidance"), "txt_cfg", s.options.guidance)
	r.metadata = object["embed_image_metadata"] != false && r.metadata
	r.bound()
	return r, ""
}

// imageGeneration is POST /sdcpp/v1/img_gen.
func (s *server) imageGeneration(w http.ResponseWriter, body []byte) {
	if len(body) == 0 {
		failure(w, http.StatusBadRequest, "empty body", "")
		return
	}
	object, syntax, kind := parseObject(body)
	switch {
	case syntax != "":
		failure(w, http.StatusBadRequest, "invalid json", syntax)
		return
	case kind != "":
		failure(w, http.StatusInternalServerError, "server_error", kind)
		return
	}
	r, wrong := s.native(object)
	s.mu.Lock()
	next := s.nextID + 1
	s.mu.Unlock()
	f, planned := s.fault(next, -1, backendtest.Refuse, backendtest.ServerError, backendtest.NoID)
	switch {
	case wrong != "":
		failure(w, http.StatusBadRequest, wrong, "")
		return
	case planned && f.Do == backendtest.Refuse:
		failure(w, http.StatusBadRequest, "invalid generation parameters", "")
		return
	case planned && f.Do == backendtest.ServerError:
		failure(w, http.StatusInternalServerError, "server_error", f.Text)
		return
	}
	j := s.submit(r)
	if j == nil {
		failure(w, http.StatusTooManyRequests, "job queue is full", "")
		return
	}
	d := s.describe(j)
	accepted := map[string]any{"id": j.id, "kind": "img_gen", "status": d["status"], "created": j.created, "poll_url": "/sdcpp/v1/jobs/" + j.id}
	if planned {
		delete(accepted, "id")
	}
	answer(w, http.StatusAccepted, accepted)
}

// synchronous reads what both synchronous families check alike; false when it has answered.
func synchronous(w http.ResponseWriter, body []byte) (map[string]any, bool) {
	if len(body) == 0 {
		failure(w, http.StatusBadRequest, "empty body", "")
		return nil, false
	}
	object, syntax, kind := parseObject(body)
	if syntax+kind != "" {
		failure(w, http.StatusInternalServerError, "server_error", syntax+kind)
		return nil, false
	}
	for key, want := range map[string]string{"prompt": "string", "size": "string", "n": "number"} {
		if v, ok := object[key]; ok && typeName(v) != want {
			failure(w, http.StatusInternalServerError, "server_error", "[json.exception.type_error.302] type must be "+want+", but is "+typeName(v))
			return nil, false
		}
	}
	if text(object, "prompt", "") == "" {
		failure(w, http.StatusBadRequest, "prompt required", "")
		return nil, false
	}
	return object, true
}

// openAI is POST /v1/images/generations.
func (s *server) openAI(w http.ResponseWriter, body []byte) {
	object, ok := synchronous(w, body)
	if !ok {
		return
	}
	r := s.newRequest()
	r.prompt = object["prompt"].(string)
	r.format = text(object, "output_format", "png")
	if !slices.Contains(formats, r.format) {
		failure(w, http.StatusBadRequest, "invalid output_format, must be one of [png, jpeg, webp]", "")
		return
	}
	const open, end = "<sd_cpp_extra_args>", "</sd_cpp_extra_args>"
	if before, rest, found := strings.Cut(r.prompt, open); found {
		inner, after, _ := strings.Cut(rest, end)
		extra, syntax, kind := parseObject([]byte(inner))
		if syntax+kind != "" {
			failure(w, http.StatusBadRequest, "invalid sd_cpp_extra_args", "")
			return
		}
		r.prompt = before + after
		r.seed = integer(extra, "seed", r.seed)
		r.steps = int(integer(child(extra, "sample_params"), "sample_steps", int64(r.steps)))
	}
	if wide, high, ok := strings.Cut(text(object, "size", ""), "x"); ok {
		width, errW := strconv.ParseInt(wide, 10, 64)
		height, errH := strconv.ParseInt(high, 10, 64)
		if errW == nil && errH == nil {
			r.width, r.height = side(width), side(height)
		}
	}
	r.batch = int(integer(object, "n", 1))
	r.bound()
	images, message := s.make(r)
	if message != "" {
		failure(w, http.StatusInternalServerError, message, "")
		return
	}
	data := []any{}
	for _, png := range images {
		data = append(data, map[string]any{"b64_json": png})
	}
	answer(w, http.StatusOK, map[string]any{"created": time.Now().Unix(), "data": data, "output_format": r.format})
}

// sdapi is POST /sdapi/v1/txt2img and img2img.
func (s *server) sdapi(w http.ResponseWriter, body []byte, fromImage bool) {
	object, ok := synchronous(w, body)
	if !ok {
		return
	}
	width, height := integer(object, "width", 512), integer(object, "height", 512)
	if width <= 0 || height <= 0 {
		failure(w, http.StatusBadRequest, "width and height must be positive", "")
		return
	}
	r := s.newRequest()
	r.prompt, r.negative = object["prompt"].(string), text(object, "negative_prompt", "")
	r.width, r.height = side(width), side(height)
	r.steps = int(integer(object, "steps", int64(r.steps)))
	r.guidance = number(object, "cfg_scale", r.guidance)
	r.seed = integer(object, "seed", -1)
	r.batch = int(integer(object, "batch_size", 1))
	r.bound()
	images, message := s.make(r)
	if message != "" {
		failure(w, http.StatusInternalServerError, message, "")
		return
	}
	seeds, infos, prompts, negatives := []any{}, []any{}, []any{}, []any{}
	for i := range images {
		seeds, infos = append(seeds, r.seed+int64(i)), append(infos, s.parameters(r, r.seed+int64(i)))
		prompts, negatives = append(prompts, r.prompt), append(negatives, r.negative)
	}
	info := map[string]any{
		"all_negative_prompts": negatives, "all_prompts": prompts, "all_seeds": seeds, "cfg_scale": float(r.guidance), "height": r.height,
		"infotexts": infos, "prompt": r.prompt, "sampler_name": "NONE", "sd_model_name": filepath.Base(s.options.model), "seed": r.seed,
		"steps": r.steps, "version": "stable-diffusion.cpp", "width": r.width,
	}
	if fromImage {
		info["denoising_strength"] = 0.75
	}
	answer(w, http.StatusOK, map[string]any{"images": images, "info": string(encode(info)), "parameters": object})
}
