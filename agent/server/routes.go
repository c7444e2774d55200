package server

import (
	"net/http"
	"slices"
	"strings"

	"muster/shared/pool"
)

// access says what a route asks of its caller. The zero value asks for most of what there is, so that a route of which nothing
// was said is closed.
type access int

const (
	needsAuth   access = iota // a session's cookie or the token
	needsAdmin                // who may change the machine: its models and workflows. As there are no roles yet, that is whoever has a session or the token
	needsBearer               // the token itself: for what a browser must not do
	public                    // nothing beyond the right Host and Origin
)

// route is one line of the table.
type route struct {
	method string // GET answers HEAD too
	path   string // a pattern of http.ServeMux, without method and host
	access access
	legacy bool // errors in the earlier system's form, {"detail"}
	serve  func(http.ResponseWriter, *http.Request) error
}

// routes is everything that the server answers.
func (s *Server) routes() []route {
	return slices.Concat(s.ownRoutes(), s.openAIRoutes(), s.sdapiRoutes())
}

// ownRoutes are the page, and the API of the agent and of the earlier system.
func (s *Server) ownRoutes() []route {
	return []route{
		{method: "GET", path: "/healthz", access: public, serve: s.healthz},
		{method: "GET", path: "/readyz", access: public, serve: s.readyz},
		{method: "GET", path: "/metrics", serve: s.metrics},
		{method: "GET", path: "/api/v1/openapi.json", serve: s.openAPI},

		{method: "POST", path: "/api/v1/session", access: public, serve: s.pair},
		{method: "GET", path: "/api/v1/session", serve: s.session},
		{method: "DELETE", path: "/api/v1/session", serve: s.logout},
		{method: "POST", path: "/api/v1/session/link", access: needsBearer, serve: s.link},

		{method: "GET", path: "/api/v1/events", serve: s.events},
		{method: "GET", path: "/api/v1/snapshot", serve: s.snapshot},
		{method: "GET", path: "/api/v1/inventory", serve: s.inventory},
		{method: "GET", path: "/api/v1/details", serve: s.details},
		{method: "GET", path: "/api/v1/history", serve: s.history},

		{method: "POST", path: "/api/v1/jobs", serve: s.postJobs},
		{method: "GET", path: "/api/v1/jobs", serve: s.listJobs},
		{method: "GET", path: "/api/v1/jobs/{id}", serve: s.getJob},
		{method: "DELETE", path: "/api/v1/jobs/{id}", serve: s.deleteJob},
		{method: "GET", path: "/api/v1/jobs/{id}/preview", serve: s.preview},
		{method: "GET", path: "/api/v1/jobs/export", serve: s.exportJobs},
		{method: "GET", path: "/api/v1/sets/{id}", serve: s.getSet},
		{method: "DELETE", path: "/api/v1/sets/{id}", serve: s.deleteSet},
		{method: "GET", path: "/api/v1/images/{id}", serve: s.image},

		{method: "GET", path: "/api/v1/devices/least-loaded", serve: s.leastLoaded},
		{method: "GET", path: "/api/v1/devices/by-load", serve: s.byLoad},
		{method: "GET", path: "/api/v1/devices/{id}/pcie-throughput", serve: s.pcieThroughput},
		{method: "POST", path: "/api/v1/devices/{id}/pause", serve: s.setMode(pool.Paused)},
		{method: "POST", path: "/api/v1/devices/{id}/drain", serve: s.setMode(pool.Draining)},
		{method: "POST", path: "/api/v1/devices/{id}/reserve", serve: s.setMode(pool.Reserved)},
		{method: "POST", path: "/api/v1/devices/{id}/resume", serve: s.setMode(pool.Active)},
		{method: "GET", path: "/api/v1/devices/{id}/control", serve: s.getControl},
		{method: "PUT", path: "/api/v1/devices/{id}/control", serve: s.putControl},
		{method: "PATCH", path: "/api/v1/devices/{id}/control", serve: s.patchControl},
		{method: "GET", path: "/api/v1/generators", serve: s.generators},
		{method: "GET", path: "/api/v1/workflows", serve: s.listWorkflows},
		{method: "PUT", path: "/api/v1/workflows/{name}", access: needsAdmin, serve: s.putWorkflow},
		{method: "DELETE", path: "/api/v1/workflows/{name}", access: needsAdmin, serve: s.deleteWorkflow},
		{method: "GET", path: "/api/v1/pool", serve: s.getPool},
		{method: "PUT", path: "/api/v1/pool", serve: s.putPool},

		{method: "GET", path: "/api/v1/models", serve: s.listModels},
		{method: "GET", path: "/api/v1/models/recommendations", serve: s.recommendModels},
		{method: "GET", path: "/api/v1/models/installs", serve: s.listInstalls},
		{method: "POST", path: "/api/v1/models/install", access: needsAdmin, serve: s.installModel},
		{method: "DELETE", path: "/api/v1/models/{name}", access: needsAdmin, serve: s.removeModel},
		{method: "POST", path: "/api/v1/models/{name}/{action}", access: needsAdmin, serve: s.changeModel},   // enable, disable, load
		{method: "DELETE", path: "/api/v1/models/{name}/{action}", access: needsAdmin, serve: s.stopInstall}, // installs/ID
		{method: "POST", path: "/api/v1/models/installs/{id}/again", access: needsAdmin, serve: s.againInstall},

		{method: "GET", path: "/api/v1/setup/ai-models/recommendations", legacy: true, serve: s.setupRecommendations},
		{method: "POST", path: "/api/v1/setup/ai-models/install", access: needsAdmin, legacy: true, serve: s.setupInstall},
		{method: "POST", path: "/api/v1/setup/ai-models/enable", access: needsAdmin, legacy: true, serve: s.setupEnable},
		{method: "POST", path: "/api/v1/setup/ai-models/uninstall", access: needsAdmin, legacy: true, serve: s.setupUninstall},
		{method: "GET", path: "/api/v1/setup/ai-models/status", legacy: true, serve: s.setupStatus},
		{method: "GET", path: "/api/v1/setup/models/status", legacy: true, serve: s.setupStatus},
		{method: "GET", path: "/api/v1/system/gpu/temperature", legacy: true, serve: s.gpuTemperature},
		{method: "GET", path: "/api/v1/system/gpu/status", legacy: true, serve: s.gpuStatus},
		{method: "GET", path: "/api/v1/system/gpu/temperature/history", legacy: true, serve: s.gpuHistory},
		{method: "GET", path: "/api/v1/system/gpu/temperature/max", legacy: true, serve: s.gpuMax},
		{method: "POST", path: "/api/v1/personas/generate-sample-images", legacy: true, serve: s.sampleImages},
		{method: "POST", path: "/api/v1/personas/random", legacy: true, serve: s.randomPersona},

		// What is left below the API's prefix is no page: it answers 404 in the API's form, to those who may ask.
		{path: "/api/", serve: notFound},
		{method: "GET", path: "/", access: public, serve: s.site.serve},
	}
}

// resource is all routes of one path.
type resource struct {
	methods []route
	refuse  func(http.ResponseWriter, *http.Request, error, bool) // answers an error
}

// route finds what answers a method; HEAD is GET's, and a route without a method answers all.
func (p *resource) route(method string) (route, bool) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	for _, r := range p.methods {
		if r.method == method || r.method == "" {
			return r, true
		}
	}
	return route{}, false
}

func (p *resource) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	found, ok := p.route(r.Method)
	if !ok {
		p.refuse(w, r, p.methodNotAllowed(r.Method), p.methods[0].legacy)
		return
	}
	if err := found.serve(w, r); err != nil {
		p.refuse(w, r, err, found.legacy)
	}
}

func (p *resource) methodNotAllowed(method string) *refusal {
	var allowed []string
	for _, r := range p.methods {
		allowed = append(allowed, r.method)
		if r.method == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	slices.Sort(allowed)
	list := strings.Join(allowed, ", ")
	return &refusal{status: http.StatusMethodNotAllowed, code: "method_not_allowed", allow: list,
		message: cut(method) + " is not answered here; allowed are " + list}
}

// table builds the mux and the same by pattern, for the guard.
func (s *Server) table(routes []route) (*http.ServeMux, map[string]*resource) {
	mux := http.NewServeMux()
	resources := map[string]*resource{}
	for _, r := range routes {
		p := resources[r.path]
		if p == nil {
			p = &resource{refuse: s.refuse}
			resources[r.path] = p
			mux.Handle(r.path, p)
		}
		p.methods = append(p.methods, r)
	}
	return mux, resources
}

func notFound(http.ResponseWriter, *http.Request) error {
	return &refusal{status: http.StatusNotFound, code: "not_found", message: "nothing is here: the README lists the routes"}
}
