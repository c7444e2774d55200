package server

import (
	"reflect"
	"strings"

	"muster/agent/server/openapi"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/pool"
	"muster/shared/wire"
)

// apiTags are the groups of operations.
var apiTags = []openapi.Tag{
	{Name: "machine", Description: "What the devices are and do."}, {Name: "jobs", Description: "Images: asked for, waited for, fetched."},
	{Name: "devices", Description: "What people decide about the devices."}, {Name: "models", Description: "What images are made with."},
	{Name: "agent", Description: "The agent itself, and who may use it."},
	{Name: "earlier", Description: "The API of an earlier system, as its clients know it."},
	{Name: "openai", Description: "OpenAI's images API."}, {Name: "sdapi", Description: "The API of stable-diffusion-webui."},
}

// tagOf gives the group of a path.
func tagOf(path string) string {
	for _, group := range []struct{ prefix, tag string }{
		{"/v1/", "openai"}, {"/sdapi/", "sdapi"}, {"/internal/", "sdapi"}, {gradioStatus, "sdapi"},
		{"/api/v1/setup/", "earlier"}, {"/api/v1/system/", "earlier"}, {"/api/v1/personas/", "earlier"},
		{"/api/v1/jobs", "jobs"}, {"/api/v1/sets", "jobs"}, {"/api/v1/images", "jobs"},
		{"/api/v1/devices/by-load", "machine"}, {"/api/v1/devices/least-loaded", "machine"}, {"/api/v1/devices/{id}/pcie-throughput", "machine"},
		{"/api/v1/devices", "devices"}, {"/api/v1/pool", "devices"},
		{"/api/v1/models", "models"}, {"/api/v1/generators", "models"}, {"/api/v1/workflows", "models"},
		{"/api/v1/snapshot", "machine"}, {"/api/v1/inventory", "machine"}, {"/api/v1/details", "machine"}, {"/api/v1/history", "machine"},
		{"/api/v1/events", "machine"}, {"/metrics", "machine"},
	} {
		if strings.HasPrefix(path, group.prefix) {
			return group.tag
		}
	}
	return "agent"
}

// pathWords says what a parameter of a path is.
func pathWords(path, name string) string {
	switch {
	case strings.HasPrefix(path, "/api/v1/devices/"):
		return "a device: its number, cpu, or its stable ID"
	case strings.HasPrefix(path, "/api/v1/images/"):
		return "the image_id of a job"
	case strings.HasPrefix(path, "/api/v1/sets/"):
		return "the set_id of a job"
	case strings.HasPrefix(path, "/api/v1/models/installs/"):
		return "the id of an installation"
	case strings.HasPrefix(path, "/v1/models/"):
		return "a model's name, or one of OpenAI's that stands for the default"
	case strings.HasPrefix(path, "/v1/images/files/"):
		return "part of a link that was given"
	case name == "name":
		return "the name of a model or workflow"
	}
	return "the id of a job"
}

// The ways to say who one is.
var securitySchemes = map[string]openapi.SecurityScheme{
	"token":    {Type: "http", Scheme: "bearer", Description: "The token in the agent's data folder, or MUSTER_TOKEN."},
	"session":  {Type: "apiKey", In: "cookie", Name: "muster-session-8000", Description: "A browser's session. The end of the cookie's name is the port of the agent's address, as the browser has it."},
	"password": {Type: "http", Scheme: "basic", Description: "Any name, and the token as password."},
}

// securityOf says who may use a route.
func securityOf(r route) []map[string][]string {
	way := func(name string) map[string][]string { return map[string][]string{name: {}} }
	switch {
	case r.access == public:
		return []map[string][]string{}
	case r.access == needsBearer:
		return []map[string][]string{way("token")}
	case doorOf(r.path) == sdapiDoor:
		return []map[string][]string{way("password"), way("token"), way("session")}
	}
	return []map[string][]string{way("token"), way("session")}
}

// newCatalogue knows the types that write themselves, and those whose values are words.
func newCatalogue() *openapi.Catalogue {
	types := openapi.NewCatalogue(reflect.TypeFor[Server]().PkgPath())
	number, null := openapi.Is("number"), openapi.Is("null")
	index := openapi.Is("integer")
	index.Minimum = new(0.0)
	types.Null = map[reflect.Type][]string{reflect.TypeFor[gpu.Details](): {"processes"}, reflect.TypeFor[sdapiSchedulerEntry](): {"aliases"}}
	known := types.Known
	known[reflect.TypeFor[gpu.Ref]()] = openapi.Any(index, openapi.OneOfWords(gpu.CPU.String()))
	known[reflect.TypeFor[gigabytes]()] = number
	known[reflect.TypeFor[gpu.Throttle]()] = openapi.List(openapi.Is("string"))
	known[reflect.TypeFor[wire.Column]()] = openapi.List(openapi.Any(number, null))
	known[reflect.TypeFor[job.State]()] = openapi.OneOfWords(job.States...)
	known[reflect.TypeFor[pool.Mode]()] = openapi.OneOfWords(append([]pool.Mode{""}, pool.Modes...)...)
	known[reflect.TypeFor[wire.Phase]()] = openapi.OneOfWords(wire.PhaseActive, wire.PhasePaused, wire.PhaseDraining, wire.PhaseDrained, wire.PhaseReserved, wire.PhaseYielding, wire.PhaseLimited)
	known[reflect.TypeFor[wire.GeneratorState]()] = openapi.OneOfWords(wire.GeneratorIdle, wire.GeneratorStarting, wire.GeneratorReady, wire.GeneratorResting, wire.GeneratorUnreachable, wire.GeneratorUnplaced, wire.GeneratorUnusable)
	known[reflect.TypeFor[model.InstallState]()] = openapi.OneOfWords(model.Waiting, model.Downloading, model.Verifying, model.Loading, model.Installed, model.Failed, model.Stopped)
	known[reflect.TypeFor[model.LoadState]()] = openapi.OneOfWords(model.LoadWaits, model.LoadRuns, model.LoadFailed)
	known[reflect.TypeFor[gpu.State]()] = openapi.OneOfWords(gpu.StateOK, gpu.StateSuspended, gpu.StateStuck, gpu.StateLost, gpu.StateDriverMismatch, gpu.StateNoDriver, gpu.StateNoPermission, gpu.StateUnsupported)
	known[reflect.TypeFor[listedDevice]()] = openapi.Any(types.Answer(reflect.TypeFor[setupDevice]()), types.Answer(reflect.TypeFor[unreadableDevice]()))
	points := types.Answer(reflect.TypeFor[[]historyPoint]())
	known[reflect.TypeFor[listOrLists]()] = openapi.Any(points, &openapi.Schema{Type: openapi.Types{"object"}, Additional: points})
	return types
}

// bound adds what job.Spec.Validate allows.
func bound(schemas map[string]*openapi.Schema) {
	spec := schemas["JobSpecAsk"]
	for field, bounds := range map[string][2]float64{
		"width": {job.MinSide, job.MaxSide}, "height": {job.MinSide, job.MaxSide}, "steps": {1, job.MaxSteps}, "count": {1, job.MaxCount},
		"guidance": {0, job.MaxGuidance}, "seed": {0, job.MaxSeed}, "priority": {-job.MaxPriority, job.MaxPriority},
	} {
		own := *spec.Properties[field]
		own.Minimum, own.Maximum = &bounds[0], &bounds[1]
		spec.Properties[field] = &own
	}
}
