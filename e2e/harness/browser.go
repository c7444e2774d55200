package harness

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/chromedp"
)

// NewBrowser starts a headless Chromium with a profile of its own. Pages are contexts made by Page below it.
func NewBrowser(parent context.Context) (context.Context, context.CancelFunc, error) {
	options := append([]chromedp.ExecAllocatorOption{}, chromedp.DefaultExecAllocatorOptions[:]...)
	options = append(options, chromedp.NoSandbox, chromedp.DisableGPU)
	for _, flag := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "no-first-run"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	allocator, stopAllocator := chromedp.NewExecAllocator(parent, options...)
	browser, stopBrowser := chromedp.NewContext(allocator)
	stop := func() {
		stopBrowser()
		stopAllocator()
	}
	if err := chromedp.Do(browser); err != nil {
		stop()
		return nil, nil, fmt.Errorf("start Chromium: %w (build/chromium.sh installs it)", err)
	}
	return browser, stop, nil
}

// Page is one tab, with what went wrong in it.
type Page struct {
	Context context.Context

	mu       sync.Mutex
	problems []string
}

// NewPage opens a tab that records console errors, uncaught exceptions and refusals by the content security policy.
func NewPage(browser context.Context) (*Page, context.CancelFunc, error) {
	ctx, cancel := chromedp.NewContext(browser)
	p := &Page{Context: ctx}
	if err := chromedp.Do(ctx); err != nil { // attaches
		cancel()
		return nil, nil, err
	}
	// A desktop's size: where a page must be scrolled to a button, smoothly, Chromium's own clicks miss it.
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1440, 900)); err != nil {
		cancel()
		return nil, nil, err
	}
	go p.record(chromedp.Console(ctx))
	return p, cancel, nil
}

func (p *Page) record(messages iter.Seq2[chromedp.ConsoleMessage, error]) {
	for message, err := range messages {
		if err != nil {
			return // the tab was closed
		}
		if message.Type == chromedp.ConsoleError || message.Type == chromedp.ConsoleException || message.Type == "assert" {
			p.mu.Lock()
			p.problems = append(p.problems, fmt.Sprintf("%s: %s (%s)", message.Type, message.Text, message.URL))
			p.mu.Unlock()
		}
	}
}

// Problems lists what went wrong so far, without lines that contain one of the expected texts.
func (p *Page) Problems(expected ...string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var left []string
next:
	for _, problem := range p.problems {
		for _, text := range expected {
			if strings.Contains(problem, text) {
				continue next
			}
		}
		left = append(left, problem)
	}
	return left
}

// Navigate loads a URL.
func (p *Page) Navigate(url string) error { return chromedp.Do(p.Context, chromedp.Navigate(url)) }

// Until waits until a JavaScript expression is true, also while the page is being replaced. Its error tells the last value.
func (p *Page) Until(expression string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(p.Context, within)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	var last any
	for {
		value, err := chromedp.Run(ctx, chromedp.Evaluate[any]("("+expression+")", chromedp.EvalAwaitPromise))
		if ok, _ := value.(bool); err == nil && ok {
			return nil
		}
		if ctx.Err() == nil {
			last = value
			if err != nil {
				last = err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not true after %s: %v", expression, within, last)
		case <-ticker.C:
		}
	}
}

// Eval gives the value of a JavaScript expression.
func Eval[T any](p *Page, expression string) (T, error) {
	return chromedp.Run(p.Context, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// Text gives what a person reads in the whole page.
func (p *Page) Text() (string, error) { return Eval[string](p, "document.body.innerText") }
