package server

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/wire"
)

// openAISide is that of the square made when no size is asked for, as of OpenAI's, where it is not known what suits the model.
const openAISide = 1024

var openAISize = regexp.MustCompile(`^([0-9]{1,10})x([0-9]{1,10})$`)

// openAIQuality is what stands for a quality: a number of steps, 0 for what suits the model, and its name in answers, which are of the newer names only.
type openAIQuality struct {
	name, answer string
	steps        int
}

var openAIQualities = []openAIQuality{
	{"auto", "medium", 0}, {"low", "low", 12}, {"medium", "medium", job.DefaultSteps}, {"standard", "medium", job.DefaultSteps},
	{"high", "high", 30}, {"hd", "high", 30}, {"xhigh", "xhigh", 40}, {"max", "max", 50},
}

// openAIAsk is a request to POST /v1/images/generations. What OpenAI's other parameters ask for (background, moderation, style) is
// not to be had, and they are passed over.
type openAIAsk struct {
	model, prompt, negative, user string
	count, steps                  int
	width, height                 int      // 0 for what suits the model
	guidance                      *float64 // nil for the default
	seed                          *int64   // nil for one that is drawn
	device                        *gpu.Ref // nil for any
	quality                       string   // as answers call it
	encoding                      encoding
	byURL                         bool // images as links, not in the answer
	stream                        bool
	partials                      int // pictures of each unfinished image, in a stream
}

// Names of what is asked for, by those of a command. steps and guidance have several: openAIAsk checks them.
var openAINames = map[string]string{"count": "n", "width": "size", "height": "size", "guidance": "guidance_scale", "client_id": "user"}

// parseOpenAI reads the body of a request. Errors are *refusal.
func parseOpenAI(body []byte) (openAIAsk, error) {
	f, err := parseFields(body, false)
	if err != nil {
		return openAIAsk{}, err
	}
	a := openAIAsk{
		model: f.text("model"), prompt: f.text("prompt"), negative: f.text("negative_prompt"), user: f.text("safety_identifier"),
		count: f.within("n", 1, 1, job.MaxCount), seed: f.whole("seed"), device: f.device(), stream: f.flag("stream", false),
	}
	if a.user == "" {
		a.user = f.text("user")
	}
	if strings.TrimSpace(a.prompt) == "" {
		f.fail("prompt", "is missing: say what the images shall show")
	}
	if a.seed != nil && *a.seed == -1 { // LocalAI's word for any
		a.seed = nil
	}
	a.width, a.height = openAISides(f)
	a.quality, a.steps = openAISteps(f)
	for _, name := range []string{"guidance_scale", "cfg_scale"} { // vLLM-Omni's and SGLang's; LocalAI's
		if n := f.number(name); n != nil {
			a.guidance = n
			if *n < 0 || *n > job.MaxGuidance {
				f.fail(name, "is %g; allowed is 0 to %g", *n, job.MaxGuidance)
			}
		}
	}
	a.encoding = openAIEncoding(f)
	a.byURL = openAIByURL(f, a.model)
	a.partials = f.within("partial_images", 0, 0, 3)
	return a, f.err
}

func openAISides(f *fields) (width, height int) {
	text := f.text("size")
	if text == "" || text == "auto" {
		return 0, 0
	}
	sides := openAISize.FindStringSubmatch(text)
	if sides == nil {
		f.fail("size", "is %q; want WIDTHxHEIGHT, such as 1024x1024, or auto", cut(text))
		return 0, 0
	}
	width, _ = strconv.Atoi(sides[1]) // at most ten digits
	height, _ = strconv.Atoi(sides[2])
	if min(width, height) < job.MinSide || max(width, height) > job.MaxSide || width*height > job.MaxPixels {
		f.fail("size", "is %s; each side may be %d to %d", text, job.MinSide, job.MaxSide)
	}
	return width, height
}

// openAISteps reads the quality, and the number of steps that counts before it.
func openAISteps(f *fields) (quality string, steps int) {
	name := f.text("quality")
	if name == "" {
		name = "auto"
	}
	at := slices.IndexFunc(openAIQualities, func(q openAIQuality) bool { return q.name == name })
	if at < 0 {
		var names []string
		for _, q := range openAIQualities {
			names = append(names, q.name)
		}
		f.fail("quality", "is %q; allowed are %s", cut(name), strings.Join(names, ", "))
		return "", job.DefaultSteps
	}
	steps = openAIQualities[at].steps
	for _, name := range []string{"step", "num_inference_steps", "steps"} { // LocalAI's, vLLM-Omni's and SGLang's, everybody's
		steps = f.within(name, steps, 1, job.MaxSteps)
	}
	return openAIQualities[at].answer, steps
}

func openAIEncoding(f *fields) encoding {
	as := encoding{quality: max(1, f.within("output_compression", 100, 0, 100))}
	switch format := f.text("output_format"); format {
	case "", "png":
	case "jpeg", "jpg":
		as.jpeg = true
	default:
		f.fail("output_format", "is %q; allowed are png and jpeg", cut(format))
	}
	return as
}

// openAIByURL says whether links are wanted: where nothing is said, as with OpenAI, of the DALL-E models only.
func openAIByURL(f *fields, model string) bool {
	switch format := f.text("response_format"); format {
	case "":
		return strings.HasPrefix(model, "dall-e-")
	case "b64_json":
	case "url":
		return true
	default:
		f.fail("response_format", "is %q; allowed are b64_json and url", cut(format))
	}
	return false
}

// spec makes a command of it. capacity says which models are here.
func (a openAIAsk) spec(capacity wire.Capacity) (job.Spec, error) {
	name, err := openAIModel(a.model, capacity)
	if err != nil {
		return job.Spec{}, err
	}
	spec := job.Spec{
		Prompt: a.prompt, NegativePrompt: a.negative, Model: name, Width: a.width, Height: a.height, Steps: a.steps, Guidance: a.guidance,
		Seed: a.seed, Count: a.count, DeviceID: a.device,
	}
	return spec, renamed(spec.WithDefaults().Validate(), openAINames)
}

// adapt gives images of a model of which nothing is known the size of OpenAI's.
func (a openAIAsk) adapt(made job.Spec, offer Offer) (job.Spec, error) {
	if a.width == 0 && offer.Family == model.Unknown {
		made.Width, made.Height = openAISide, openAISide
	}
	return made, nil
}

// openAIModel gives the model that a name stands for; "" for the agent's default. The names of OpenAI's own models, one of which
// most of its clients send whatever they speak to, stand for that too.
func openAIModel(name string, capacity wire.Capacity) (string, error) {
	var names []string
	for _, m := range capacity.Models {
		names = append(names, m.Name)
	}
	switch {
	case slices.Contains(names, name):
		return name, nil
	case name == "" || openAIOwn(name):
		return "", nil
	case len(names) == 0:
		return "", errNoBackend
	}
	return "", noOpenAIModel(name, names)
}

func openAIOwn(name string) bool {
	return strings.HasPrefix(name, "dall-e-") || strings.HasPrefix(name, "gpt-image-") || name == "chatgpt-image-latest"
}

func noOpenAIModel(name string, names []string) error {
	return &refusal{status: http.StatusNotFound, code: "model_not_found", field: "model",
		message: "\"" + cut(name) + "\" is not here; there are " + strings.Join(names, ", ")}
}
