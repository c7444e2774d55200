package server

import (
	"maps"
	"net/http"

	"muster/agent/server/openapi"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/pool"
	"muster/shared/wire"
)

// operations is what the description says of every route, by method and path.
func operations() map[string][]operation {
	all := map[string][]operation{}
	for _, some := range []map[string][]operation{agentOperations(), machineOperations(), jobOperations(), deviceOperations(), modelOperations(), earlierOperations(), openAIOperations(), sdapiOperations()} {
		maps.Copy(all, some)
	}
	return all
}

func only(op operation) []operation { return []operation{op} }

// statusAnswer is the answer of /healthz and /readyz.
type statusAnswer struct {
	Status string `json:"status"`
}

func agentOperations() map[string][]operation {
	return map[string][]operation{
		"GET /healthz":              only(operation{summary: "Whether the agent lives", answers: ok(statusAnswer{})}),
		"GET /readyz":               only(operation{summary: "Whether the agent can take work", answers: ok(statusAnswer{})}),
		"GET /metrics":              only(operation{summary: "Everything measured, for Prometheus", answers: download("text/plain")}),
		"GET /api/v1/openapi.json":  only(operation{summary: "This description", answers: ok(&openapi.Schema{Type: openapi.Types{"object"}})}),
		"POST /api/v1/session":      only(operation{summary: "Let a browser in with the code of a one-time link", asks: body{value: pairAsk{}, needs: []string{"code"}}, answers: ok(okAnswer{})}),
		"GET /api/v1/session":       only(operation{summary: "Whether the caller is let in", answers: ok(okAnswer{})}),
		"DELETE /api/v1/session":    only(operation{summary: "End the browser's session", answers: ok(okAnswer{})}),
		"POST /api/v1/session/link": only(operation{summary: "A new one-time link", answers: ok(newLink{})}),
	}
}

func machineOperations() map[string][]operation {
	moment := "RFC 3339, Unix seconds, or negative seconds before now"
	return map[string][]operation{
		"GET /api/v1/events": only(operation{summary: "A WebSocket of events: what the machine does, and every change of a job. It takes the commands submit and cancel",
			params:  []param{{name: "after", words: "the seq of the last job event that was seen", schema: openapi.Is("integer")}, {name: "history", words: "seconds of the past to begin with", schema: openapi.Is("integer")}},
			answers: map[int]success{http.StatusSwitchingProtocols: {words: "Subprotocol muster.v1.json: each text message is an Event; muster.v1.bin: the same, compact"}}}),
		"GET /api/v1/snapshot":  only(operation{summary: "Everything measured, at the newest tick", answers: ok(gpu.Snapshot{})}),
		"GET /api/v1/inventory": only(operation{summary: "The devices, and what does not change about them", answers: ok(gpu.Inventory{})}),
		"GET /api/v1/details":   only(operation{summary: "What is asked less often: processes, faults, ECC, links, energy", answers: ok(gpu.Report{})}),
		"GET /api/v1/history": only(operation{summary: "What a metric of a device was", answers: ok(past{}), params: []param{
			{name: "device", words: "a device's number or stable ID", required: true}, {name: "metric", required: true, schema: openapi.OneOfWords(gpu.Metrics...)},
			{name: "from", words: moment + "; 10 minutes before to where it is left out"}, {name: "to", words: moment + "; now where it is left out"},
			{name: "points", words: "how many at most", schema: openapi.Is("integer")}}}),
		"GET /api/v1/devices/least-loaded":         only(operation{summary: "The device with the least memory in use; null when there is none", answers: ok(leastLoaded{})}),
		"GET /api/v1/devices/by-load":              only(operation{summary: "The devices by memory in use", answers: ok(byLoad{})}),
		"GET /api/v1/devices/{id}/pcie-throughput": only(operation{summary: "What moves over the device's bus, measured now", answers: ok(gpu.PCIeThroughput{})}),
	}
}

// idempotency is the header of commands that may be sent again.
var idempotency = param{name: "Idempotency-Key", words: "the same key again gives the same answer", header: true}

func jobOperations() map[string][]operation {
	filter := []param{
		{name: "state", schema: openapi.OneOfWords(job.States...)}, {name: "set_id", words: "of one set alone"},
		{name: "after", words: "the next of the page before"},
	}
	page := append(append([]param{}, filter...), param{name: "limit", words: "1 to 1000; 100 where it is left out", schema: openapi.Is("integer")}, param{name: "order", schema: openapi.OneOfWords("oldest", "newest")})
	return map[string][]operation{
		"POST /api/v1/jobs": only(operation{summary: "Ask for images: what is accepted is durable", params: []param{idempotency}, asks: body{value: job.Spec{}, needs: []string{"prompt"}},
			answers: map[int]success{http.StatusAccepted: {value: accepted{}}, http.StatusOK: {value: accepted{}, words: "The key stood for the same command already"}}}),
		"GET /api/v1/jobs":              only(operation{summary: "A page of jobs", params: page, answers: ok(jobList{})}),
		"GET /api/v1/jobs/{id}":         only(operation{summary: "One image", answers: ok(job.Job{})}),
		"DELETE /api/v1/jobs/{id}":      only(operation{summary: "Cancel an image", answers: ok(job.Job{})}),
		"GET /api/v1/jobs/{id}/preview": only(operation{summary: "The newest picture of an image that is being made", answers: download("image/*")}),
		"GET /api/v1/jobs/export":       only(operation{summary: "Every job, one line of JSON each", params: filter, answers: download("application/x-ndjson")}),
		"GET /api/v1/sets/{id}":         only(operation{summary: "All images of a command", answers: ok(set{})}),
		"DELETE /api/v1/sets/{id}":      only(operation{summary: "Cancel what is left of a command", answers: ok(set{})}),
		"GET /api/v1/images/{id}": only(operation{summary: "A finished image", params: []param{{name: "size", words: "thumb is a small JPEG", schema: openapi.OneOfWords("thumb")}},
			answers: download("image/*")}),
	}
}

func deviceOperations() map[string][]operation {
	term := body{value: termAsk{}, empty: true}
	mode := func(summary string) []operation {
		return only(operation{summary: summary, asks: term, answers: ok(steeredDevice{})})
	}
	return map[string][]operation{
		"POST /api/v1/devices/{id}/pause":    mode("Give the device no new work"),
		"POST /api/v1/devices/{id}/drain":    mode("Give the device no new work, and free its memory when it is done"),
		"POST /api/v1/devices/{id}/reserve":  mode("Leave the device to other programs at once"),
		"POST /api/v1/devices/{id}/resume":   only(operation{summary: "Give the device work again", answers: ok(steeredDevice{})}),
		"GET /api/v1/devices/{id}/control":   only(operation{summary: "What people decided about the device", answers: ok(pool.Control{})}),
		"PUT /api/v1/devices/{id}/control":   only(operation{summary: "Decide anew: what is left out is undone", asks: body{value: pool.Control{}}, answers: ok(pool.Control{})}),
		"PATCH /api/v1/devices/{id}/control": only(operation{summary: "Decide some things: what is left out stays, null undoes", asks: body{value: pool.Control{}}, answers: ok(pool.Control{})}),
		"GET /api/v1/pool":                   only(operation{summary: "What people decided about all devices, and what each does", answers: ok(wire.Pool{})}),
		"PUT /api/v1/pool":                   only(operation{summary: "Set the power budget of all devices together", asks: body{value: pool.Settings{}}, answers: ok(wire.Pool{})}),
	}
}

func modelOperations() map[string][]operation {
	const change = "/api/v1/models/{name}/"
	return map[string][]operation{
		"GET /api/v1/generators":             only(operation{summary: "The programs that make images, those that can't now too", answers: ok(generatorList{})}),
		"GET /api/v1/workflows":              only(operation{summary: "The workflows of ComfyUI that were imported", answers: ok(workflowList{})}),
		"PUT /api/v1/workflows/{name}":       only(operation{summary: "Import a workflow in ComfyUI's API format", params: []param{{name: "If-None-Match", words: "* replaces none", header: true}}, asks: body{media: "application/json"}, answers: ok(wire.Workflow{})}),
		"DELETE /api/v1/workflows/{name}":    only(operation{summary: "Remove a workflow", answers: map[int]success{http.StatusNoContent: {}}}),
		"GET /api/v1/models":                 only(operation{summary: "The models, and where they fit", answers: ok(model.Offers{})}),
		"GET /api/v1/models/recommendations": only(operation{summary: "Well-known models, the best for this machine first", answers: ok(model.Recommendations{})}),
		"GET /api/v1/models/installs":        only(operation{summary: "The models that are being installed", answers: ok(model.Installs{})}),
		"POST /api/v1/models/install": only(operation{summary: "Install a model from an address, or from a repository of the hub", asks: body{value: installAsk{}},
			answers: map[int]success{http.StatusAccepted: {value: model.Install{}}}}),
		"DELETE /api/v1/models/{name}": only(operation{summary: "Delete a model's file", answers: ok(removedModel{})}),
		"POST /api/v1/models/{name}/{action}": {
			{path: change + "enable", summary: "Let a model be used", answers: ok(model.Offer{})},
			{path: change + "disable", summary: "Keep a model from being used", answers: ok(model.Offer{})},
			{path: change + "load", summary: "Load a model on a device ahead of the first image", asks: body{value: loadAsk{}, needs: []string{"device_id"}},
				answers: map[int]success{http.StatusOK: {value: loading{}, words: "It is loaded"}, http.StatusAccepted: {value: loading{}, words: "It goes on: loads of GET /api/v1/models tells what becomes of it"}}},
		},
		"DELETE /api/v1/models/{name}/{action}": only(operation{path: "/api/v1/models/installs/{id}", summary: "End an installation", answers: ok(model.Install{})}),
		"POST /api/v1/models/installs/{id}/again": only(operation{summary: "Ask for an installation once more",
			answers: map[int]success{http.StatusAccepted: {value: model.Install{}}}}),
	}
}
