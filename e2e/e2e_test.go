// Package e2e holds what muster promises, tested with the real binary and a real browser.
package e2e

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"muster/e2e/harness"
)

// patience bounds what should take a second or two on an idle machine; a loaded one may be ten times slower.
const patience = 60 * time.Second

var browser context.Context

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if _, err := harness.Binary(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
		ctx, stop, err := harness.NewBrowser(context.Background())
		if err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			return 1
		}
		defer stop()
		browser = ctx
		return m.Run()
	}())
}

// start runs the agent until the test ends; it must then stop cleanly.
func start(t *testing.T, flags ...string) *harness.Agent {
	t.Helper()
	return startOn(t, t.TempDir(), flags...)
}

func startOn(t *testing.T, data string, flags ...string) *harness.Agent {
	t.Helper()
	agent, err := harness.Start(data, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := agent.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("agent's log:\n%s", agent.Stderr())
		}
	})
	return agent
}

// open loads a URL in a new tab. When the test ends, an error in the console fails it, unless it contains an expected text.
func open(t *testing.T, url string, expected ...string) *harness.Page {
	t.Helper()
	page, closePage, err := harness.NewPage(browser)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, problem := range page.Problems(expected...) {
			t.Errorf("console: %s", problem)
		}
		if t.Failed() {
			if text, err := page.Text(); err == nil {
				t.Logf("page said:\n%.3000s", text)
			}
		}
		closePage()
	})
	if err := page.Navigate(url); err != nil {
		t.Fatal(err)
	}
	return page
}

func until(t *testing.T, page *harness.Page, expression string) {
	t.Helper()
	if err := page.Until(expression, patience); err != nil {
		t.Fatal(err)
	}
}

func eval[T any](t *testing.T, page *harness.Page, expression string) T {
	t.Helper()
	value, err := harness.Eval[T](page, expression)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return value
}

func get(t *testing.T, agent *harness.Agent, path string, answer any) {
	t.Helper()
	if _, err := agent.Do(t.Context(), "GET", path, nil, answer); err != nil {
		t.Fatal(err)
	}
}

// eventually asks again until ok says yes.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("not so after %s: %s", patience, what)
		case <-again.C:
		}
	}
}
