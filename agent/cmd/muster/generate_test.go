package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"

	"muster/shared/job"
)

// Ctrl-C cancels what was accepted, even before the command line has looked at it once.
func TestInterruptCancelsWhatWasJustAccepted(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var mu sync.Mutex
	var cancelled []string
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost:
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprint(w, `{"set_id":"s","jobs":[{"id":"a","state":"queued"},{"id":"b","state":"queued"}]}`)
		case http.MethodGet:
			interrupt()
			<-r.Context().Done()
		case http.MethodDelete:
			mu.Lock()
			defer mu.Unlock()
			cancelled = append(cancelled, strings.TrimPrefix(r.URL.Path, "/api/v1/jobs/"))
			fmt.Fprint(w, `{}`)
		}
	}))
	defer agent.Close()
	cmd := &cobra.Command{}
	cmd.SetContext(ctx)
	spec := job.Spec{Prompt: "a fox", Count: 2}.WithDefaults()
	err := generate(cmd, &client{base: agent.URL, token: "t"}, spec, t.TempDir(), false)
	if err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("got %v: want that it was interrupted", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(cancelled, []string{"a", "b"}) {
		t.Errorf("cancelled %v: want both", cancelled)
	}
}
