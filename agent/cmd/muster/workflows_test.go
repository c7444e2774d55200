package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/model"
	"muster/shared/wire"
)

// comfyAgent is an agent with a ComfyUI that offers what was imported after a while.
type comfyAgent struct {
	t          *testing.T
	kept       map[string]time.Time
	after      time.Duration // until a workflow is offered; below 0 never
	generators []wire.Generator
	lacks      []string
}

func (a *comfyAgent) RoundTrip(r *http.Request) (*http.Response, error) {
	_, there := a.kept["here"]
	switch path := r.URL.Path; {
	case r.Method == "PUT":
		name := strings.TrimPrefix(path, "/api/v1/workflows/")
		if _, here := a.kept[name]; here && r.Header.Get("If-None-Match") == "*" {
			return answered(412, `{"error":{"code":"exists","message":"it is here"}}`), nil
		}
		a.kept[name] = time.Now()
		return answered(200, encoded(a.t, wire.Workflow{Name: name, Slots: []string{"prompt", "seed"}, Lacks: a.lacks})), nil
	case r.Method == "DELETE":
		if path != "/api/v1/workflows/here" || !there {
			return answered(404, `{"error":{"code":"not_found","message":"no such workflow"}}`), nil
		}
		delete(a.kept, "here")
		return answered(204, ""), nil
	case path == "/api/v1/workflows":
		list := workflowList{Workflows: []wire.Workflow{}}
		for name := range a.kept {
			list.Workflows = append(list.Workflows, wire.Workflow{Name: name})
		}
		return answered(200, encoded(a.t, list)), nil
	case path == "/api/v1/generators":
		return answered(200, encoded(a.t, generatorList{a.generators})), nil
	}
	offers := model.Offers{Models: []model.Offer{{Model: model.Model{Name: "sketch"}, Generators: []string{"builtin"}}}}
	for name, since := range a.kept {
		if a.after >= 0 && time.Since(since) >= a.after {
			offers.Models = append(offers.Models, model.Offer{Model: model.Model{Name: name}, Generators: []string{"comfyui"}})
		}
	}
	return answered(200, encoded(a.t, offers)), nil
}

func TestImportWaitsUntilTheWorkflowIsAModel(t *testing.T) {
	t.Parallel()
	up := []wire.Generator{{Kind: "builtin", State: wire.GeneratorReady}, {Kind: "comfyui", State: wire.GeneratorReady}}
	down := []wire.Generator{{Kind: "comfyui", State: wire.GeneratorUnreachable, Problem: "comfyui at 127.0.0.1:8188 is not there"}}
	empty := []wire.Generator{{Kind: "comfyui", State: wire.GeneratorUnusable, Problem: "ComfyUI has no model that can be used"}}
	for name, test := range map[string]struct {
		agent  comfyAgent
		name   string
		force  bool
		want   string // printed
		failed string
		took   time.Duration // at most
	}{
		"in a moment":           {comfyAgent{after: 3 * time.Second, generators: up}, "new", false, "new is a model now; you can choose its prompt, seed", "", 4 * time.Second},
		"never":                 {comfyAgent{after: -1, generators: up}, "new", false, "", "new is kept, but no model yet: no ComfyUI offered it within 15s", 16 * time.Second},
		"no ComfyUI is up":      {comfyAgent{after: -1, generators: down}, "new", false, "", "no model yet: no ComfyUI can be used now (comfyui at 127.0.0.1:8188 is not there)", time.Second},
		"the first model of it": {comfyAgent{after: 2 * time.Second, generators: empty}, "new", false, "new is a model now", "", 3 * time.Second},
		"one of two is up":      {comfyAgent{after: time.Second, generators: append(down[:1:1], up...)}, "new", false, "new is a model now", "", 2 * time.Second},
		"here already":          {comfyAgent{generators: up}, "here", false, "", `a workflow called "here" is here already: replace it with --force`, time.Second},
		"replaced":              {comfyAgent{generators: up}, "here", true, "here is replaced\nhere is a model now", "", time.Second},
		"new, by force":         {comfyAgent{generators: up}, "new", true, "new is a model now", "", time.Second},
		"something is missing":  {comfyAgent{generators: up, lacks: []string{`ComfyUI at 127.0.0.1:8188 lacks the node "X"`}}, "new", false, "new is a model now", `ComfyUI at 127.0.0.1:8188 lacks the node "X"; install`, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				test.agent.t, test.agent.kept = t, map[string]time.Time{"here": began.Add(-time.Hour)}
				var out strings.Builder
				c := &client{base: "http://agent", token: "t", http: http.Client{Timeout: answerTimeout, Transport: &test.agent}}
				err := importWorkflow(t.Context(), c, &out, test.name, jsonText("{}"), test.force)
				if test.failed == "" && err != nil || test.failed != "" && (err == nil || !strings.Contains(err.Error(), test.failed)) {
					t.Errorf("%v, want %q", err, test.failed)
				}
				if !strings.HasPrefix(out.String(), test.want) || test.want == "" && out.Len() > 0 {
					t.Errorf("%q, want %q", out.String(), test.want)
				}
				if took := time.Since(began); took > test.took {
					t.Errorf("took %s, want %s at most", took, test.took)
				}
			})
		})
	}
}

func TestInterruptedImportIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, interrupt)
		agent := &comfyAgent{t: t, kept: map[string]time.Time{}, after: -1}
		c := &client{base: "http://agent", token: "t", http: http.Client{Transport: agent}}
		err := importWorkflow(ctx, c, &strings.Builder{}, "new", jsonText("{}"), false)
		if err == nil || exitCode(err) != 130 || !strings.Contains(err.Error(), "new is kept") {
			t.Error(err)
		}
	})
}

func TestRemovingAWorkflow(t *testing.T) {
	t.Parallel()
	agent := &comfyAgent{t: t, kept: map[string]time.Time{"here": time.Now()}}
	c := &client{base: "http://agent", token: "t", http: http.Client{Transport: agent}}
	var out strings.Builder
	if err := removeWorkflow(t.Context(), c, &out, "other"); err == nil || err.Error() != `there is no workflow "other"; there are here` {
		t.Error(err)
	}
	if err := removeWorkflow(t.Context(), c, &out, "here"); err != nil || out.String() != "here is removed\n" {
		t.Errorf("%v, %q", err, out.String())
	}
	if err := removeWorkflow(t.Context(), c, &out, "here"); err == nil || err.Error() != `there is no workflow "here"; none was imported` {
		t.Error(err)
	}
	r := newRig(t) // has no ComfyUI
	if _, err := r.run("workflows", "remove", "x"); err == nil || !strings.Contains(err.Error(), "no ComfyUI is set up") {
		t.Error(err)
	}
	var raw json.RawMessage
	if err := c.do(t.Context(), "GET", "/api/v1/workflows", nil, &raw); err != nil || string(raw) != `{"workflows":[]}` {
		t.Errorf("%s, %v", raw, err)
	}
}
