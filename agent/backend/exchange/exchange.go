// Package exchange makes one HTTP exchange with a generator. Nothing about a generator is trusted: every answer is bounded in
// bytes and in time, its status is checked, redirects and proxies are not followed, and only loopback is ever dialled.
//
// It is a leaf of the backends: they import it, it knows none of them.
package exchange

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Config says whom a Client speaks to. Only Name and Base are required.
type Config struct {
	Name string // of the program, for errors that people see: "sd-server"
	Base string // scheme, host and port: "http://127.0.0.1:8188"
	// User and Password are sent as basic authentication, Bearer as a token; "" sends none.
	User, Password, Bearer string
	// Answer is how long one exchange may take, unless its Call says otherwise; 0 is 30 s.
	Answer time.Duration
	// Limit is the size of the largest answer in bytes; 0 is DefaultLimit.
	Limit int64
	// IdleConnections is how many connections are kept between exchanges; 0 is 1.
	IdleConnections int
}

// DefaultLimit bounds an answer: a PNG of 16 megapixels in base64 fits.
const DefaultLimit = 64 << 20

// maxComplaint bounds how much of an answer with an unwanted status is read.
const maxComplaint = 64 << 10

// Client speaks to one generator. Its methods may be called from any goroutine.
type Client struct {
	config Config
	auth   string // header, "" for none
	client *http.Client
}

// New makes a Client; it connects to nobody yet.
func New(c Config) *Client {
	if c.Answer == 0 {
		c.Answer = 30 * time.Second
	}
	if c.Limit == 0 {
		c.Limit = DefaultLimit
	}
	c.Base = strings.TrimSuffix(c.Base, "/")
	client := &Client{config: c, client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second, Control: loopbackOnly}).DialContext,
			MaxIdleConnsPerHost: max(1, c.IdleConnections),
			IdleConnTimeout:     2 * time.Second, // sd-server drops idle connections after 5 s
			DisableCompression:  true,
		},
	}}
	switch {
	case c.Bearer != "":
		client.auth = "Bearer " + c.Bearer
	case c.User != "" || c.Password != "":
		client.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(c.User+":"+c.Password))
	}
	return client
}

// loopbackOnly refuses every other address after names were resolved: a generator's address may not lead out of the machine.
func loopbackOnly(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err == nil && at.Addr().Unmap().IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s is not on this machine: generators are reached on loopback only", address)
}

// HTTP gives the client below, with the same rules for dialling and redirects, for what is no plain exchange (a WebSocket). It sets
// no deadline and no credentials: Authorization gives these.
func (c *Client) HTTP() *http.Client { return c.client }

// Authorization is the value of that header; "" for none.
func (c *Client) Authorization() string { return c.auth }

// URL is the address of a path.
func (c *Client) URL(path string) string { return c.config.Base + path }

// Name is the program's, for errors that people see.
func (c *Client) Name() string { return c.config.Name }

// Close ends connections that wait for the next exchange.
func (c *Client) Close() { c.client.CloseIdleConnections() }

// Call is one exchange.
type Call struct {
	Method, Path string // "GET", "/v1/models?x=y"
	// Body is sent as JSON; nil sends none. A []byte is sent as it is.
	Body any
	// Want is the only status that is no error; 0 is any of 200 to 299.
	Want int
	// Wait is how long the answer may take to begin; 0 is the Client's Answer, Patient as long as the context lasts.
	Wait time.Duration
	// Read is how long the answer may take from its first byte to its last; 0 is the Client's Answer.
	Read time.Duration
	// Limit is the size of the largest answer in bytes; 0 is the Client's.
	Limit int64
}

// Patient waits for an answer's beginning as long as the context lasts.
const Patient time.Duration = -1

// ErrBroken is wrapped by the errors of answers that no sound program gives: what state it is in is not known.
var ErrBroken = errors.New("answered nonsense")

// ErrSlow is wrapped when an answer did not come in time; the context's own end gives its cause instead.
var ErrSlow = errors.New("did not answer in time")

// StatusError is an answer with an unwanted status.
type StatusError struct {
	Name    string // of the program
	Status  int
	Message string        // the program's, cleaned for people; "" for none
	Body    []byte        // of the answer, as far as it was read: at most 64 KiB
	Retry   time.Duration // its Retry-After; 0 for none
}

// Error is for people.
func (e *StatusError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("%s answered %d", e.Name, e.Status)
	}
	return fmt.Sprintf("%s answered %d: %s", e.Name, e.Status, e.Message)
}

// StatusOf gives that of an answer that was not wanted; 0 when the error is none of that kind.
func StatusOf(err error) int {
	var answered *StatusError
	if !errors.As(err, &answered) {
		return 0
	}
	return answered.Status
}

// JSON makes an exchange and decodes its JSON into out; nil throws the answer away. Errors: a *StatusError, one that wraps ErrBroken
// or ErrSlow, the context's cause, or the transport's.
func (c *Client) JSON(ctx context.Context, call Call, out any) error {
	text, err := c.Bytes(ctx, call)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s %w: %s", c.config.Name, ErrBroken, Clean(err.Error()))
	}
	return nil
}

// Bytes makes an exchange and gives the answer's body. Errors are those of JSON.
func (c *Client) Bytes(ctx context.Context, call Call) ([]byte, error) {
	ctx, clock := newDeadline(ctx)
	defer clock.stop()
	request, err := c.request(ctx, call)
	if err != nil {
		return nil, err
	}
	if call.Wait != Patient {
		clock.allow(orDefault(call.Wait, c.config.Answer))
	}
	response, err := c.client.Do(request)
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	defer response.Body.Close()
	clock.allow(orDefault(call.Read, c.config.Answer))
	if !wanted(call.Want, response.StatusCode) {
		return nil, c.refused(response)
	}
	body, err := read(response, orDefault(call.Limit, c.config.Limit))
	if errors.Is(err, ErrBroken) {
		return nil, fmt.Errorf("%s %w", c.config.Name, err)
	}
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	return body, nil
}

func orDefault[T time.Duration | int64](value, fallback T) T {
	if value == 0 {
		return fallback
	}
	return value
}

func wanted(want, status int) bool {
	return status == want || want == 0 && status >= 200 && status < 300
}

func (c *Client) request(ctx context.Context, call Call) (*http.Request, error) {
	var content io.Reader
	if call.Body != nil {
		encoded, raw := call.Body.([]byte)
		if !raw {
			var err error
			if encoded, err = json.Marshal(call.Body); err != nil {
				return nil, err
			}
		}
		content = bytes.NewReader(encoded) // its length is known: sd-server stalls 5.1 s on a POST without Content-Length
	}
	request, err := http.NewRequestWithContext(ctx, call.Method, c.URL(call.Path), content)
	if err != nil {
		return nil, err
	}
	if call.Body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.auth != "" {
		request.Header.Set("Authorization", c.auth)
	}
	return request, nil
}

// failed explains an exchange that gave no whole answer. The transport's own text names the address alone.
func (c *Client) failed(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		if errors.Is(cause, ErrSlow) {
			return fmt.Errorf("%s %w", c.config.Name, ErrSlow)
		}
		return cause
	}
	return fmt.Errorf("%s can't be reached: %w%s", c.config.Name, unwrapURL(err), insteadOfTLS(err))
}

// insteadOfTLS says what to do about a server that can't be reached by https; "" for anything else.
func insteadOfTLS(err error) string {
	if certificate := new(tls.CertificateVerificationError); errors.As(err, &certificate) {
		return ": have it speak http, which on this machine nobody can listen to, and write http:// in its address"
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return ": it speaks http, so write http:// in its address"
	}
	return ""
}

// unwrapURL leaves out the address, whose query may hold what must not be logged.
func unwrapURL(err error) error {
	var wrapped interface{ Unwrap() error }
	if errors.As(err, &wrapped) && wrapped.Unwrap() != nil {
		return wrapped.Unwrap()
	}
	return err
}

func (c *Client) refused(response *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxComplaint)) // most have none
	e := &StatusError{Name: c.config.Name, Status: response.StatusCode, Message: Complaint(body), Body: body}
	if seconds, err := time.ParseDuration(response.Header.Get("Retry-After") + "s"); err == nil && seconds > 0 {
		e.Retry = seconds
	}
	return e
}

// read takes a body of at most limit bytes, into a buffer of its size where that is told: a large image is held once.
func read(response *http.Response, limit int64) ([]byte, error) {
	tooLong := fmt.Errorf("%w: more than %d MiB", ErrBroken, limit>>20)
	if response.ContentLength > limit {
		return nil, tooLong
	}
	size := max(0, int(response.ContentLength))
	content := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead)) // MinRead: the end of a body is found without growing
	bounded := &io.LimitedReader{R: response.Body, N: limit + 1}
	_, err := content.ReadFrom(bounded)
	switch {
	case bounded.N <= 0:
		return nil, tooLong
	case err != nil:
		return nil, err
	}
	return content.Bytes(), nil
}
