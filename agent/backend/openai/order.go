package openai

import (
	"encoding/json"
	"fmt"
	"strings"

	"muster/agent/backend"
	"muster/agent/backend/prompt"
	"muster/shared/job"
)

// order is the body of /v1/images/generations. Fields beyond OpenAI's are sent to programs that know them.
type order struct {
	Model          string `json:"model,omitempty"`
	Prompt         string `json:"prompt"`
	N              int    `json:"n"`
	Size           string `json:"size"`
	ResponseFormat string `json:"response_format"`
	OutputFormat   string `json:"output_format"` // SGLang gives JPEG without it

	Seed           *int64   `json:"seed,omitempty"`
	Step           int      `json:"step,omitempty"`
	Steps          int      `json:"num_inference_steps,omitempty"`
	Guidance       *float64 `json:"guidance_scale,omitempty"`
	NegativePrompt string   `json:"negative_prompt,omitempty"`

	width, height int
}

// newOrder writes a request in a program's dialect. What a person wrote gives no orders, whatever the program: any may stand before an
// sd-server.
func (p program) newOrder(req backend.Request, model backend.Model) order {
	o := order{
		Model: model.Path, Prompt: prompt.Plain(req.Prompt), N: 1, ResponseFormat: "b64_json", OutputFormat: "png",
		width: p.side(req.Width), height: p.side(req.Height),
	}
	o.Size = fmt.Sprintf("%dx%d", o.width, o.height)
	seed := p.seed(req.Seed)
	switch p.dialect {
	case local:
		o.Seed, o.Step = &seed, req.Steps
		o.Prompt = onePart(o.Prompt)
		if req.NegativePrompt != "" {
			o.Prompt += "|" + onePart(prompt.Plain(req.NegativePrompt))
		}
	case extra:
		o.Prompt += " " + arguments(seed, model, req)
	default:
		o.Seed, o.Steps, o.Guidance, o.NegativePrompt = &seed, req.Steps, &req.Guidance, prompt.Plain(req.NegativePrompt)
	}
	return o
}

// onePart takes the meaning from the sign that parts LocalAI's prompts.
func onePart(text string) string { return strings.ReplaceAll(text, "|", ",") }

// arguments are sd-server's own fields, as it wants them within the prompt. The negative prompt can't end them: JSON is written
// without the signs of a tag.
func arguments(seed int64, model backend.Model, req backend.Request) string {
	type guidance struct {
		Text      float64  `json:"txt_cfg"`
		Distilled *float64 `json:"distilled_guidance,omitempty"`
	}
	type sample struct {
		Steps    int      `json:"sample_steps"`
		Guidance guidance `json:"guidance"`
	}
	scale, own := model.Guidance(req.Guidance)
	text, err := json.Marshal(struct {
		Seed     int64  `json:"seed"`
		Negative string `json:"negative_prompt"`
		Sample   sample `json:"sample_params"`
	}{seed, req.NegativePrompt, sample{req.Steps, guidance{scale, own}}})
	if err != nil {
		panic(err) // numbers that JSON lacks are refused before, see check
	}
	return "<sd_cpp_extra_args>" + string(text) + "</sd_cpp_extra_args>"
}

// check bounds what programs would clamp or round without a word, and what this API can't say.
func (p program) check(req backend.Request) error {
	switch {
	case req.Sampler != "":
		return fmt.Errorf("%s can't be told which sampler to use: ask for none", p.name)
	case req.Steps < 1 || req.Steps > p.maxSteps:
		return fmt.Errorf("%s makes 1 to %d steps, not %d: ask for fewer", p.name, p.maxSteps, req.Steps)
	case min(req.Width, req.Height) < 1 || max(p.side(req.Width), p.side(req.Height)) > job.MaxSide:
		return fmt.Errorf("%s makes images of up to %d pixels a side, not %dx%d", p.name, job.MaxSide, req.Width, req.Height)
	case req.Seed < 0:
		return fmt.Errorf("seed %d: must be 0 or more", req.Seed)
	case !(req.Guidance >= 0 && req.Guidance <= 100):
		return fmt.Errorf("guidance %g: must be 0 to 100", req.Guidance)
	}
	return nil
}
