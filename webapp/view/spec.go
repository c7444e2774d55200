package view

import (
	"strconv"
	"strings"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/gpu"
	"muster/shared/job"
)

// entered gives the text of an input.
func entered(id string) string {
	input := app.Window().GetElementByID(id)
	if !input.Truthy() {
		return ""
	}
	return input.Get("value").String()
}

// readSpec makes a Spec of the inputs' texts; size and steps are 0 where they are left to the agent. Its error is a *job.FieldError.
func readSpec(text func(id string) string) (job.Spec, error) {
	spec := job.Spec{Prompt: strings.TrimSpace(text("prompt")), NegativePrompt: strings.TrimSpace(text("negative"))}
	var err error
	if spec.Count, err = strconv.Atoi(text("count")); err != nil || spec.Count < 1 {
		return spec, &job.FieldError{Field: "count", Message: "must be a whole number from 1 to " + strconv.Itoa(job.MaxCount)}
	}
	if quality := text("quality"); quality != automatic {
		if spec.Steps, err = strconv.Atoi(quality); err != nil {
			return spec, &job.FieldError{Field: "steps", Message: "must be chosen from the list"}
		}
	}
	width, high, _ := strings.Cut(text("size"), "x") // automatic is neither
	spec.Width, _ = strconv.Atoi(width)
	spec.Height, _ = strconv.Atoi(high)
	if model := text("model"); model != automatic {
		spec.Model = model
	}
	if seed := strings.TrimSpace(text("seed")); seed != "" {
		n, err := strconv.ParseInt(seed, 10, 64)
		if err != nil {
			return spec, &job.FieldError{Field: "seed", Message: "must be a whole number"}
		}
		spec.Seed = &n
	}
	spec.DeviceID = pinned(text("device"))
	return spec, nil
}

// pinned gives the device that was chosen; nil for automatic.
func pinned(chosen string) *gpu.Ref {
	if chosen == gpu.CPU.String() {
		cpu := gpu.CPU
		return &cpu
	}
	n, err := strconv.Atoi(chosen)
	if err != nil {
		return nil
	}
	ref := gpu.Ref(n)
	return &ref
}
