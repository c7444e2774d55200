package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"muster/shared/gpu"
	"muster/shared/model"
)

// Whoever asks for a model to be loaded is told what it waits for, and what came of it.
func TestLoadIsFollowed(t *testing.T) {
	t.Parallel()
	now := func(state model.LoadState, words string) model.Offers {
		return model.Offers{Loads: []model.Load{{Model: "sdxl", Device: 2, State: model.LoadFailed, Words: "of another device"}, {Model: "sdxl", Device: 1, State: state, Words: words}}}
	}
	there := model.Offers{Models: []model.Offer{{Model: model.Model{Name: "sdxl"}, LoadedOn: []gpu.Ref{1}}}}
	for name, test := range map[string]struct {
		answers []model.Offers // the last is given for ever; without anything: interrupted
		printed string
		want    string // of the error
	}{
		"waits, then loaded": {[]model.Offers{now(model.LoadWaits, "waits for the image that is being made there"), now(model.LoadRuns, ""), now(model.LoadRuns, ""), there},
			"sdxl is to be loaded on Device 1: it waits for the image that is being made there\nsdxl is being loaded on Device 1\n", ""},
		"fails":       {[]model.Offers{now(model.LoadRuns, ""), now(model.LoadFailed, "it died; load it again")}, "sdxl is being loaded on Device 1\n", "sdxl was not loaded on Device 1: it died; load it again"},
		"forgotten":   {[]model.Offers{now(model.LoadRuns, ""), {Models: []model.Offer{{Model: model.Model{Name: "sdxl"}, LoadedOn: []gpu.Ref{2}}}}}, "sdxl is being loaded on Device 1\n", "does not load sdxl on Device 1 any more"},
		"interrupted": {[]model.Offers{now(model.LoadRuns, ""), {}}, "sdxl is being loaded on Device 1\n", "the agent goes on loading sdxl"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, interrupt := context.WithCancel(t.Context())
			asked := -1
			agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked = min(asked+1, len(test.answers)-1)
				if now := test.answers[asked]; now.Models == nil && now.Loads == nil {
					interruptAsked(r, interrupt)
				} else {
					raw, _ := json.Marshal(now)
					_, _ = w.Write(raw)
				}
			}))
			defer agent.Close()
			var out strings.Builder
			err := followLoad(ctx, &client{base: agent.URL, token: "t"}, "sdxl", 1, &out)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if out.String() != test.printed {
				t.Errorf("printed %q, want %q", out.String(), test.printed)
			}
		})
	}
}

func TestLoadWords(t *testing.T) {
	t.Parallel()
	for want, load := range map[string]model.Load{
		"sdxl was not loaded on Device 1: it died; load it again": {Model: "sdxl", Device: 1, State: model.LoadFailed, Words: "it died; load it again"},
		"sdxl is to be loaded on CPU: it waits for an image":      {Model: "sdxl", Device: gpu.CPU, State: model.LoadWaits, Words: "waits for an image"},
		"sdxl is being loaded on Device 0":                        {Model: "sdxl", State: model.LoadRuns},
	} {
		if got := loadWords(load); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
