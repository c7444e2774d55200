package server

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"muster/shared/wire"
)

func TestWorkflowsAreImportedListedAndRemoved(t *testing.T) {
	t.Parallel()
	kept := map[string]string{}
	a := newAgent(t, func(c *Config) {
		c.Workflows = Workflows{
			List: func() (list []wire.Workflow) {
				for name := range kept {
					list = append(list, wire.Workflow{Name: name, Slots: []string{"prompt"}})
				}
				return list
			},
			Import: func(_ context.Context, name string, text []byte, replace bool) (wire.Workflow, error) {
				if _, there := kept[name]; there && !replace {
					return wire.Workflow{}, fmt.Errorf("keep: %w", fs.ErrExist)
				}
				if string(text) == "bad" {
					return wire.Workflow{}, fmt.Errorf("%w: it has no prompt", ErrWorkflow)
				}
				kept[name] = string(text)
				return wire.Workflow{Name: name, Slots: []string{"prompt"}}, nil
			},
			Remove: func(name string) error {
				if _, ok := kept[name]; !ok {
					return fmt.Errorf("remove: %w", fs.ErrNotExist)
				}
				delete(kept, name)
				return nil
			},
		}
	})
	long := strings.Repeat("x", maxBodyBytes+1)
	for _, tt := range []struct {
		method, path, body string
		status             int
		words              string
	}{
		{"GET", "/api/v1/workflows", "", http.StatusOK, `{"workflows":[]}`},
		{"PUT", "/api/v1/workflows/my%20style", long, http.StatusOK, `{"name":"my style","slots":["prompt"]}`},
		{"PUT", "/api/v1/workflows/bad", "bad", http.StatusBadRequest, "it has no prompt"},
		{"PUT", "/api/v1/workflows/huge", strings.Repeat("x", maxWorkflowBytes+1), http.StatusRequestEntityTooLarge, "at most 1048576 bytes"},
		{"PUT", "/api/v1/workflows/my%20style", "again", http.StatusOK, `{"name":"my style","slots":["prompt"]}`},
		{"GET", "/api/v1/workflows", "", http.StatusOK, `{"workflows":[{"name":"my style","slots":["prompt"]}]}`},
		{"DELETE", "/api/v1/workflows/another", "", http.StatusNotFound, "no such workflow"},
		{"DELETE", "/api/v1/workflows/my%20style", "", http.StatusNoContent, ""},
		{"GET", "/api/v1/workflows", "", http.StatusOK, `{"workflows":[]}`},
	} {
		if got := a.ask(tt.method, tt.path, tt.body); got.status != tt.status || !strings.Contains(string(got.body), tt.words) {
			t.Errorf("%s %s: %d %.200s; want %d with %s", tt.method, tt.path, got.status, got.body, tt.status, tt.words)
		}
	}
}

func TestWorkflowIsNotReplacedUnasked(t *testing.T) {
	t.Parallel()
	asked := []bool{}
	a := newAgent(t, func(c *Config) {
		c.Workflows.Import = func(_ context.Context, name string, _ []byte, replace bool) (wire.Workflow, error) {
			if asked = append(asked, replace); !replace {
				return wire.Workflow{}, fmt.Errorf("keep: %w", fs.ErrExist)
			}
			return wire.Workflow{Name: name}, nil
		}
	})
	for _, test := range []struct {
		condition string
		status    int
	}{{"*", http.StatusPreconditionFailed}, {"", http.StatusOK}, {`"x"`, http.StatusBadRequest}} {
		var headers []string
		if test.condition != "" {
			headers = []string{"If-None-Match", test.condition}
		}
		if got := a.ask("PUT", "/api/v1/workflows/x", "{}", headers...); got.status != test.status {
			t.Errorf("If-None-Match %q: %d %s, want %d", test.condition, got.status, got.body, test.status)
		}
	}
	if len(asked) != 2 || asked[0] || !asked[1] {
		t.Errorf("asked to replace: %v", asked)
	}
}

func TestWorkflowsWithoutComfyUI(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, ask := range [][2]string{{"GET", "/api/v1/workflows"}, {"PUT", "/api/v1/workflows/x"}, {"DELETE", "/api/v1/workflows/x"}} {
		if got := a.ask(ask[0], ask[1], "{}"); got.status != http.StatusNotFound || !strings.Contains(got.message(), "no ComfyUI is set up") {
			t.Errorf("%v: %d %s", ask, got.status, got.body)
		}
	}
}
