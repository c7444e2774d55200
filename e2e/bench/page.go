package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"muster/e2e/harness"
)

// pageFigures tells what a browser downloads and how long it takes to a live card. A cold start has a fresh profile, a warm one
// the service worker's cache.
func pageFigures(ctx context.Context) ([]figure, error) {
	figures, err := sizes()
	if err != nil {
		return nil, err
	}
	data, err := os.MkdirTemp("", "muster-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(data)
	agent, err := harness.Start(data, "--simulate", "8x H100")
	if err != nil {
		return figures, err
	}
	defer agent.Stop()
	const rounds = 5
	var cold, warm, plain []time.Duration
	for range rounds {
		times, err := visit(ctx, agent)
		if err != nil {
			return figures, err
		}
		plain, cold, warm = append(plain, times[0]), append(cold, times[1]), append(warm, times[2])
	}
	beside := fmt.Sprintf("/healthz in the same browser %d ms", median(plain).Milliseconds())
	return append(figures,
		figure{"navigation to first live card, cold", fmt.Sprintf("%d ms", median(cold).Milliseconds()), "≤ 1200 ms", beside},
		figure{"navigation to first live card, warm", fmt.Sprintf("%d ms", median(warm).Milliseconds()), "≤ 400 ms", beside},
	), nil
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// settle is how long a browser gets to finish what it does in the background after a first visit.
const settle = 5 * time.Second

// visit times a plain page, the first visit and a second one, in a new browser.
func visit(ctx context.Context, agent *harness.Agent) (times [3]time.Duration, err error) {
	browser, stop, err := harness.NewBrowser(ctx)
	if err != nil {
		return times, err
	}
	defer stop()
	page, closePage, err := harness.NewPage(browser)
	if err != nil {
		return times, err
	}
	defer closePage()
	const live = `document.querySelector("[data-device]") != null && document.querySelector("#connection").dataset.state == "connected"`
	began := time.Now()
	if err := page.Navigate(agent.URL + "/healthz"); err != nil {
		return times, err
	}
	times[0] = time.Since(began)
	link, err := agent.Command(ctx, "link")
	if err != nil {
		return times, fmt.Errorf("muster link: %w: %s", err, link)
	}
	began = time.Now()
	if err := page.Navigate(link); err != nil {
		return times, err
	}
	if err := page.Until(live, time.Minute); err != nil {
		return times, err
	}
	times[1] = time.Since(began)
	if err := page.Until(`navigator.serviceWorker.ready.then(r => r.active.state == "activated")`, time.Minute); err != nil {
		return times, err
	}
	// A person comes back later: by then the browser has kept the compiled program.
	select {
	case <-ctx.Done():
		return times, ctx.Err()
	case <-time.After(settle):
	}
	began = time.Now()
	if err := page.Navigate(agent.URL + "/ai-models-setup"); err != nil {
		return times, err
	}
	err = page.Until(live, time.Minute)
	times[2] = time.Since(began)
	return times, err
}

func sizes() ([]figure, error) {
	root, err := harness.Root()
	if err != nil {
		return nil, err
	}
	static := filepath.Join(root, "webapp/dist/static")
	found, err := filepath.Glob(filepath.Join(static, "*.wasm"))
	if more, _ := filepath.Glob(filepath.Join(static, "*", "*.wasm")); len(found) == 0 {
		found = more
	}
	if err != nil || len(found) != 1 {
		return nil, fmt.Errorf("%s: want one .wasm, found %v: run make build", static, found)
	}
	var bytes [3]float64
	for i, suffix := range []string{"", ".gz", ".br"} {
		info, err := os.Stat(found[0] + suffix)
		if err != nil {
			return nil, err
		}
		bytes[i] = float64(info.Size()) / 1e6
	}
	return []figure{{"app.wasm brotli / gzip / raw", fmt.Sprintf("%.2f / %.2f / %.2f MB", bytes[2], bytes[1], bytes[0]), "≤ 1.5 / 2.0 / 7.5 MB", ""}}, nil
}
