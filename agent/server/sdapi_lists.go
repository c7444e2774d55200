package server

import (
	"net/http"

	"muster/shared/gpu"
)

// constant answers with what never changes: that clients ask for it is all that is known of it here.
func constant(value any) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, _ *http.Request) error {
		writeJSON(w, http.StatusOK, value)
		return nil
	}
}

// sdapiRoutes is everything below /sdapi/, and what the programs that speak it ask for beside it. Lists are empty where there is
// nothing of the kind.
func (s *Server) sdapiRoutes() []route {
	type empty = []struct{}
	type object = map[string]any
	get := func(path string, serve func(http.ResponseWriter, *http.Request) error) route {
		return route{method: "GET", path: path, serve: serve}
	}
	post := func(path string, serve func(http.ResponseWriter, *http.Request) error) route {
		return route{method: "POST", path: path, serve: serve}
	}
	routes := []route{
		post("/sdapi/v1/txt2img", s.sdapiTxt2img), get("/sdapi/v1/progress", s.sdapiGetProgress),
		post("/sdapi/v1/interrupt", s.sdapiInterrupt), post("/sdapi/v1/skip", s.sdapiSkip),
		get("/sdapi/v1/options", s.sdapiGetOptions), post("/sdapi/v1/options", s.sdapiPutOptions),
		get("/sdapi/v1/sd-models", s.sdapiModels), post("/sdapi/v1/refresh-checkpoints", constant(nil)),
		get("/sdapi/v1/samplers", s.sdapiSamplers), get("/sdapi/v1/schedulers", s.sdapiSchedulers),
		get("/sdapi/v1/memory", s.sdapiMemory), get("/sdapi/v1/cmd-flags", constant(object{"api": true, "nowebui": true})),
		get("/sdapi/v1/scripts", constant(object{"txt2img": empty{}, "img2img": empty{}})), get("/sdapi/v1/script-info", constant(empty{})),
		get("/sdapi/v1/embeddings", constant(object{"loaded": struct{}{}, "skipped": struct{}{}})),
		get("/internal/ping", constant(struct{}{})), post("/internal/progress", s.sdapiTaskProgress),
		get(gradioStatus, constant(object{"msg": "estimation", "queue_size": 0})),
		{path: "/sdapi/", serve: s.sdapiUnknown},
	}
	for _, nothing := range sdapiNothing {
		routes = append(routes, get("/sdapi/v1/"+nothing, constant(empty{})))
	}
	for _, image := range sdapiFromImages {
		routes = append(routes, post("/sdapi/v1/"+image, s.sdapiUnsupported))
	}
	return routes
}

// sdapiNothing are the lists of which there is nothing here, sdapiFromImages what begins with an image.
var (
	sdapiNothing = []string{
		"upscalers", "latent-upscale-modes", "sd-vae", "sd-modules", "loras", "hypernetworks", "prompt-styles", "face-restorers",
		"realesrgan-models", "extensions",
	}
	sdapiFromImages = []string{"img2img", "extra-single-image", "extra-batch-images", "interrogate", "png-info"}
)

// gradioStatus is asked by a plug-in for Krita, to see whether anybody is there.
const gradioStatus = "/queue/status"

// sdapiUse is memory in bytes.
type sdapiUse struct {
	Free  uint64 `json:"free"`
	Used  uint64 `json:"used"`
	Total uint64 `json:"total"`
}

var sdapiUnavailable = map[string]string{"error": "unavailable"}

// sdapiMemory answers GET /sdapi/v1/memory: the machine's, and that of all devices together that can be read.
func (s *Server) sdapiMemory(w http.ResponseWriter, _ *http.Request) error {
	answer := map[string]any{"ram": sdapiUnavailable, "cuda": sdapiUnavailable}
	if snapshot := s.config.Snapshot(); snapshot != nil {
		if use, ok := sdapiUseOf(snapshot.Host.MemoryUsedBytes, snapshot.Host.MemoryTotalBytes); ok {
			answer["ram"] = use
		}
		if use, ok := sdapiDevices(snapshot.GPUs); ok {
			answer["cuda"] = map[string]any{"system": use}
		}
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func sdapiUseOf(used, total *uint64) (sdapiUse, bool) {
	if used == nil || total == nil || *used > *total {
		return sdapiUse{}, false
	}
	return sdapiUse{*total - *used, *used, *total}, true
}

func sdapiDevices(readings []gpu.Reading) (sum sdapiUse, any bool) {
	for _, reading := range readings {
		use, ok := sdapiUseOf(reading.MemoryUsedBytes, reading.MemoryTotalBytes)
		if !ok {
			continue
		}
		sum, any = sdapiUse{sum.Free + use.Free, sum.Used + use.Used, sum.Total + use.Total}, true
	}
	return sum, any
}
