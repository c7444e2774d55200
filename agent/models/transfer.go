package models

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// transfer brings one file into its part. It belongs to the goroutine that installs.
type transfer struct {
	library *Library
	record  *record
	url     string
	host    string // of the address, for people
	format  string
	part    *os.File

	sha  string // that the file must have; "" when it is not known
	said int64  // bytes that it has by the hub or the last answer; 0 when nobody said
	told bool   // said is the hub's: an answer that says something else is refused

	here atomic.Int64 // bytes of the part
}

// errAnew says that what is here is of no use: the next attempt begins at the first byte.
var errAnew = errors.New("the file there has changed, so the download begins anew")

// maxAnew is how often a file may change while it is downloaded.
const maxAnew = 5

// run tries until the part is whole. Attempts that come further do not count; in between it waits, longer each time.
func (t *transfer) run(ctx context.Context) error {
	limits := t.library.limits
	best, tries, anew := t.here.Load(), 0, 0
	for {
		err := t.attempt(ctx)
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		if !tryAgain(err) {
			return explainNetwork(t.host, err)
		}
		tries++
		if errors.Is(err, errAnew) && anew < maxAnew {
			best, anew = 0, anew+1
		}
		if here := t.here.Load(); here >= best+limits.step {
			best, tries = here, 1
		}
		if tries >= limits.tries {
			return fmt.Errorf("given up after %d attempts that came no further: %w; install it again to go on", tries, err)
		}
		wait := min(limits.backoff<<(tries-1), limits.longest)
		var status *statusError
		if errors.As(err, &status) {
			wait = max(wait, status.after)
		}
		t.library.trouble(t.record, fmt.Sprintf("%s; tried again in %s", err, wait.Round(time.Second)))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// attempt asks once for what is missing and writes it.
func (t *transfer) attempt(ctx context.Context) error {
	if here := t.here.Load(); t.said > 0 && here == t.said {
		return nil
	} else if t.said > 0 && here > t.said {
		if err := t.truncate(0); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	response, err := t.library.web.get(ctx, t.url, t.header())
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := t.begin(response); err != nil {
		return err
	}
	watched := make(chan struct{})
	defer func() { cancel(nil); <-watched }()
	go func() { defer close(watched); t.watch(ctx, cancel) }()
	err = t.copy(response.Body)
	if cause := context.Cause(ctx); cause != nil && !isDisk(err) {
		err = cause
	}
	if err != nil && !isDisk(err) {
		return errors.Join(err, t.sync()) // what came stays
	}
	return err
}

// header asks for the rest where it can be told that it is the rest of the same file: by a strong validator, or by the hash in the
// end.
func (t *transfer) header() http.Header {
	header := http.Header{"Accept": {"*/*"}}
	here, etag := t.here.Load(), t.library.etag(t.record)
	if here == 0 || etag == "" && t.sha == "" {
		return header
	}
	header.Set("Range", "bytes="+strconv.FormatInt(here, 10)+"-")
	if etag != "" {
		header.Set("If-Range", etag)
	}
	return header
}

// begin judges an answer and puts the part at the place where its first byte belongs.
func (t *transfer) begin(response *http.Response) error {
	here, total := t.here.Load(), response.ContentLength
	switch response.StatusCode {
	case http.StatusOK:
		here = 0
	case http.StatusPartialContent:
		from, whole, ok := contentRange(response.Header.Get("Content-Range"))
		if !ok || from != here || whole >= 0 && response.ContentLength >= 0 && from+response.ContentLength != whole {
			return errors.Join(errAnew, t.truncate(0))
		}
		total = whole
		if !t.told && t.said > 0 && whole > 0 && whole != t.said {
			return errors.Join(errAnew, t.truncate(0))
		}
		// One that tells no validator any more may be another file: only a hash to come would find that out.
		if known, now := t.library.etag(t.record), strong(response); known != "" && known != now && (now != "" || t.sha == "") {
			return errors.Join(errAnew, t.truncate(0))
		}
	case http.StatusRequestedRangeNotSatisfiable:
		return errors.Join(errAnew, t.truncate(0))
	default:
		return t.library.web.explainStatus(response, "the file", time.Now())
	}
	if err := t.admit(response, total); err != nil {
		return err
	}
	if err := t.truncate(here); err != nil {
		return err
	}
	switch {
	case total > 0:
		t.said = total
	case !t.told:
		t.said = 0
	}
	t.library.known(t.record, t.said, strong(response))
	return t.library.room(t.said - here)
}

// admit refuses what can't be the file: a web page, something packed, or a file of another size than was said.
func (t *transfer) admit(response *http.Response, total int64) error {
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind == "text/html" || kind == "application/xhtml+xml" {
		return &permanentError{t.host + " answers with a web page and not with the file: it may want a login, or the address is that of the file's page; copy the address of its download"}
	}
	if packed := response.Header.Get("Content-Encoding"); packed != "" && packed != "identity" {
		return &permanentError{t.host + " sends the file packed (" + cut(packed) + "), which was not asked for"}
	}
	switch most := t.library.config.MaxBytes; {
	case total > most:
		return &permanentError{fmt.Sprintf("%s says that the file has %s; at most %s are installed", t.host, sizeWords(total), sizeWords(most))}
	case t.told && total > 0 && total != t.said:
		return &permanentError{fmt.Sprintf("%s says that the file has %d bytes, but the hub told of %d: it is another file", t.host, total, t.said)}
	case total == 0 || total > 0 && total < signatureBytes:
		return &permanentError{fmt.Sprintf("%s sends a file of %d bytes: that is no model", t.host, total)}
	}
	return nil
}

// contentRange reads "bytes 100-199/1000"; whole is −1 for "*".
func contentRange(text string) (from, whole int64, ok bool) {
	rest, ok := strings.CutPrefix(text, "bytes ")
	span, size, ok2 := strings.Cut(rest, "/")
	first, _, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, false
	}
	from, err := strconv.ParseInt(first, 10, 64)
	if err != nil || from < 0 {
		return 0, 0, false
	}
	if size == "*" {
		return from, -1, true
	}
	whole, err = strconv.ParseInt(size, 10, 64)
	return from, whole, err == nil && whole > from
}

// strong gives the validator of an answer if bytes can be trusted to it (RFC 9110, 8.8.1); "" for none.
func strong(response *http.Response) string {
	if etag := response.Header.Get("ETag"); strings.HasPrefix(etag, `"`) && len(etag) <= 256 {
		return etag
	}
	return ""
}

// truncate leaves the first bytes of the part, and writes on there. What is known to be on the disk is no more than that from before
// it happens: after a crash, bytes that come then in their place would be taken for it.
func (t *transfer) truncate(here int64) error {
	if t.library.keptAtMost(t.record, here) {
		if err := t.library.save(); err != nil {
			return onDisk(err)
		}
	}
	err := t.part.Truncate(here)
	if err == nil {
		_, err = t.part.Seek(here, io.SeekStart)
	}
	t.here.Store(here)
	return onDisk(err)
}

// copy writes what comes. What is more than was said is never written.
func (t *transfer) copy(body io.Reader) error {
	most := t.said
	if most == 0 {
		most = t.library.config.MaxBytes
	}
	buffer, unsynced := make([]byte, 256<<10), int64(0)
	head := t.here.Load() == 0
	for {
		n, err := io.ReadAtLeast(body, buffer, 1)
		if head && n > 0 && n < signatureBytes && err == nil { // the first bytes are judged together
			var more int
			more, err = io.ReadAtLeast(body, buffer[n:], signatureBytes-n)
			n += more
		}
		if head && n >= signatureBytes {
			if !beginsWell(buffer, t.format) {
				return &permanentError{fmt.Sprintf("what %s sends is no %s file", t.host, t.format)}
			}
			head = false
		}
		if here := t.here.Load(); int64(n) > most-here {
			return &permanentError{fmt.Sprintf("%s sends more than the %s that the file has", t.host, sizeWords(most))}
		}
		if _, err := t.part.Write(buffer[:n]); err != nil {
			return onDisk(err)
		}
		t.here.Add(int64(n))
		if unsynced += int64(n); unsynced >= t.library.limits.sync {
			unsynced = 0
			if err := t.sync(); err != nil {
				return err
			}
		}
		if err != nil {
			return t.finish(err)
		}
	}
}

// finish judges the end of a body.
func (t *transfer) finish(err error) error {
	switch here := t.here.Load(); {
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("the connection to %s was cut after %s: %w", t.host, sizeWords(here), err)
	case t.said > 0 && here < t.said:
		return fmt.Errorf("%s ended after %s of %s", t.host, sizeWords(here), sizeWords(t.said))
	case here == 0:
		return &permanentError{t.host + " sends an empty file"}
	}
	t.said = t.here.Load()
	return t.sync()
}

// sync makes what is here durable, and remembers how much that is.
func (t *transfer) sync() error {
	here := t.here.Load()
	if err := t.part.Sync(); err != nil {
		return onDisk(err)
	}
	return onDisk(t.library.kept(t.record, here))
}
