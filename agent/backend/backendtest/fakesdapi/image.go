package fakesdapi

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image/jpeg"
	"image/png"
	"net/http"
	"strings"

	"muster/agent/backend/backendtest"
)

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
		Prompt: o.Prompt, Negative: o.Negative, Sampler: o.Sampler + o.Schedule, Model: j.Model, Seed: o.Seed,
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
