package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"muster/shared/wire"
)

// Workflows are the administrator's own ComfyUI workflows. Any field may be nil: nobody can do that here.
type Workflows struct {
	List func() []wire.Workflow
	// Import checks a workflow in API format and keeps it under a name, in place of one of that name only if replace says so; else that
	// is fs.ErrExist. Errors that wrap ErrWorkflow are the workflow's, in words for people.
	Import func(ctx context.Context, name string, text []byte, replace bool) (wire.Workflow, error)
	Remove func(name string) error // fs.ErrNotExist when there is none
}

// ErrWorkflow is wrapped by the error of a workflow that can't be used.
var ErrWorkflow = errors.New("the workflow can't be used")

// maxWorkflowBytes bounds a workflow; those of large graphs have some hundred kilobytes.
const maxWorkflowBytes = 1 << 20

var errNoComfyUI = &refusal{status: http.StatusNotFound, code: "not_found", message: "no ComfyUI is set up here, so there are no workflows: see --comfyui and --comfyui-dir"}

// listWorkflows answers GET /api/v1/workflows.
func (s *Server) listWorkflows(w http.ResponseWriter, _ *http.Request) error {
	if s.config.Workflows.List == nil {
		return errNoComfyUI
	}
	writeJSON(w, http.StatusOK, workflowList{append([]wire.Workflow{}, s.config.Workflows.List()...)})
	return nil
}

type workflowList struct {
	Workflows []wire.Workflow `json:"workflows"`
}

// putWorkflow answers PUT /api/v1/workflows/{name}: the body is what ComfyUI's "Export (API)" writes. With "If-None-Match: *" (RFC 9110,
// 13.1.2) it replaces none.
func (s *Server) putWorkflow(w http.ResponseWriter, r *http.Request) error {
	if s.config.Workflows.Import == nil {
		return errNoComfyUI
	}
	text, err := readLong(w, r, maxWorkflowBytes)
	if err != nil {
		return err
	}
	only := r.Header.Get("If-None-Match")
	if only != "" && only != "*" {
		return invalid("If-None-Match", "is %q; there is only *, which replaces no workflow", cut(only))
	}
	ctx, cancel := context.WithTimeout(r.Context(), commandTimeout)
	defer cancel()
	kept, err := s.config.Workflows.Import(ctx, r.PathValue("name"), text, only == "")
	switch {
	case errors.Is(err, ErrWorkflow):
		return &refusal{status: http.StatusBadRequest, code: "invalid", message: err.Error()}
	case errors.Is(err, fs.ErrExist):
		return &refusal{status: http.StatusPreconditionFailed, code: "exists", message: "a workflow of this name is here"}
	case err != nil:
		return fmt.Errorf("keep workflow: %w", err)
	}
	writeJSON(w, http.StatusOK, kept)
	return nil
}

// deleteWorkflow answers DELETE /api/v1/workflows/{name}.
func (s *Server) deleteWorkflow(w http.ResponseWriter, r *http.Request) error {
	if s.config.Workflows.Remove == nil {
		return errNoComfyUI
	}
	switch err := s.config.Workflows.Remove(r.PathValue("name")); {
	case errors.Is(err, fs.ErrNotExist):
		return &refusal{status: http.StatusNotFound, code: "not_found", message: "no such workflow"}
	case errors.Is(err, ErrWorkflow):
		return &refusal{status: http.StatusBadRequest, code: "invalid", message: err.Error()}
	case err != nil:
		return fmt.Errorf("remove workflow: %w", err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
