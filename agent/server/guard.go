package server

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// guard lets a request through to the mux only with an exact Host, an exact Origin where there is one, and the credentials that
// its route asks for. It stands outside the mux: there is no route that it does not see.
//
//   - Host is one of ours on every request, whatever the bind address: that ends DNS rebinding.
//   - An Origin, where there is one, is one of ours; "null" never is.
//   - What browsers say comes from another site (Sec-Fetch-Site) gets only what is public to read.
//   - The token counts from anywhere that the above allows. A session's cookie counts only with an Origin, or on a GET or HEAD
//     of which the browser says that it is same-origin or the user's own: cookies are sent by themselves.
func (s *Server) guard(mux *http.ServeMux, resources map[string]*resource) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pattern := mux.Handler(r)
		p := resources[pattern]
		if p == nil { // the mux's own answers, such as a redirect to the clean path
			p = &resource{methods: []route{{}}, refuse: s.refuse}
		}
		found, ok := p.route(r.Method)
		if !ok {
			found = route{legacy: p.methods[0].legacy}
		}
		if err := s.hosts.checkHost(r); err != nil {
			setBaseHeaders(w.Header())
			s.refuse(w, r, err, found.legacy)
			return
		}
		setSecurityHeaders(w.Header(), r.Host)
		who, err := s.admit(w, r, found)
		if err != nil {
			s.refuse(w, r, err, found.legacy)
			return
		}
		mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, who)))
	})
}

// admit decides on a request with the right Host.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, found route) (caller, error) {
	if err := s.hosts.checkOrigin(r); err != nil {
		return caller{}, err
	}
	open := found.access == public
	if !(open && reads(r)) && crossSite(r) {
		return caller{}, &refusal{status: http.StatusForbidden, code: "cross_site", message: "requests from other sites are not answered"}
	}
	if open {
		return caller{}, nil
	}
	who, err := s.authenticate(w, r)
	if err == nil && found.access == needsBearer && !who.bearer {
		err = &refusal{status: http.StatusForbidden, code: "needs_token", message: "this needs the token itself: send Authorization: Bearer TOKEN"}
	}
	return who, err
}

// Roles come here: a caller who is not the machine's owner is refused what needsAdmin guards. Today every session was made by a
// one-time link that its owner printed, and the token is in their data folder, so both are the owner's.

// caller is who asks: a program that knows the token, or a browser's session.
type caller struct {
	bearer  bool
	session [sha256.Size]byte // hash of the session's cookie; zero for bearer
}

// client names the caller where its command does not, so that one who asks for much does not keep the others out: each paired
// browser is one, all programs together another.
func (c caller) client() string {
	if c.bearer {
		return "programs"
	}
	return fmt.Sprintf("browser %x", c.session[:4])
}

type callerKey struct{}

// callerOf gives what the guard found; the zero caller on public routes.
func callerOf(r *http.Request) caller {
	who, _ := r.Context().Value(callerKey{}).(caller)
	return who
}

// authenticate finds out who asks. Wrong credentials are answered late, see attempts; none are answered at once.
func (s *Server) authenticate(w http.ResponseWriter, r *http.Request) (caller, error) {
	if r.Header.Get("Authorization") != "" {
		if s.knowsToken(r) {
			return caller{bearer: true}, nil
		}
		return caller{}, s.attempts.fail(r, "the token is wrong: it stands in the file token of the agent's data folder")
	}
	cookie, err := r.Cookie(cookieName(r))
	if err != nil {
		return caller{}, unauthorized("this needs a session or the token: open a link of muster link in the browser, or send Authorization: Bearer TOKEN")
	}
	if r.Header.Get("Origin") == "" && !ownRead(r) {
		return caller{}, unauthorized("a cookie counts only for requests of muster's own page; programs send Authorization: Bearer TOKEN")
	}
	who := caller{session: sha256.Sum256([]byte(cookie.Value))}
	ok, err := s.sessions.valid(r.Context(), who.session)
	if err != nil {
		return caller{}, err
	}
	if !ok {
		// The browser shall not send it again: each time would count as an attempt.
		http.SetCookie(w, &http.Cookie{Name: cookie.Name, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
		return caller{}, s.attempts.fail(r, "the session has ended: open a new link of muster link")
	}
	return who, nil
}

func unauthorized(message string) *refusal {
	return &refusal{status: http.StatusUnauthorized, code: "unauthorized", message: message}
}

// knowsToken compares the token of Authorization: as Bearer, or as the password of Basic, which is all that clients of the sdapi
// can send.
func (s *Server) knowsToken(r *http.Request) bool {
	given, isBasic := "", false
	if _, password, ok := r.BasicAuth(); ok {
		given, isBasic = password, true
	}
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		given = strings.TrimSpace(token)
	} else if !isBasic {
		return false
	}
	sum := sha256.Sum256([]byte(given)) // of equal length, so that comparing tells nothing of the length
	return subtle.ConstantTimeCompare(sum[:], s.tokenSum[:]) == 1
}

// reads says whether the method changes nothing and the request does not ask for a socket, which takes commands.
func reads(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Header.Get("Upgrade") == ""
}

// ownRead says whether a request without Origin is one that the page itself, or the user by the address bar, made: browsers send
// no Origin with same-origin GETs.
func ownRead(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return reads(r) && (site == "same-origin" || site == "none")
}

func crossSite(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return site == "cross-site" || site == "same-site"
}

// hosts are the exact values of Host and Origin that are served.
type hosts struct {
	names   []string // lower case
	origins []string
}

// newHosts lists the loopback names with the port that is listened on, the address itself, and what the user allowed besides.
// Browsers leave out a scheme's own port.
func newHosts(addr string, allowed []string) (hosts, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return hosts{}, err
	}
	var h hosts
	for _, name := range append([]string{addr, "127.0.0.1:" + port, "localhost:" + port, "[::1]:" + port}, allowed...) {
		name = strings.ToLower(name)
		h.add(name, "http://"+name, "https://"+name)
		switch host, port, err := net.SplitHostPort(name); {
		case err != nil:
		case port == "80":
			h.add(bracketed(host), "http://"+bracketed(host))
		case port == "443":
			h.add(bracketed(host), "https://"+bracketed(host))
		}
	}
	return h, nil
}

func bracketed(host string) string {
	if address, err := netip.ParseAddr(host); err == nil && address.Is6() {
		return "[" + host + "]"
	}
	return host
}

func (h *hosts) add(name string, origins ...string) {
	h.names = append(h.names, name)
	h.origins = append(h.origins, origins...)
}

func (h hosts) checkHost(r *http.Request) error {
	if slices.Contains(h.names, strings.ToLower(r.Host)) {
		return nil
	}
	return &refusal{status: http.StatusForbidden, code: "host", message: "this Host is not served: start the agent with --allow-host NAME:PORT to add one"}
}

func (h hosts) checkOrigin(r *http.Request) error {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 || len(origins) == 1 && slices.Contains(h.origins, origins[0]) {
		return nil
	}
	return &refusal{status: http.StatusForbidden, code: "origin", message: "this Origin is not served: only muster's own page is"}
}
