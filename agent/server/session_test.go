package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func codeOf(link string) string {
	_, code, _ := strings.Cut(link, "#pair=")
	return code
}

func TestPairing(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	link := a.server.NewLink()
	if !strings.HasPrefix(link, "http://127.0.0.1:8000/#pair=") || len(codeOf(link)) < 20 {
		t.Fatalf("link %q", link)
	}
	body := fmt.Sprintf(`{"code":%q}`, codeOf(link))
	if r := a.send("POST", "/api/v1/session", body, "Origin", "http://evil.example"); r.status != 403 {
		t.Fatalf("a foreign page: %d", r.status)
	}
	r := a.send("POST", "/api/v1/session", body, "Origin", ownOrigin)
	cookie := r.header.Get("Set-Cookie")
	if r.status != 200 || strings.TrimSpace(string(r.body)) != `{"ok":true}` {
		t.Fatalf("%d %s", r.status, r.body)
	}
	for _, part := range []string{"muster-session-8000=", "; Path=/", "; HttpOnly", "; SameSite=Strict", "; Max-Age="} {
		if !strings.Contains(cookie, part) {
			t.Errorf("cookie %q lacks %q", cookie, part)
		}
	}
	if strings.Contains(cookie, "Secure") || strings.Contains(cookie, "Domain") {
		t.Errorf("cookie %q", cookie)
	}
	if r := a.send("POST", "/api/v1/session", body, "Origin", ownOrigin); r.status != 401 || r.header.Get("Set-Cookie") != "" {
		t.Errorf("the same code again: %d %v", r.status, r.header)
	}
	value, _, _ := strings.Cut(cookie, ";")
	if r := a.send("GET", "/api/v1/session", "", "Cookie", value, "Sec-Fetch-Site", "same-origin"); r.status != 200 {
		t.Errorf("with the cookie: %d", r.status)
	}
}

func TestPairingRefuses(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for body, want := range map[string]string{
		``: "empty", `{}`: "code", `{"code":""}`: "code", `{"code":7}`: "must be a string", `{"code":"x","more":1}`: "more", `[]`: "an array",
		`{"code":"` + strings.Repeat("x", maxBodyBytes) + `"}`: "too long",
	} {
		if r := a.send("POST", "/api/v1/session", body); r.status < 400 || r.status > 499 || !strings.Contains(r.message(), want) {
			t.Errorf("%.40s: %d %s, want %q", body, r.status, r.message(), want)
		}
	}
}

func TestCookieIsSecureBehindTLS(t *testing.T) {
	t.Parallel()
	a := newAgent(t, func(c *Config) { c.AllowHosts = []string{"box.example:443"} })
	r := a.send("POST", "/api/v1/session", fmt.Sprintf(`{"code":%q}`, codeOf(a.server.NewLink())), "Host", "box.example", "Origin", "https://box.example")
	if cookie := r.header.Get("Set-Cookie"); !strings.Contains(cookie, "; Secure") || !strings.HasPrefix(cookie, "muster-session-default=") {
		t.Errorf("cookie %q", cookie)
	}
}

func TestCodesExpireAndAreFew(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	synctest.Test(t, func(t *testing.T) {
		s := &a.server.sessions
		old := s.newCode()
		time.Sleep(codeLife - time.Second)
		young := s.newCode()
		time.Sleep(2 * time.Second)
		if s.redeem(old) {
			t.Error("a code older than 5 minutes is good")
		}
		if !s.redeem(young) || s.redeem(young) {
			t.Error("a young code is good, once")
		}
		first := s.newCode()
		for range maxCodes {
			s.newCode()
		}
		if s.redeem(first) || len(s.codes) > maxCodes {
			t.Errorf("%d codes are kept", len(s.codes))
		}
	})
}

func TestLink(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	var link struct{ URL string }
	a.ask("POST", "/api/v1/session/link", "").into(t, &link)
	if r := a.send("POST", "/api/v1/session", fmt.Sprintf(`{"code":%q}`, codeOf(link.URL))); r.status != 200 {
		t.Errorf("the link's code: %d", r.status)
	}
	if r := a.send("POST", "/api/v1/session/link", "", "Cookie", a.pair(), "Origin", ownOrigin); r.status != 403 {
		t.Errorf("a session makes links: %d", r.status)
	}
}

func TestLogout(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	cookie, other := a.pair(), a.pair()
	ok := func(cookie string) bool {
		return a.send("GET", "/api/v1/session", "", "Cookie", cookie, "Origin", ownOrigin).status == 200
	}
	if !ok(cookie) || !ok(other) {
		t.Fatal("two sessions")
	}
	r := a.send("DELETE", "/api/v1/session", "", "Cookie", cookie, "Origin", ownOrigin)
	if r.status != 200 || !strings.Contains(r.header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("%d %v", r.status, r.header)
	}
	r = a.send("GET", "/api/v1/session", "", "Cookie", cookie, "Origin", ownOrigin)
	if r.status != 401 || !strings.Contains(r.header.Get("Set-Cookie"), "Max-Age=0") {
		t.Errorf("after logout, at once: %d; the dead cookie must be taken back: %v", r.status, r.header)
	}
	if !ok(other) {
		t.Error("the other session ended too")
	}
}

func TestSessionsAreStoredHashedAndLookedUpSeldom(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	cookie := a.pair()
	_, value, _ := strings.Cut(cookie, "=")
	sum := sha256.Sum256([]byte(value))
	if ok, err := a.queue.Session(t.Context(), sum); !ok || err != nil {
		t.Fatalf("stored under its hash: %v %v", ok, err)
	}
	s := &a.server.sessions
	if ok, _ := s.valid(t.Context(), sum); !ok {
		t.Fatal("not valid")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel() // a look at the database would fail
	if ok, err := s.valid(ended, sum); !ok || err != nil {
		t.Errorf("a second look within %s: %v %v", checkLife, ok, err)
	}
	if ok, err := s.valid(ended, [32]byte{1}); ok || err == nil {
		t.Errorf("a database that does not answer: %v %v", ok, err)
	}
}

func TestSubmissionsOfASessionAreLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAgent(t)
		browser := []string{"Cookie", a.pair(), "Origin", ownOrigin}
		submit := func(headers ...string) answer {
			return a.send("POST", "/api/v1/jobs", `{"prompt":"a fox"}`, headers...)
		}
		for i := range submissionsPerMinute {
			if r := submit(browser...); r.status != http.StatusAccepted {
				t.Fatalf("submission %d: %d %s", i, r.status, r.body)
			}
		}
		if r := submit(browser...); r.status != http.StatusTooManyRequests || r.header.Get("Retry-After") != "1" {
			t.Errorf("one more: %d %v", r.status, r.header)
		}
		if r := submit("Authorization", "Bearer "+testToken); r.status != http.StatusAccepted {
			t.Errorf("the token is limited too: %d", r.status)
		}
		time.Sleep(time.Second)
		if r := submit(browser...); r.status != http.StatusAccepted {
			t.Errorf("a second later: %d", r.status)
		}
	})
}

func TestBucket(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	b := bucket{last: now}
	for i := range 3 {
		if wait := b.take(now, 3, time.Second); wait != 0 {
			t.Errorf("token %d: wait %s", i, wait)
		}
	}
	if wait := b.take(now.Add(time.Second/4), 3, time.Second); wait != 3*time.Second/4 {
		t.Errorf("wait %s, want 750ms", wait)
	}
	if wait := b.take(now.Add(time.Second), 3, time.Second); wait != 0 {
		t.Errorf("after the wait: %s", wait)
	}
	if wait := b.take(now.Add(-time.Hour), 3, time.Second); wait == 0 {
		t.Error("a clock that goes back fills the bucket")
	}
}

func TestBucketsForgetTheFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := buckets[int]{most: 2, interval: time.Second}
		for i := range maxBuckets {
			b.take(i)
		}
		time.Sleep(3 * time.Second)
		b.take(-1)
		if len(b.byKey) != 1 {
			t.Errorf("%d keys are kept", len(b.byKey))
		}
	})
}
