package job

import (
	"errors"
	"math"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		spec  Spec
		field string // "" = valid
	}{
		{"plain", Spec{Prompt: "a fox"}, ""},
		{"largest", Spec{Prompt: strings.Repeat("x", MaxPrompt), Width: 4096, Height: 4096, Steps: 200, Count: 16, Priority: 10}, ""},
		{"empty prompt", Spec{}, "prompt"},
		{"blank prompt", Spec{Prompt: " \n"}, "prompt"},
		{"long prompt", Spec{Prompt: strings.Repeat("x", MaxPrompt+1)}, "prompt"},
		{"prompt with NUL", Spec{Prompt: "a\x00b"}, "prompt"},
		{"prompt not UTF-8", Spec{Prompt: "\xff"}, "prompt"},
		{"long negative prompt", Spec{Prompt: "x", NegativePrompt: strings.Repeat("x", MaxPrompt+1)}, "negative_prompt"},
		{"narrow", Spec{Prompt: "x", Width: 63}, "width"},
		{"negative width", Spec{Prompt: "x", Width: -1}, "width"},
		{"wide", Spec{Prompt: "x", Width: 4097}, "width"},
		{"gigantic", Spec{Prompt: "x", Height: 1e9}, "height"},
		{"steps", Spec{Prompt: "x", Steps: 201}, "steps"},
		{"count", Spec{Prompt: "x", Count: 1e6}, "count"},
		{"negative count", Spec{Prompt: "x", Count: -1}, "count"},
		{"priority", Spec{Prompt: "x", Priority: -11}, "priority"},
		{"guidance", Spec{Prompt: "x", Guidance: new(math.NaN())}, "guidance"},
		{"negative seed", Spec{Prompt: "x", Seed: new(int64(-1))}, "seed"},
		{"seed too large for the last image", Spec{Prompt: "x", Seed: new(int64(MaxSeed + 1))}, "seed"},
		{"long model name", Spec{Prompt: "x", Model: strings.Repeat("m", MaxNameBytes+1)}, "model"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := tt.spec.WithDefaults().Validate()
			var wrong *FieldError
			switch {
			case tt.field == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.field != "" && (!errors.As(err, &wrong) || wrong.Field != tt.field):
				t.Errorf("got %v: want an error of field %s", err, tt.field)
			}
		})
	}
}

func TestNoStateIsLeftOnceTerminal(t *testing.T) {
	t.Parallel()
	for _, from := range States {
		for _, to := range States {
			err := from.Check(to)
			if from.Terminal() && !errors.Is(err, ErrTransition) {
				t.Errorf("%s to %s is allowed", from, to)
			}
		}
	}
	for _, move := range [][2]State{{Queued, Running}, {Running, Queued}, {Running, Succeeded}, {Running, Failed}, {Running, Cancelled}, {Queued, Cancelled}} {
		if err := move[0].Check(move[1]); err != nil {
			t.Error(err)
		}
	}
	if err := Queued.Check(Succeeded); err == nil {
		t.Error("a queued job may succeed without running")
	}
}
