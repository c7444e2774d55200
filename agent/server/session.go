package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"muster/agent/queue"
)

// Lives of codes and sessions.
const (
	codeLife    = 5 * time.Minute
	maxCodes    = 16 // unused at once; the oldest gives way
	sessionLife = 30 * 24 * time.Hour
	// checkLife is how long a session that was valid is not looked up again. Logging out in this agent counts at once.
	checkLife  = 10 * time.Second
	maxChecked = 1024
	maxLabel   = 200 // bytes of the user agent kept with a session
)

// sessions are the browsers that may come in, kept hashed in the queue's database, and the one-time codes that let one in.
type sessions struct {
	queue *queue.Queue

	mu      sync.Mutex
	codes   []code // oldest first
	checked map[[sha256.Size]byte]time.Time
}

type code struct {
	sum     [sha256.Size]byte
	expires time.Time
}

// newCode gives a code that redeem takes once, within codeLife.
func (s *sessions) newCode() string {
	text := randomText(16)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropExpired(time.Now())
	if len(s.codes) >= maxCodes {
		s.codes = s.codes[1:]
	}
	s.codes = append(s.codes, code{sha256.Sum256([]byte(text)), time.Now().Add(codeLife)})
	return text
}

// redeem says whether the code is good, and spends it. Every code is compared, whichever fits.
func (s *sessions) redeem(text string) bool {
	sum := sha256.Sum256([]byte(text))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropExpired(time.Now())
	found := -1
	for i := range s.codes {
		if subtle.ConstantTimeCompare(sum[:], s.codes[i].sum[:]) == 1 {
			found = i
		}
	}
	if found < 0 {
		return false
	}
	s.codes = append(s.codes[:found:found], s.codes[found+1:]...)
	return true
}

func (s *sessions) dropExpired(now time.Time) {
	for len(s.codes) > 0 && !now.Before(s.codes[0].expires) {
		s.codes = s.codes[1:]
	}
}

// open makes a session and gives the cookie's value.
func (s *sessions) open(ctx context.Context, label string) (string, error) {
	value := randomText(32)
	err := s.queue.PutSession(ctx, sha256.Sum256([]byte(value)), strings.ToValidUTF8(label[:min(len(label), maxLabel)], ""), time.Now().Add(sessionLife))
	return value, err
}

// valid says whether the session exists and has not expired.
func (s *sessions) valid(ctx context.Context, sum [sha256.Size]byte) (bool, error) {
	now := time.Now()
	s.mu.Lock()
	until, known := s.checked[sum]
	s.mu.Unlock()
	if known && now.Before(until) {
		return true, nil
	}
	ok, err := s.queue.Session(ctx, sum)
	if err != nil || !ok {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checked == nil || len(s.checked) >= maxChecked {
		s.checked = map[[sha256.Size]byte]time.Time{}
	}
	s.checked[sum] = now.Add(checkLife)
	return true, nil
}

// close ends a session.
func (s *sessions) close(ctx context.Context, sum [sha256.Size]byte) error {
	err := s.queue.DeleteSession(ctx, sum)
	s.mu.Lock()
	delete(s.checked, sum)
	s.mu.Unlock()
	return err
}

func randomText(bytes int) string {
	b := make([]byte, bytes)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// cookieName carries the port that the browser sees, for cookies ignore ports: two agents on one name must not share one.
func cookieName(r *http.Request) string {
	_, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		port = "default"
	}
	return "muster-session-" + port
}

// pair answers POST /api/v1/session: a one-time code becomes a session.
func (s *Server) pair(w http.ResponseWriter, r *http.Request) error {
	var ask pairAsk
	if err := decodeBody(w, r, &ask); err != nil {
		return err
	}
	if ask.Code == "" {
		return invalid("code", "must be the code of a one-time link")
	}
	if !s.sessions.redeem(ask.Code) {
		return s.attempts.fail(r, "this link is wrong, was used already or is older than 5 minutes: print a new one with muster link")
	}
	value, err := s.sessions.open(r.Context(), r.UserAgent())
	if err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(r), Value: value, Path: "/", MaxAge: int(sessionLife.Seconds()), HttpOnly: true, SameSite: http.SameSiteStrictMode,
		// Behind a proxy that speaks TLS the browser says https in its Origin.
		Secure: r.TLS != nil || strings.HasPrefix(r.Header.Get("Origin"), "https://"),
	})
	s.log.Info("a browser was paired", "from", r.RemoteAddr)
	writeJSON(w, http.StatusOK, okAnswer{OK: true})
	return nil
}

// pairAsk is the body of POST /api/v1/session.
type pairAsk struct {
	Code string `json:"code"`
}

type okAnswer struct {
	OK bool `json:"ok"`
}

// session answers GET /api/v1/session: who gets here is let in.
func (s *Server) session(w http.ResponseWriter, r *http.Request) error {
	writeJSON(w, http.StatusOK, okAnswer{OK: true})
	return nil
}

// logout answers DELETE /api/v1/session: the session ends, and its sockets with it.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	if who := callerOf(r); !who.bearer {
		if err := s.sessions.close(r.Context(), who.session); err != nil {
			return err
		}
		s.sockets.endSession(who.session)
		http.SetCookie(w, &http.Cookie{Name: cookieName(r), Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	}
	writeJSON(w, http.StatusOK, okAnswer{OK: true})
	return nil
}

// link answers POST /api/v1/session/link: a new one-time link, for muster link.
func (s *Server) link(w http.ResponseWriter, r *http.Request) error {
	writeJSON(w, http.StatusOK, newLink{s.NewLink()})
	return nil
}

type newLink struct {
	URL string `json:"url"`
}
