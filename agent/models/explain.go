package models

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// statusError is an answer that is no file.
type statusError struct {
	words string
	again bool          // a later attempt may do better
	after time.Duration // that the server asks to wait; 0 when it does not say
}

func (e *statusError) Error() string { return e.words }

// maxRetryAfter is how long a server may make an installation wait.
const maxRetryAfter = 10 * time.Minute

// explainStatus says what an answer means. what is for what was asked ("the file", "the repository owner/name").
func (w *web) explainStatus(response *http.Response, what string, now time.Time) error {
	host := response.Request.URL.Host
	ours := host == w.hub.Host
	status := statusWords(response.StatusCode)
	words := func(format string, args ...any) *statusError {
		return &statusError{words: host + " " + fmt.Sprintf(format, args...) + " (" + status + ")"}
	}
	switch code := response.StatusCode; {
	case code == http.StatusUnauthorized && ours && w.token == "":
		return words("gives %s only to those who are logged in, or does not have it: check its name; if its page asks to accept a licence, do so, and start muster with your token in MUSTER_HUB_TOKEN", what)
	case (code == http.StatusUnauthorized || code == http.StatusForbidden) && ours:
		return words("does not give %s to the account of MUSTER_HUB_TOKEN: accept the model's licence on its page, and check the token", what)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return words("refuses %s: the address has expired, or wants an account", what)
	case code == http.StatusNotFound, code == http.StatusGone:
		return words("does not have %s: check how it is written", what)
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable, code == http.StatusRequestTimeout:
		err := words("is busy and asks to come later")
		err.after = retryAfter(response.Header.Get("Retry-After"), now)
		if err.again = err.after <= maxRetryAfter; !err.again {
			err.words = fmt.Sprintf("%s asks to wait %s: install it again then (%s)", host, err.after.Round(time.Minute), status)
		}
		return err
	case code >= 500:
		err := words("has a fault")
		err.again = true
		return err
	}
	return words("does not give %s", what)
}

// statusWords names a status by its number alone: the text beside it is the server's, and would reach a terminal.
func statusWords(code int) string {
	return strings.TrimSpace(strconv.Itoa(code) + " " + http.StatusText(code))
}

// retryAfter reads seconds or a date; 0 when there is neither.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(strings.TrimSpace(text), 10, 32); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// tryAgain says whether a later attempt may do better.
func tryAgain(err error) bool {
	var status *statusError
	var permanent *permanentError
	var address *addressError
	var certificate *tls.CertificateVerificationError
	var name *net.DNSError
	switch {
	case errors.As(err, &status):
		return status.again
	case errors.As(err, &permanent), errors.As(err, &address), errors.As(err, &certificate):
		return false
	case errors.As(err, &name):
		return !name.IsNotFound
	case errors.Is(err, errNoRoom), errors.Is(err, errStopped), isDisk(err):
		return false
	}
	return true
}

// explainNetwork says a connection's trouble in words; others as they are.
func explainNetwork(host string, err error) error {
	var certificate *tls.CertificateVerificationError
	var name *net.DNSError
	switch {
	case errors.As(err, &certificate):
		return fmt.Errorf("%s has a certificate that is not valid: %w", host, err)
	case errors.As(err, &name) && name.IsNotFound:
		return fmt.Errorf("there is no host %s: check the address, and that this machine reaches the internet", host)
	}
	return err
}

// diskError is this machine's own trouble.
type diskError struct{ err error }

func (e *diskError) Error() string {
	if errors.Is(e.err, syscall.ENOSPC) || errors.Is(e.err, syscall.EDQUOT) {
		return "the disk of the models folder is full: make room and install it again"
	}
	return "the models folder can't be written: " + e.err.Error()
}

func (e *diskError) Unwrap() error { return e.err }

func isDisk(err error) bool {
	var disk *diskError
	return errors.As(err, &disk)
}

// onDisk marks an error as this machine's; nil stays nil.
func onDisk(err error) error {
	if err == nil {
		return nil
	}
	return &diskError{err}
}
