package server

import "net/http"

// writeSdapi answers in the form of stable-diffusion-webui. It calls what is wrong with a request 422, as FastAPI does.
func (r *refusal) writeSdapi(w http.ResponseWriter) {
	r.headers(w.Header())
	status := r.status
	if status == http.StatusBadRequest && (r.code == "invalid" || r.code == "invalid_json") {
		status = http.StatusUnprocessableEntity
	}
	if status == http.StatusUnauthorized { // browsers and many programs ask their user then
		w.Header().Set("WWW-Authenticate", `Basic realm="muster: any name, and the token as password", charset="UTF-8"`)
	}
	kind := "HTTPException"
	if status >= http.StatusInternalServerError {
		kind = "RuntimeError"
	}
	writeJSON(w, status, sdapiError{kind, r.Error(), "", r.Error(), r.code})
}

// sdapiError is an error in the form of stable-diffusion-webui.
type sdapiError struct {
	Error  string `json:"error"`
	Detail string `json:"detail"`
	Body   string `json:"body"`
	Errors string `json:"errors"`
	Code   string `json:"code"` // is only here
}

// sdapiUnknown answers what is not there below /sdapi/.
func (s *Server) sdapiUnknown(_ http.ResponseWriter, r *http.Request) error {
	discard(r)
	return &refusal{status: http.StatusNotFound, code: "not_found",
		message: "Not Found: " + cut(r.URL.Path) + " is not among what is answered here; the README lists it"}
}

// sdapiUnsupported answers what begins with an image.
func (s *Server) sdapiUnsupported(_ http.ResponseWriter, r *http.Request) error {
	discard(r)
	return &refusal{status: http.StatusBadRequest, code: "unsupported",
		message: "images are only made from text here, by txt2img: " + cut(r.URL.Path) + " is not supported"}
}
