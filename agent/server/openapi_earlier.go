package server

import (
	"net/http"

	"muster/agent/server/openapi"
)

// sampleImage is one image of an answer, as sample.write writes it.
type sampleImage struct {
	ID      string `json:"id"`
	Label   string `json:"label"`
	DataURL string `json:"data_url"` // data:image/png;base64,…
	sampleFacts
}

// sampleAnswer is what writeSamples answers.
type sampleAnswer struct {
	Images []sampleImage `json:"images"`
	Count  int           `json:"count"`
	Errors []sampleError `json:"errors,omitempty"`
}

// personaSamples is a made-up persona with images of it.
type personaSamples struct {
	persona
	sampleAnswer
}

func earlierOperations() map[string][]operation {
	sampleParams := func(more ...param) []param {
		return append(more, param{name: "resolution", words: "such as 1024x1024"}, param{name: "quality", schema: openapi.OneOfWords(qualityNames()...)},
			param{name: "style", schema: openapi.OneOfWords(styleNames()...)}, param{name: "image_model"}, param{name: "count", schema: openapi.Is("integer")}, param{name: "device_id", words: "a device's number, or cpu"})
	}
	status := operation{summary: "The machine: every device, versions, models", answers: ok(setupStatus{})}
	failed := map[int]any{http.StatusInternalServerError: alternatives{samplesFailed{}, legacyError{}}}
	return map[string][]operation{
		"GET /api/v1/setup/ai-models/status":          only(status),
		"GET /api/v1/setup/models/status":             only(status),
		"GET /api/v1/setup/ai-models/recommendations": only(operation{summary: "Models for this machine", answers: ok(setupRecommendations{})}),
		"POST /api/v1/setup/ai-models/install":        only(operation{summary: "Install models of the recommendations, or one other", asks: body{value: setupInstallAsk{}}, answers: ok(setupInstalls{})}),
		"POST /api/v1/setup/ai-models/enable":         only(operation{summary: "Enable or disable a model", asks: body{value: setupEnableAsk{}, needs: []string{"model_name"}}, answers: ok(setupChange{})}),
		"POST /api/v1/setup/ai-models/uninstall":      only(operation{summary: "Delete a model's file", asks: body{value: setupUninstallAsk{}, needs: []string{"model_name"}}, answers: ok(setupChange{})}),
		"GET /api/v1/system/gpu/temperature":          only(operation{summary: "Temperature and memory of every GPU", answers: ok(alternatives{gpuList[temperatureOfGPU]{}, unavailable{}})}),
		"GET /api/v1/system/gpu/status":               only(operation{summary: "Health and memory of every GPU", answers: ok(alternatives{gpuList[statusOfGPU]{}, unavailable{}})}),
		"GET /api/v1/system/gpu/temperature/history": only(operation{summary: "Temperatures of the last minutes, of one GPU or all",
			params: []param{{name: "device_id", schema: openapi.Is("integer")}}, answers: ok(alternatives{historyAnswer{}, unavailable{}})}),
		"GET /api/v1/system/gpu/temperature/max": only(operation{summary: "Highest and mean temperature of every GPU", answers: ok(alternatives{maxAnswer{}, unavailable{}})}),
		"POST /api/v1/personas/generate-sample-images": only(operation{summary: "Make images of a person, and wait for them. The body counts before the query",
			params: sampleParams(param{name: "appearance", words: "at least 10 characters"}, param{name: "personality"}), asks: body{value: sampleAsk{}, empty: true},
			answers: ok(sampleAnswer{}), errors: failed}),
		"POST /api/v1/personas/random": only(operation{summary: "Make up a person, and images of it where they are wanted. The body counts before the query",
			params: sampleParams(param{name: "seed", schema: openapi.Is("integer")}, param{name: "generate_images", schema: openapi.Is("boolean")}), asks: body{value: personaAsk{}, empty: true},
			answers: ok(alternatives{persona{}, personaSamples{}}), errors: failed}),
	}
}

func qualityNames() (names []string) {
	for _, q := range qualities {
		names = append(names, q.name)
	}
	return names
}

func styleNames() (names []string) {
	for _, st := range styles {
		names = append(names, st.name)
	}
	return names
}
