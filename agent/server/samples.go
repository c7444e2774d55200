package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

// What POST /api/v1/personas/generate-sample-images allows.
const (
	minAppearance     = 10   // characters, trimmed
	maxPersonaText    = 3500 // bytes of appearance and of personality: with a style's words they fit a prompt
	minSampleSide     = 256
	maxSampleSide     = 4096
	defaultResolution = "1024x1024"
	defaultSamples    = 4
)

// quality is a name for a number of steps.
type quality struct {
	name  string
	steps int
}

var qualities = []quality{{"draft", 20}, {"standard", 30}, {"high", 50}, {"premium", 80}}

const defaultQuality = "standard"

var resolutionForm = regexp.MustCompile(`^([0-9]{1,5})x([0-9]{1,5})$`)

// sampleAsk is what a client may ask for, by query or by body. "" and nil are left out.
type sampleAsk struct {
	Appearance  string   `json:"appearance"`
	Personality string   `json:"personality"`
	Resolution  string   `json:"resolution"`
	Quality     string   `json:"quality"`
	Style       string   `json:"style"`
	ImageModel  string   `json:"image_model"`
	Count       *int     `json:"count"`
	DeviceID    *gpu.Ref `json:"device_id"`
}

// parseSampleAsk reads the query, then the body over it. An empty body is none; parameters that are not known are ignored, as the
// earlier system did, while fields of a body must be known.
func parseSampleAsk(rawQuery string, body []byte) (sampleAsk, error) {
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return sampleAsk{}, invalid("query", "is not well-formed: %s", cut(err.Error()))
	}
	ask, err := sampleQuery(values)
	if err != nil {
		return sampleAsk{}, err
	}
	if len(strings.TrimSpace(string(body))) > 0 {
		if err := decodeJSON(body, &ask); err != nil {
			return sampleAsk{}, err
		}
	}
	return ask, nil
}

func sampleQuery(values url.Values) (ask sampleAsk, err error) {
	ask = sampleAsk{
		Appearance: values.Get("appearance"), Personality: values.Get("personality"), Resolution: values.Get("resolution"),
		Quality: values.Get("quality"), Style: values.Get("style"), ImageModel: values.Get("image_model"),
	}
	if values.Has("count") {
		n, err := number(values, "count", 0, 1, job.MaxCount)
		if err != nil {
			return sampleAsk{}, err
		}
		ask.Count = &n
	}
	if text := values.Get("device_id"); text != "" {
		ref, err := parseRef(text)
		if err != nil {
			return sampleAsk{}, err
		}
		ask.DeviceID = &ref
	}
	return ask, nil
}

// spec checks what was asked and makes the command of it.
func (a sampleAsk) spec() (job.Spec, error) {
	appearance, personality := strings.TrimSpace(a.Appearance), strings.TrimSpace(a.Personality)
	if n := utf8.RuneCountInString(appearance); n < minAppearance {
		return job.Spec{}, invalid("appearance", "is %d characters long; at least %d are needed", n, minAppearance)
	}
	for name, text := range map[string]string{"appearance": appearance, "personality": personality} {
		if len(text) > maxPersonaText {
			return job.Spec{}, invalid(name, "is %d bytes long; at most %d are allowed", len(text), maxPersonaText)
		}
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return job.Spec{}, invalid(name, "must be valid UTF-8 without NUL")
		}
	}
	width, height, err := a.size()
	if err != nil {
		return job.Spec{}, err
	}
	steps, err := a.steps()
	if err != nil {
		return job.Spec{}, err
	}
	look, err := styleOf(a.Style)
	if err != nil {
		return job.Spec{}, err
	}
	count := defaultSamples
	if a.Count != nil {
		count = *a.Count
	}
	if count < 1 || count > job.MaxCount { // 0 would become a default
		return job.Spec{}, invalid("count", "is %d; allowed is 1 to %d", count, job.MaxCount)
	}
	spec := job.Spec{
		Prompt: look.prompt(appearance, personality), NegativePrompt: look.negative, Model: a.ImageModel,
		Width: width, Height: height, Steps: steps, Count: count, DeviceID: a.DeviceID,
	}
	if err := spec.WithDefaults().Validate(); err != nil {
		return spec, sampleRefusal(err)
	}
	return spec, nil
}

func (a sampleAsk) size() (width, height int, err error) {
	text := a.Resolution
	if text == "" {
		text = defaultResolution
	}
	sides := resolutionForm.FindStringSubmatch(text)
	if sides == nil {
		return 0, 0, invalid("resolution", `is %q; want WIDTHxHEIGHT, such as %s`, cut(text), defaultResolution)
	}
	width, _ = strconv.Atoi(sides[1]) // at most five digits
	height, _ = strconv.Atoi(sides[2])
	for _, side := range []int{width, height} {
		if side < minSampleSide || side > maxSampleSide {
			return 0, 0, invalid("resolution", "is %s; each side may be %d to %d", text, minSampleSide, maxSampleSide)
		}
	}
	return width, height, nil
}

func (a sampleAsk) steps() (int, error) {
	name := a.Quality
	if name == "" {
		name = defaultQuality
	}
	var names []string
	for _, q := range qualities {
		if q.name == name {
			return q.steps, nil
		}
		names = append(names, q.name)
	}
	return 0, invalid("quality", "is %q; allowed are %s", cut(name), strings.Join(names, ", "))
}

// sampleImages answers POST /api/v1/personas/generate-sample-images.
func (s *Server) sampleImages(w http.ResponseWriter, r *http.Request) error {
	body, err := s.readHeld(w, r)
	if err != nil {
		return err
	}
	ask, err := parseSampleAsk(r.URL.RawQuery, body)
	if err != nil {
		return err
	}
	spec, err := ask.spec()
	if err != nil {
		return err
	}
	jobs, err := s.makeSamples(r, spec)
	if err != nil {
		return err
	}
	return s.writeSamples(w, []byte("{"), jobs)
}

// makeSamples submits a set and waits until all of it has ended. A client that goes away cancels what has not started; when the
// agent stops, the jobs stay: they were accepted.
func (s *Server) makeSamples(r *http.Request, spec job.Spec) ([]job.Job, error) {
	if err := canGenerate(s.capacity(r.Context()), spec.DeviceID); err != nil {
		return nil, err
	}
	jobs, _, err := s.submit(r.Context(), callerOf(r), "", spec, nil)
	if err != nil {
		return nil, sampleRefusal(err)
	}
	ctx, stop := s.untilStop(r.Context())
	defer stop()
	for i := range jobs {
		ended, err := s.config.Queue.Wait(ctx, jobs[i].ID)
		switch {
		case err == nil:
			jobs[i] = ended
		case errors.Is(context.Cause(ctx), errStopping):
			return nil, errStopping
		case ctx.Err() != nil:
			s.cancelUnstarted(jobs)
			return nil, errAnswered // nobody is there to read one
		default:
			return nil, err
		}
	}
	return jobs, nil
}

// sampleRefusal calls the model by the name that it has here.
func sampleRefusal(err error) error {
	refused := *refusalOf(err)
	if refused.field != "model" {
		return err
	}
	refused.field = "image_model"
	return &refused
}

// canGenerate says why no image can be made now: waiting for one would not end.
func canGenerate(capacity wire.Capacity, device *gpu.Ref) error {
	var problems []string
	for _, slot := range capacity.Slots {
		switch {
		case device != nil && slot.Device != *device:
		case slot.Problem != "":
			problems = append(problems, slot.Device.Label()+": "+slot.Problem)
		case slot.Paused && phaseOf(capacity, slot.Device) == wire.PhaseActive:
			problems = append(problems, slot.Device.Label()+" is paused")
		case slot.Paused && phaseOf(capacity, slot.Device) != wire.PhaseYielding: // that ends by itself
			problems = append(problems, fmt.Sprintf("%s is %s", slot.Device.Label(), phaseOf(capacity, slot.Device)))
		default:
			return nil
		}
	}
	if len(problems) == 0 && len(capacity.Slots) > 0 {
		return nil // a device that is not there: submit says which are
	}
	return &refusal{status: http.StatusBadRequest, code: "no_backend",
		message: strings.Join(append([]string{"no backend can generate images"}, slices.Compact(problems)...), "; ")}
}

// cancelUnstarted gives up the queued ones; those that run finish.
func (s *Server) cancelUnstarted(jobs []job.Job) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	for _, j := range jobs {
		now, err := s.config.Queue.Job(ctx, j.ID)
		if err != nil || now.State != job.Queued {
			continue
		}
		if _, err := s.config.Queue.Cancel(ctx, j.ID); err != nil && !errors.Is(err, job.ErrTransition) {
			s.log.Warn("cancel for a client that went away", "job", j.ID, "error", err)
		}
	}
}

// sampleError is one image that could not be made.
type sampleError struct {
	ID    string `json:"id"`
	JobID string `json:"job_id"`
	Error string `json:"error"`
}

func sampleID(i int) string { return fmt.Sprintf("sample_%d", i+1) }

func failureOf(j job.Job) string {
	switch {
	case j.State == job.Cancelled:
		return "was cancelled"
	case j.Error != "":
		return j.Error
	default:
		return "failed without a reason"
	}
}
