package server

import (
	"net/http"

	"muster/agent/server/openapi"
	"muster/shared/gpu"
)

// openAIBody is what parseOpenAI reads; nil is left out.
type openAIBody struct {
	Model             *string  `json:"model"`
	Prompt            *string  `json:"prompt"`
	NegativePrompt    *string  `json:"negative_prompt"`
	N                 *int     `json:"n"`
	Size              *string  `json:"size"`
	Quality           *string  `json:"quality"`
	ResponseFormat    *string  `json:"response_format"`
	OutputFormat      *string  `json:"output_format"`
	OutputCompression *int     `json:"output_compression"`
	Stream            *bool    `json:"stream"`
	PartialImages     *int     `json:"partial_images"`
	User              *string  `json:"user"`
	SafetyIdentifier  *string  `json:"safety_identifier"`
	Seed              *int64   `json:"seed"`
	Steps             *int     `json:"steps"`
	Step              *int     `json:"step"`                // LocalAI's
	InferenceSteps    *int     `json:"num_inference_steps"` // vLLM-Omni's and SGLang's
	GuidanceScale     *float64 `json:"guidance_scale"`
	CFGScale          *float64 `json:"cfg_scale"` // LocalAI's
	DeviceID          *gpu.Ref `json:"device_id"`
}

// openAIImage is one image of an answer, as writeOpenAIImage writes it.
type openAIImage struct {
	B64JSON string `json:"b64_json,omitempty"`
	URL     string `json:"url,omitempty"`
	made
}

// openAIImages is what writeOpenAI writes.
type openAIImages struct {
	Created int64         `json:"created"` // Unix seconds
	Data    []openAIImage `json:"data"`
	openAICommon
	Errors []openAILost `json:"errors,omitempty"`
}

func openAIOperations() map[string][]operation {
	unsupported := func(summary string) []operation {
		return only(operation{summary: summary, asks: body{media: "multipart/form-data", empty: true}})
	}
	return map[string][]operation{
		"POST /v1/images/generations": only(operation{summary: "Make images and wait for them; with stream true as server-sent events", params: []param{idempotency},
			asks: body{value: openAIBody{}, needs: []string{"prompt"}, lax: true}, answers: map[int]success{http.StatusOK: {value: openAIImages{}, media: "text/event-stream"}}}),
		"POST /v1/images/edits":              unsupported("Not supported: answered with an error that says so"),
		"POST /v1/images/variations":         unsupported("Not supported: answered with an error that says so"),
		"GET /v1/images/files/{id}/{ticket}": only(operation{summary: "A finished image by the link that was given, for an hour", answers: download("image/*")}),
		"GET /v1/models":                     only(operation{summary: "The models", answers: ok(openAIModelList{})}),
		"GET /v1/models/{id}":                only(operation{summary: "One model", answers: ok(openAIModelEntry{})}),
	}
}

// sdapiBody is what parseSdapi reads; nil is left out.
type sdapiBody struct {
	Prompt           *string         `json:"prompt"`
	NegativePrompt   *string         `json:"negative_prompt"`
	Width            *int            `json:"width"`
	Height           *int            `json:"height"`
	Steps            *int            `json:"steps"`
	CFGScale         *float64        `json:"cfg_scale"`
	Seed             *int64          `json:"seed"`
	SamplerName      *string         `json:"sampler_name"`
	SamplerIndex     any             `json:"sampler_index"` // an older name; a number once
	Scheduler        *string         `json:"scheduler"`
	BatchSize        *int            `json:"batch_size"`
	Batches          *int            `json:"n_iter"`
	OverrideSettings *sdapiOverrides `json:"override_settings"`
	SendImages       *bool           `json:"send_images"`
	SaveImages       *bool           `json:"save_images"`
	TaskID           *string         `json:"force_task_id"`
	User             *string         `json:"user"`
	DeviceID         *gpu.Ref        `json:"device_id"`
}

// sdapiOverrides are the settings that count, of a request or of all.
type sdapiOverrides struct {
	Checkpoint *string `json:"sd_model_checkpoint"`
}

// sdapiTaskBody asks for one request.
type sdapiTaskBody struct {
	TaskID        *string `json:"id_task"`
	LivePreview   *bool   `json:"live_preview"`
	IDLivePreview *int64  `json:"id_live_preview"` // that is there already
}

// sdapiUser is whose requests are meant.
type sdapiUser struct {
	User *string `json:"user"`
}

// sdapiImages is what writeSdapi writes.
type sdapiImages struct {
	Images []string `json:"images"` // base64
	sdapiRest
}

func sdapiOperations() map[string][]operation {
	object, list, nothing := openapi.Is("object"), openapi.List(openapi.Is("object")), openapi.Is("null")
	all := map[string][]operation{
		"POST /sdapi/v1/txt2img": only(operation{summary: "Make images and wait for them", params: []param{idempotency},
			asks: body{value: sdapiBody{}, lax: true}, answers: ok(sdapiImages{})}),
		"GET /sdapi/v1/progress":             only(operation{summary: "How far all requests of this API are", params: []param{{name: "skip_current_image", schema: openapi.Is("boolean")}}, answers: ok(sdapiProgress{})}),
		"POST /sdapi/v1/interrupt":           only(operation{summary: "End this user's requests with what they have", asks: body{value: sdapiUser{}, lax: true, empty: true}, answers: ok(object)}),
		"POST /sdapi/v1/skip":                only(operation{summary: "Give up this user's images that are being made", asks: body{value: sdapiUser{}, lax: true, empty: true}, answers: ok(object)}),
		"GET /sdapi/v1/options":              only(operation{summary: "The settings", answers: ok(sdapiOptions{})}),
		"POST /sdapi/v1/options":             only(operation{summary: "Choose the model of requests that name none", asks: body{value: sdapiOverrides{}, lax: true}, answers: ok(nothing)}),
		"GET /sdapi/v1/sd-models":            only(operation{summary: "The models", answers: ok([]sdapiModelEntry{})}),
		"POST /sdapi/v1/refresh-checkpoints": only(operation{summary: "Nothing: the list is always fresh", answers: ok(nothing)}),
		"GET /sdapi/v1/samplers":             only(operation{summary: "The samplers", answers: ok([]sdapiSamplerEntry{})}),
		"GET /sdapi/v1/schedulers":           only(operation{summary: "The schedules of noise", answers: ok([]sdapiSchedulerEntry{})}),
		"GET /sdapi/v1/memory":               only(operation{summary: "Memory of the machine, and of all devices together", answers: ok(object)}),
		"GET /sdapi/v1/cmd-flags":            only(operation{summary: "How it was started", answers: ok(object)}),
		"GET /sdapi/v1/scripts":              only(operation{summary: "The scripts: none", answers: ok(object)}),
		"GET /sdapi/v1/script-info":          only(operation{summary: "What the scripts take: there are none", answers: ok(list)}),
		"GET /sdapi/v1/embeddings":           only(operation{summary: "The embeddings: none", answers: ok(object)}),
		"GET /internal/ping":                 only(operation{summary: "Whether anybody is there", answers: ok(object)}),
		"POST /internal/progress":            only(operation{summary: "How far one request is", asks: body{value: sdapiTaskBody{}, needs: []string{"id_task"}, lax: true}, answers: ok(sdapiTask{})}),
		"GET " + gradioStatus:                only(operation{summary: "How long the queue of the page is: there is no page", answers: ok(object)}),
	}
	for _, name := range sdapiNothing {
		all["GET /sdapi/v1/"+name] = only(operation{summary: "Empty: there is nothing of the kind", answers: ok(list)})
	}
	for _, name := range sdapiFromImages {
		all["POST /sdapi/v1/"+name] = only(operation{summary: "Not supported: answered with an error that says so", asks: body{media: "application/json", empty: true},
			errors: map[int]any{http.StatusBadRequest: sdapiError{}}})
	}
	return all
}
