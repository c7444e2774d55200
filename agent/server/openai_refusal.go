package server

import (
	"net/http"
	"strconv"
)

// openAIError is what OpenAI's clients take errors from.
type openAIError struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"` // null when no single one is wrong
	Code    string  `json:"code"`
}

// openAI gives the error in OpenAI's form. Its clients show the message and branch on type and code.
func (r *refusal) openAI() openAIError {
	e := openAIError{Message: r.Error(), Type: "invalid_request_error", Code: r.code}
	if r.field != "" {
		e.Param = new(r.field)
	}
	switch {
	case r.status == http.StatusUnauthorized:
		e.Code = "invalid_api_key"
	case r.status == http.StatusForbidden:
		e.Type = "permission_error"
	case r.status == http.StatusTooManyRequests:
		e.Type = "rate_limit_error"
	case r.status >= http.StatusInternalServerError:
		e.Type = "server_error"
	case r.code == "invalid":
		e.Code = "invalid_value"
	}
	return e
}

func (r *refusal) writeOpenAI(w http.ResponseWriter) {
	r.headers(w.Header())
	// Its clients repeat requests that failed by themselves; making every image once more mends nothing.
	w.Header().Set("X-Should-Retry", strconv.FormatBool(r.retry > 0))
	writeJSON(w, r.status, openAIRefusal{r.openAI()})
}

type openAIRefusal struct {
	Error openAIError `json:"error"`
}

// openAIUnknown answers what is not there below /v1/, the chat and audio that its clients can ask for too.
func (s *Server) openAIUnknown(_ http.ResponseWriter, r *http.Request) error {
	discard(r)
	return &refusal{status: http.StatusNotFound, code: "unknown_url",
		message: "unknown request URL: " + cut(r.Method) + " " + cut(r.URL.Path) + "; of OpenAI's API there are here /v1/images/generations and /v1/models"}
}

// openAIUnsupported answers what begins with an image.
func (s *Server) openAIUnsupported(_ http.ResponseWriter, r *http.Request) error {
	discard(r)
	return &refusal{status: http.StatusBadRequest, code: "unsupported",
		message: "images are only made from text here: edits and variations of images are not supported; use /v1/images/generations"}
}
