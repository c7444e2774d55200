package server

import (
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const ownOrigin = "http://" + testAddr

// concrete fills a pattern's wildcards.
func concrete(pattern string) string {
	return regexp.MustCompile(`\{[^}]*\}`).ReplaceAllString(pattern, "0")
}

// every gives each route of the table with a method that it answers.
func (a *testAgent) every(do func(rt route, method, path string)) {
	for _, rt := range a.server.routes() {
		methods := []string{rt.method}
		switch rt.method {
		case "":
			methods = []string{"GET", "POST", "DELETE", "PUT", "PATCH"}
		case "GET":
			methods = []string{"GET", "HEAD"}
		}
		for _, method := range methods {
			do(rt, method, concrete(rt.path))
		}
	}
}

// What each route gives to whom, over the whole table: nothing that is not named here is open.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	cookie := a.pair()
	open := map[string]bool{"GET /healthz": true, "HEAD /healthz": true, "GET /readyz": true, "HEAD /readyz": true, "GET /": true, "HEAD /": true, "POST /api/v1/session": true,
		"GET /v1/images/files/0/0": true, "HEAD /v1/images/files/0/0": true} // a link is a permission of its own
	denied := func(status int) bool {
		return status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusTooManyRequests
	}
	a.every(func(rt route, method, path string) {
		name := method + " " + path
		if method == "DELETE" && path == "/api/v1/session" {
			return // it would end the session: TestLogout
		}
		body := ""
		if method == "POST" || method == "PUT" || method == "PATCH" {
			body = `{"no such field":1}` // nothing shall really happen
		}
		for _, test := range []struct {
			who     string
			headers []string
			allowed bool
		}{
			{"nobody", nil, open[name]},
			{"own page, no session", []string{"Origin", ownOrigin}, open[name]},
			{"token", []string{"Authorization", "Bearer " + testToken}, true},
			{"session of own page", []string{"Cookie", cookie, "Origin", ownOrigin}, open[name] || rt.access != needsBearer},
			{"session without a word of where from", []string{"Cookie", cookie}, open[name]},
			{"session, same-origin read", []string{"Cookie", cookie, "Sec-Fetch-Site", "same-origin"}, open[name] || method == "GET" || method == "HEAD"},
			{"session, address bar", []string{"Cookie", cookie, "Sec-Fetch-Site", "none"}, open[name] || method == "GET" || method == "HEAD"},
			{"session, other site", []string{"Cookie", cookie, "Sec-Fetch-Site", "cross-site"}, open[name] && method != "POST"},
			{"session, other port", []string{"Cookie", cookie, "Sec-Fetch-Site", "same-site"}, open[name] && method != "POST"},
			{"token, other site", []string{"Authorization", "Bearer " + testToken, "Sec-Fetch-Site", "cross-site"}, open[name] && method != "POST"},
			{"token, foreign origin", []string{"Authorization", "Bearer " + testToken, "Origin", "http://evil.example"}, false},
			{"token, null origin", []string{"Authorization", "Bearer " + testToken, "Origin", "null"}, false},
			{"token, rebound host", []string{"Authorization", "Bearer " + testToken, "Host", "evil.example:8000"}, false},
			{"token, rebound host and origin", []string{"Authorization", "Bearer " + testToken, "Host", "evil.example:8000", "Origin", "http://evil.example:8000"}, false},
			{"session, null origin", []string{"Cookie", cookie, "Origin", "null"}, false},
		} {
			r := a.send(method, path, body, test.headers...)
			if denied(r.status) == test.allowed {
				t.Errorf("%s for %s: %d %.100s", name, test.who, r.status, r.body)
			}
		}
	})
}

func TestSocketNeedsExactOriginWithCookie(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	cookie := a.pair()
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", base64.StdEncoding.EncodeToString(make([]byte, 16))}
	for _, test := range []struct {
		name    string
		headers []string
		want    int
	}{
		// 101 means that the guard let the request through.
		{"own origin", []string{"Cookie", cookie, "Origin", ownOrigin}, 101},
		{"token without origin", []string{"Authorization", "Bearer " + testToken}, 101},
		{"no origin", []string{"Cookie", cookie}, 401},
		{"no origin, though same-origin", []string{"Cookie", cookie, "Sec-Fetch-Site", "same-origin"}, 401},
		{"no origin, though the user's own", []string{"Cookie", cookie, "Sec-Fetch-Site", "none"}, 401},
		{"foreign origin", []string{"Cookie", cookie, "Origin", "https://evil.example"}, 403},
		{"null", []string{"Cookie", cookie, "Origin", "null"}, 403},
		{"origin with another port", []string{"Cookie", cookie, "Origin", "http://127.0.0.1:9000"}, 403},
		{"origin with a suffix", []string{"Cookie", cookie, "Origin", ownOrigin + ".evil.example"}, 403},
		{"origin with a path", []string{"Cookie", cookie, "Origin", ownOrigin + "/"}, 403},
	} {
		if r := a.send("GET", "/api/v1/events", "", append(upgrade, test.headers...)...); r.status != test.want {
			t.Errorf("%s: %d %.100s, want %d", test.name, r.status, r.body, test.want)
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		addr    string
		allowed []string
		host    string
		ok      bool
	}{
		{testAddr, nil, "127.0.0.1:8000", true},
		{testAddr, nil, "localhost:8000", true},
		{testAddr, nil, "LOCALHOST:8000", true},
		{testAddr, nil, "[::1]:8000", true},
		{testAddr, nil, "127.0.0.1", false},
		{testAddr, nil, "127.0.0.1:8001", false},
		{testAddr, nil, "localhost", false},
		{testAddr, nil, "localhost.:8000", false},
		{testAddr, nil, "localhost:8000.evil.example", false},
		{testAddr, nil, "evil.example:8000", false},
		{testAddr, nil, "", false},
		{"10.0.0.5:8000", nil, "10.0.0.5:8000", true},
		{"0.0.0.0:8000", nil, "evil.example:8000", false},
		{"0.0.0.0:8000", nil, "192.168.0.7:8000", false},
		{testAddr, []string{"Box.Local:9000"}, "box.local:9000", true},
		{testAddr, []string{"box.local:9000"}, "box.local", false},
		{"127.0.0.1:80", nil, "localhost", true},
		{"127.0.0.1:80", nil, "[::1]", true},
		{testAddr, []string{"box.example:443"}, "box.example", true},
	} {
		h, err := newHosts(test.addr, test.allowed)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.checkHost(&http.Request{Host: test.host}) == nil; got != test.ok {
			t.Errorf("listening on %s, allowing %v: Host %q: %v, want %v", test.addr, test.allowed, test.host, got, test.ok)
		}
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	h, err := newHosts(testAddr, []string{"box.example:443"})
	if err != nil {
		t.Fatal(err)
	}
	for origin, ok := range map[string]bool{
		"http://127.0.0.1:8000": true, "http://localhost:8000": true, "http://[::1]:8000": true, "https://box.example": true, "https://box.example:443": true,
		"http://box.example": false, "null": false, "file://": false, "": false, "http://localhost": false, "http://localhost:8001": false, "http://LOCALHOST:8000": false,
		"http://localhost:8000, http://evil.example": false, "ws://127.0.0.1:8000": false,
	} {
		if got := h.checkOrigin(&http.Request{Header: http.Header{"Origin": {origin}}}) == nil; got != ok {
			t.Errorf("%q: %v, want %v", origin, got, ok)
		}
	}
	if h.checkOrigin(&http.Request{Header: http.Header{"Origin": {ownOrigin, ownOrigin}}}) == nil {
		t.Error("two Origin headers pass")
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	basic := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	for name, test := range map[string]struct {
		header string
		want   int
	}{
		"bearer":              {"Bearer " + testToken, 200},
		"bearer, lower case":  {"bearer " + testToken, 200},
		"basic password":      {basic("anyone", testToken), 200},
		"basic user is not":   {basic(testToken, "x"), 401},
		"wrong":               {"Bearer " + testToken + "x", 401},
		"prefix":              {"Bearer " + testToken[:8], 401},
		"empty":               {"Bearer ", 401},
		"no scheme":           {testToken, 401},
		"other scheme":        {"Digest " + testToken, 401},
		"basic without colon": {"Basic " + base64.StdEncoding.EncodeToString([]byte(testToken)), 401},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAgent(t)
			if r := a.send("GET", "/api/v1/session", "", "Authorization", test.header); r.status != test.want {
				t.Errorf("%d %s, want %d", r.status, r.body, test.want)
			}
		})
	}
}

func TestWrongTokenWinsOverACookie(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	if r := a.send("GET", "/api/v1/session", "", "Cookie", a.pair(), "Origin", ownOrigin, "Authorization", "Bearer wrong"); r.status != 401 {
		t.Errorf("%d", r.status)
	}
}

func TestSecurityHeadersOnEverything(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	paths := []string{"/", "/sw.js", "/nothing", "/healthz", "/api/v1/snapshot", "/api/v1/unknown", "/api/v1/events"}
	for _, path := range paths {
		for _, headers := range [][]string{{}, {"Authorization", "Bearer " + testToken}} {
			h := a.send("GET", path, "", headers...).header
			policy := h.Get("Content-Security-Policy")
			for _, part := range []string{"default-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "connect-src 'self' ws://" + testAddr} {
				if !strings.Contains(policy, part) {
					t.Errorf("%s: policy %q lacks %q", path, policy, part)
				}
			}
			if strings.Contains(policy, "unsafe-inline") {
				t.Errorf("%s: %q", path, policy)
			}
			for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin"} {
				if h.Get(name) != want {
					t.Errorf("%s: %s is %q, want %q", path, name, h.Get(name), want)
				}
			}
			if h.Get("Permissions-Policy") == "" || h.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: %v", path, h)
			}
		}
	}
	if h := a.send("GET", "/", "", "Host", "evil.example").header; strings.Contains(h.Get("Content-Security-Policy"), "evil") || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("a refused host: %v", h)
	}
}

// Wrong guesses are answered later and later; the right token is not, and nobody is banned.
func TestWrongAttemptsAreSlowedDown(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	synctest.Test(t, func(t *testing.T) {
		try := func(header string) (int, time.Duration) {
			began := time.Now()
			r := a.send("GET", "/api/v1/snapshot", "", "Authorization", header)
			return r.status, time.Since(began)
		}
		want := 100 * time.Millisecond
		for i := range maxAttempts {
			if status, took := try("Bearer guess"); status != 401 || took != want {
				t.Errorf("attempt %d: %d after %s, want 401 after %s", i, status, took, want)
			}
			want = min(2*want, 5*time.Second)
		}
		if status, took := try("Bearer guess"); status != http.StatusTooManyRequests || took != 0 {
			t.Errorf("one more: %d after %s", status, took)
		}
		if status, took := try("Bearer " + testToken); status != 200 || took != 0 {
			t.Errorf("the right token: %d after %s", status, took)
		}
		time.Sleep(attemptMemory + time.Second)
		if status, took := try("Bearer guess"); status != 401 || took != 100*time.Millisecond {
			t.Errorf("after a minute: %d after %s", status, took)
		}
		if r := a.send("GET", "/api/v1/snapshot", ""); r.status != 401 {
			t.Errorf("no credentials: %d", r.status)
		}
	})
}

func TestManyGuessersHoldFewGoroutines(t *testing.T) {
	t.Parallel()
	var guesses attempts
	for i := range 3 * maxAsleep {
		_, often := guesses.count(string(rune('a'+i)) + ":1")
		if often != (i >= maxAsleep) {
			t.Fatalf("guess %d of as many addresses: answered at once %v", i, often)
		}
	}
	for i := range 2 * maxAddresses {
		guesses.count(string(rune(1000+i)) + ":1")
		if len(guesses.byIP) > maxAddresses {
			t.Fatalf("remembers %d addresses", len(guesses.byIP))
		}
	}
}

func TestMethodsAndUnknownPaths(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, test := range []struct {
		method, path string
		status       int
		allow, body  string
	}{
		{"PUT", "/api/v1/jobs", 405, "GET, HEAD, POST", `"error"`},
		{"POST", "/api/v1/jobs/x", 405, "DELETE, GET, HEAD", `"error"`},
		{"OPTIONS", "/api/v1/jobs", 405, "GET, HEAD, POST", `"error"`},
		{"GET", "/api/v1/personas/random", 405, "POST", `"detail"`},
		{"DELETE", "/api/v1/system/gpu/status", 405, "GET, HEAD", `"detail"`},
		{"POST", "/", 405, "GET, HEAD", `"error"`},
		{"POST", "/healthz", 405, "GET, HEAD", `"error"`},
		{"GET", "/api/v1/nothing", 404, "", `"not_found"`},
		{"POST", "/api/v1/jobs/x/y", 404, "", `"not_found"`},
		{"GET", "/v1/models/x", 404, "", `"model_not_found"`},
		{"POST", "/v1/chat/completions", 404, "", `"unknown_url"`},
		{"GET", "/v1/images/generations", 405, "POST", `"type":"invalid_request_error"`},
		{"GET", "/sdapi/v1/unknown", 404, "", `"detail":"Not Found`},
		{"DELETE", "/sdapi/v1/options", 405, "GET, HEAD, POST", `"error":"HTTPException","detail":"DELETE`},
		{"GET", "/nothing", 404, "", `"not_found"`},
	} {
		r := a.ask(test.method, test.path, "")
		if r.status != test.status || r.header.Get("Allow") != test.allow || !strings.Contains(string(r.body), test.body) || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %d, Allow %q, %s", test.method, test.path, r.status, r.header.Get("Allow"), r.body)
		}
	}
	// Every path refuses what its table does not name, in JSON.
	a.every(func(rt route, _, path string) {
		if rt.method != "" {
			if r := a.ask("PROPFIND", path, ""); r.status != 405 || r.header.Get("Allow") == "" {
				t.Errorf("PROPFIND %s: %d", path, r.status)
			}
		}
	})
}

func TestPanicIsAnAnswer(t *testing.T) {
	t.Parallel()
	a := newAgent(t, func(c *Config) { c.Ready = func() error { panic("oh") } })
	if r := a.send("GET", "/readyz", ""); r.status != 500 || !strings.Contains(string(r.body), "internal") {
		t.Errorf("%d %s", r.status, r.body)
	}
}
