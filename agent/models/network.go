package models

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// Network is how downloads reach the world. The zero value takes public addresses and the system's certificates.
type Network struct {
	// Allow judges an address after names were resolved; nil is PublicOnly.
	Allow func(netip.Addr) error
	// Resolve gives a host's addresses; nil asks the system.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial opens a connection to an address that was allowed; nil dials it.
	Dial func(ctx context.Context, address netip.AddrPort) (net.Conn, error)
	// Roots are the certificates that are trusted; nil are the system's.
	Roots *x509.CertPool
}

// Bounds of one exchange. What comes after the headers is watched by the transfer itself.
const (
	dialTimeout      = 20 * time.Second
	handshakeTimeout = 20 * time.Second
	headerTimeout    = time.Minute
	maxHeaders       = 64 << 10
	maxRedirects     = 10
)

// web fetches over https. It sends the hub's token to the hub alone.
type web struct {
	client *http.Client
	hub    *url.URL
	token  string // "" for none
}

func newWeb(n Network, hub *url.URL, token string) *web {
	if n.Allow == nil {
		n.Allow = PublicOnly
	}
	if n.Resolve == nil {
		n.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if n.Dial == nil {
		n.Dial = n.dial
	}
	transport := &http.Transport{
		Proxy:       nil, // a proxy would resolve names where nobody judges the addresses
		DialContext: n.dialAllowed, TLSClientConfig: &tls.Config{RootCAs: n.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: handshakeTimeout, ResponseHeaderTimeout: headerTimeout, MaxResponseHeaderBytes: maxHeaders,
		DisableCompression: true, DisableKeepAlives: true, // rare and long: nothing is kept open between them
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
	return &web{client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // get follows them itself
	}, hub: hub, token: token}
}

// dialAllowed resolves the host, judges every address, and dials the allowed ones in turn. Names are resolved once, here: there is
// no second look that could give another address.
func (n Network) dialAllowed(ctx context.Context, _, hostPort string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return nil, err
	}
	addresses, err := n.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	var failed error
	for _, address := range addresses {
		if err := n.Allow(address); err != nil {
			failed = &addressError{host, err.Error()}
			continue
		}
		target, err := netip.ParseAddrPort(net.JoinHostPort(address.String(), port))
		if err != nil {
			return nil, err
		}
		conn, err := n.Dial(ctx, target)
		if err == nil {
			return conn, nil
		}
		failed = err
	}
	if failed == nil {
		failed = &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	return nil, failed
}

func (n Network) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if address, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{address}, nil
	}
	return n.Resolve(ctx, host)
}

// dial judges the address once more where the kernel takes it.
func (n Network) dial(ctx context.Context, address netip.AddrPort) (net.Conn, error) {
	dialer := net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		target, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if err := n.Allow(target.Addr()); err != nil {
			return &addressError{target.Addr().String(), err.Error()}
		}
		return nil
	}}
	return dialer.DialContext(ctx, "tcp", address.String())
}

// get asks for an address and follows redirects, each of which must be https again and is judged again where it is dialed. The
// caller closes the body.
func (w *web) get(ctx context.Context, address string, header http.Header) (*http.Response, error) {
	target, err := parseHTTPS(address)
	if err != nil {
		return nil, err
	}
	for range maxRedirects + 1 {
		response, err := w.ask(ctx, target, header)
		if err != nil {
			return nil, err
		}
		if !redirects(response) {
			return response, nil
		}
		location := response.Header.Get("Location")
		_ = response.Body.Close()
		next, err := target.Parse(location)
		if err != nil || location == "" {
			return nil, &permanentError{fmt.Sprintf("%s redirects to nowhere", target.Host)}
		}
		if next.Scheme != "https" {
			return nil, &permanentError{fmt.Sprintf("%s redirects to %s, which is not https: models are downloaded over https only", target.Host, cut(next.Scheme+"://"+next.Host))}
		}
		if target, err = parseHTTPS(next.String()); err != nil {
			return nil, err
		}
	}
	return nil, &permanentError{fmt.Sprintf("%s redirects more than %d times", target.Host, maxRedirects)}
}

func (w *web) ask(ctx context.Context, target *url.URL, header http.Header) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header = header.Clone()
	if request.Header == nil {
		request.Header = http.Header{}
	}
	request.Header.Set("User-Agent", "muster")
	request.Header.Set("Accept-Encoding", "identity")
	if w.token != "" && target.Host == w.hub.Host {
		request.Header.Set("Authorization", "Bearer "+w.token)
	}
	response, err := w.client.Do(request)
	if err != nil {
		return nil, unwrapURL(err)
	}
	return response, nil
}

// unwrapURL leaves out the address: it may hold credentials.
func unwrapURL(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

func redirects(r *http.Response) bool {
	switch r.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// parseHTTPS takes an absolute https address without a user in it.
func parseHTTPS(address string) (*url.URL, error) {
	parsed, err := url.Parse(address)
	switch {
	case err != nil || !parsed.IsAbs() || parsed.Hostname() == "" || parsed.Opaque != "":
		return nil, &permanentError{"it is no address: want https://HOST/PATH/FILE"}
	case !strings.EqualFold(parsed.Scheme, "https"):
		return nil, &permanentError{fmt.Sprintf("%s:// is not downloaded from: models are downloaded over https only", cut(parsed.Scheme))}
	case parsed.User != nil:
		return nil, &permanentError{"an address with a user and password in it is not taken"}
	}
	parsed.Fragment, parsed.RawFragment = "", ""
	return parsed, nil
}

// permanentError is not tried again.
type permanentError struct{ words string }

func (e *permanentError) Error() string { return e.words }

// maxQuoted is how much of a foreign text an error repeats.
const maxQuoted = 80

// cut makes a foreign text fit to be shown: not long, and without anything that a terminal would obey.
func cut(text string) string {
	if runes := []rune(text); len(runes) > maxQuoted {
		text = string(runes[:maxQuoted]) + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
