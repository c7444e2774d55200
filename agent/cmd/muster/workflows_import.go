package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"muster/shared/model"
	"muster/shared/wire"
)

// importWorkflow hands a workflow to the agent, and says when it is a model, or what it lacks for that.
func importWorkflow(ctx context.Context, client *client, out io.Writer, name string, text jsonText, force bool) error {
	headers := []string{"If-None-Match", "*"}
	replaced := false
	if force {
		before, err := workflows(ctx, client)
		if err != nil {
			return err
		}
		headers, replaced = nil, slices.Contains(before, name)
	}
	var kept wire.Workflow
	err := client.do(ctx, "PUT", "/api/v1/workflows/"+url.PathEscape(name), text, &kept, headers...)
	if refused := new(refusedError); errors.As(err, &refused) && refused.status == http.StatusPreconditionFailed {
		return fmt.Errorf("a workflow called %q is here already: replace it with --force, or give this one another name with --name", name)
	}
	if err != nil {
		return err
	}
	if replaced {
		fmt.Fprintf(out, "%s is replaced\n", kept.Name)
	}
	if err := awaitModel(ctx, client, kept.Name); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is a model now; you can choose its %s\n", kept.Name, strings.Join(kept.Slots, ", "))
	if len(kept.Lacks) > 0 {
		return fmt.Errorf("its images will fail where something is missing: %s; install that there (with ComfyUI-Manager, for instance), or change the workflow", strings.Join(kept.Lacks, "; "))
	}
	return nil
}

// modelWait is how long an imported workflow may take to be offered: generators are asked every few seconds what they have.
const modelWait = 15 * time.Second

// awaitModel waits until a generator has a model, and says why none has when there is none that could, or when that takes too long.
func awaitModel(ctx context.Context, client *client, name string) error {
	last, cancel := context.WithTimeout(ctx, modelWait)
	defer cancel()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	var why []string
	for {
		var offers model.Offers
		err := client.do(last, "GET", "/api/v1/models", nil, &offers)
		switch {
		case ctx.Err() != nil:
			return interrupted(ctx, "%s is kept; muster models shows when it is a model", name)
		case err != nil && last.Err() == nil:
			return err
		case slices.ContainsFunc(offers.Models, func(m model.Offer) bool { return m.Name == name && !m.InLibrary && len(m.Generators) > 0 }):
			return nil
		}
		var list generatorList
		if last.Err() == nil && client.do(last, "GET", "/api/v1/generators", nil, &list) == nil {
			var hopeless bool
			if why, hopeless = withoutComfyUI(list.Generators); hopeless {
				return noModelYet(name, why)
			}
		}
		select {
		case <-last.Done():
			if ctx.Err() == nil {
				return noModelYet(name, why)
			}
		case <-ticker.C:
		}
	}
}

func noModelYet(name string, why []string) error {
	reason := fmt.Sprintf("no ComfyUI offered it within %s; muster models shows when one does", modelWait)
	if len(why) > 0 {
		reason = "no ComfyUI can be used now (" + strings.Join(why, "; ") + "); it is one as soon as one can"
	}
	return fmt.Errorf("%s is kept, but no model yet: %s", name, reason)
}

// withoutComfyUI says why no ComfyUI can be used; none when one can, or when that is not known. hopeless says that nothing will change
// that by itself soon: one that has no model yet may have one in a moment.
func withoutComfyUI(generators []wire.Generator) (why []string, hopeless bool) {
	hopeless = true
	for _, g := range generators {
		if g.Kind != "comfyui" {
			continue
		}
		if g.Problem == "" || g.State == wire.GeneratorStarting {
			return nil, false
		}
		hopeless = hopeless && (g.State == wire.GeneratorUnreachable || g.State == wire.GeneratorUnplaced)
		if !slices.Contains(why, g.Problem) {
			why = append(why, g.Problem)
		}
	}
	return why, hopeless && len(why) > 0
}
