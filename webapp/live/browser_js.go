package live

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"syscall/js"
	"time"

	"muster/shared/model"
)

// Browser gives the configuration of the page that this program runs in.
func Browser() Config {
	location := js.Global().Get("location")
	scheme := "ws://"
	if location.Get("protocol").String() == "https:" {
		scheme = "wss://"
	}
	return Config{
		URL:     scheme + location.Get("host").String() + "/api/v1/events",
		Dial:    dial,
		Session: session,
		Store:   LocalStorage{},
		Random:  rand.Float64,
	}
}

// Listen calls Retry when the network is back or the page is looked at again. It lives as long as the page.
func Listen(l *Link) {
	retry := js.FuncOf(func(js.Value, []js.Value) any { l.Retry(); return nil })
	js.Global().Call("addEventListener", "online", retry)
	js.Global().Call("addEventListener", "pageshow", retry)
	OnVisible(l.Retry)
}

// OnVisible calls do whenever the page can be seen again. It lives as long as the page.
func OnVisible(do func()) {
	js.Global().Get("document").Call("addEventListener", "visibilitychange", js.FuncOf(func(js.Value, []js.Value) any {
		if Visible() {
			do()
		}
		return nil
	}))
}

// Visible says whether anybody can see the page.
func Visible() bool { return js.Global().Get("document").Get("visibilityState").String() != "hidden" }

// NewID gives 32 hex digits that nobody else has: the id of a command.
func NewID() string {
	random := js.Global().Get("Uint8Array").New(16)
	js.Global().Get("crypto").Call("getRandomValues", random)
	b := make([]byte, 16)
	js.CopyBytesToGo(b, random)
	return hex.EncodeToString(b)
}

// TakeFragmentCode gives the pairing code of the page's address and removes it there, so that it is in no history or bookmark.
func TakeFragmentCode() string {
	location := js.Global().Get("location")
	hash := location.Get("hash").String()
	if !strings.HasPrefix(hash, "#pair=") {
		return ""
	}
	js.Global().Get("history").Call("replaceState", js.Null(), "", location.Get("pathname").String()+location.Get("search").String())
	return PairCode(hash)
}

// Pair gives the one-time code for a session. Its error is for people.
func Pair(ctx context.Context, code string) error {
	body, err := json.Marshal(map[string]string{"code": code})
	if err != nil {
		return err
	}
	status, answer, err := fetch(ctx, "POST", "/api/v1/session", string(body))
	switch {
	case err != nil:
		return errors.New("the agent does not answer: is muster running?")
	case status >= 200 && status < 300:
		return nil
	}
	return refusal(status, []byte(answer))
}

// FetchPast asks the agent; ErrOffline when it does not answer.
func FetchPast(ctx context.Context, q PastQuery) (Past, error) {
	status, answer, err := fetch(ctx, "GET", q.Path(), "")
	if err != nil {
		return Past{}, ErrOffline
	}
	return DecodePast(status, []byte(answer))
}

// Decide tells the agent of a decision, now or not at all; ErrOffline when it does not answer.
func Decide(ctx context.Context, d Decision) error {
	method, path, body := d.Request()
	status, answer, err := fetch(ctx, method, path, body)
	if err != nil {
		return ErrOffline
	}
	return Decided(status, []byte(answer))
}

// Command tells the agent what a person asks about models, now or not at all; ErrOffline when it does not answer.
func Command(ctx context.Context, c ModelCommand) error {
	method, path, body := c.Request()
	limit := fetchLimit
	if c.Act == LoadModel {
		limit = loadLimit
	}
	status, answer, err := fetchWithin(ctx, limit, method, path, body)
	if err != nil {
		return ErrOffline
	}
	return Decided(status, []byte(answer))
}

// FetchRecommendations asks the agent which models it would install here; ErrOffline when it does not answer.
func FetchRecommendations(ctx context.Context) ([]model.Recommendation, error) {
	status, answer, err := fetch(ctx, "GET", "/api/v1/models/recommendations", "")
	if err != nil {
		return nil, ErrOffline
	}
	return DecodeRecommendations(status, []byte(answer))
}

func session(ctx context.Context) Access {
	status, _, err := fetch(ctx, "GET", "/api/v1/session", "")
	switch {
	case err == nil && status >= 200 && status < 300:
		return Granted
	case err == nil && (status == 401 || status == 403):
		return Refused
	default:
		return Unreachable
	}
}

// How long an answer may take. The agent answers at once but for a model that it loads: that takes up to half an hour from a slow
// disk, and begins when the device is free.
const (
	fetchLimit = 10 * time.Second
	loadLimit  = time.Hour
)

// fetch asks the agent and gives status and text; it gives up after fetchLimit.
func fetch(ctx context.Context, method, path, body string) (status int, text string, err error) {
	return fetchWithin(ctx, fetchLimit, method, path, body)
}

func fetchWithin(ctx context.Context, limit time.Duration, method, path, body string) (status int, text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	options := map[string]any{"method": method, "credentials": "same-origin", "cache": "no-store"}
	if body != "" {
		options["body"] = body
		options["headers"] = map[string]any{"Content-Type": "application/json"}
	}
	response, err := await(ctx, js.Global().Call("fetch", path, options))
	if err != nil {
		return 0, "", err
	}
	content, err := await(ctx, response.Call("text"))
	if err != nil {
		return 0, "", err
	}
	return response.Get("status").Int(), content.String(), nil
}

// await waits for a promise.
func await(ctx context.Context, promise js.Value) (js.Value, error) {
	type outcome struct {
		value js.Value
		err   error
	}
	done := make(chan outcome, 1)
	var kept, broken js.Func
	release := func() { kept.Release(); broken.Release() }
	kept = js.FuncOf(func(_ js.Value, args []js.Value) any {
		defer release()
		done <- outcome{value: args[0]}
		return nil
	})
	broken = js.FuncOf(func(_ js.Value, args []js.Value) any {
		defer release()
		done <- outcome{err: errors.New(args[0].Call("toString").String())}
		return nil
	})
	promise.Call("then", kept, broken)
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		return js.Undefined(), ctx.Err()
	}
}
