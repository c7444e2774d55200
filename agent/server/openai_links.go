package server

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// linkLife is how long a link to an image works, as OpenAI's do.
const linkLife = time.Hour

// linkKey signs links to images. Who has a link may fetch that image until it expires, without the token: it is made to be handed
// on, to a browser too.
type linkKey [sha256.Size]byte

// newLinkKey derives the key from the token: links outlive the agent, and end with the token.
func newLinkKey(token string) (linkKey, error) {
	key, err := hkdf.Key(sha256.New, []byte(token), nil, "muster links to images 1", sha256.Size)
	if err != nil {
		return linkKey{}, fmt.Errorf("derive the key of links: %w", err)
	}
	return linkKey(key), nil
}

const linkMACBytes = 16 // of the 32 that there are

// ticket is the last part of a link: what it is for, until when, and the proof of both. As text EXPIRY.MAC.png, or
// EXPIRY.MAC.q90.jpg for a JPEG of that quality.
type ticket struct {
	expires int64 // Unix seconds
	mac     []byte
	as      encoding
}

func (t ticket) suffix() string {
	if t.as.jpeg {
		return fmt.Sprintf("q%d.jpg", t.as.quality)
	}
	return "png"
}

func (t ticket) String() string {
	return fmt.Sprintf("%d.%s.%s", t.expires, base64.RawURLEncoding.EncodeToString(t.mac), t.suffix())
}

// parseTicket reads the text of a ticket. Every ticket has one text only.
func parseTicket(text string) (t ticket, ok bool) {
	expires, rest, _ := strings.Cut(text, ".")
	mac, suffix, _ := strings.Cut(rest, ".")
	var err error
	if t.expires, err = strconv.ParseInt(expires, 10, 64); err != nil {
		return ticket{}, false
	}
	if t.mac, err = base64.RawURLEncoding.Strict().DecodeString(mac); err != nil || len(t.mac) != linkMACBytes {
		return ticket{}, false
	}
	if quality, ok := strings.CutPrefix(strings.TrimSuffix(suffix, ".jpg"), "q"); ok {
		t.as.jpeg = true
		t.as.quality, _ = strconv.Atoi(quality) // what is none is not written so again
	}
	return t, t.String() == text && (!t.as.jpeg || t.as.quality >= 1 && t.as.quality <= 100)
}

func (k linkKey) sign(id string, t ticket) []byte {
	mac := hmac.New(sha256.New, k[:])
	fmt.Fprintf(mac, "%s/%d.%s", id, t.expires, t.suffix())
	return mac.Sum(nil)[:linkMACBytes]
}

// url makes a link on the address that the client used.
func (k linkKey) url(r *http.Request, id string, as encoding, now time.Time) string {
	t := ticket{expires: now.Add(linkLife).Unix(), as: as}
	t.mac = k.sign(id, t)
	scheme := "http"
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" { // a proxy in front speaks TLS
		scheme = "https"
	}
	return scheme + "://" + r.Host + "/v1/images/files/" + id + "/" + t.String()
}

// allows gives what the ticket is for, unless it is wrong or expired.
func (k linkKey) allows(id, text string, now time.Time) (ticket, bool) {
	t, ok := parseTicket(text)
	if !ok {
		return ticket{}, false
	}
	right := hmac.Equal(t.mac, k.sign(id, t))
	return t, right && now.Unix() < t.expires
}

var errNoLink = &refusal{status: http.StatusNotFound, code: "not_found", message: "this link is wrong or older than an hour"}

// linkTimeout is how long fetching an image may take.
const linkTimeout = 2 * time.Minute

// openAIFile answers GET /v1/images/files/{id}/{ticket}.
func (s *Server) openAIFile(w http.ResponseWriter, r *http.Request) error {
	id, now := r.PathValue("id"), time.Now()
	t, ok := s.links.allows(id, r.PathValue("ticket"), now)
	if !ok {
		return errNoLink
	}
	// The link is a permission of its own, for a page that shows the image too, and ends when it says.
	shared := func(h http.Header) {
		h.Set("Cache-Control", fmt.Sprintf("private, max-age=%d", t.expires-now.Unix()))
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	}
	if !t.as.jpeg {
		linkDeadline(w)
		return s.original(w, r, id, shared)
	}
	return s.converted(w, r, id, t.as, shared)
}

// linkDeadline begins the time that a client has for reading. Waiting for a JPEG is not in it.
func linkDeadline(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(linkTimeout)) // recorders of tests know no deadlines
}

// converted serves the image as a JPEG, or as it is kept where none is made of it. What needs none, HEAD and a client that has it already, costs none.
func (s *Server) converted(w http.ResponseWriter, r *http.Request, id string, as encoding, change func(http.Header)) error {
	there, err := s.config.Images.Open(id)
	if err != nil {
		return noImage(err)
	}
	suits := as.suited(imageFile{file: there})
	there.Close()
	if !suits.jpeg {
		linkDeadline(w)
		return s.original(w, r, id, change)
	}
	headers := func() {
		imageHeaders(w.Header(), "image/jpeg", jpegTag(id, as.quality))
		w.Header().Set("Content-Disposition", fmt.Sprintf(`inline; filename="muster-%.12s.jpg"`, id))
		change(w.Header())
	}
	has := hasTag(r.Header, jpegTag(id, as.quality))
	if has || r.Method == http.MethodHead {
		headers()
		if has {
			w.Header().Del("Content-Type")
			w.WriteHeader(http.StatusNotModified)
		}
		return nil
	}
	file, done, err := s.linkedJPEG(r.Context(), id, as.quality)
	if err != nil {
		return noImage(err)
	}
	defer done()
	headers()
	linkDeadline(w)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
	return nil
}

func jpegTag(id string, quality int) string { return fmt.Sprintf("%s-q%d", id, quality) }

// hasTag says whether the client has what has this tag (RFC 9110, 13.1.2). No tag here holds a comma.
func hasTag(h http.Header, tag string) bool {
	for given := range strings.SplitSeq(strings.Join(h.Values("If-None-Match"), ","), ",") {
		given = strings.TrimSpace(given)
		if given == "*" || strings.TrimPrefix(given, "W/") == `"`+tag+`"` {
			return true
		}
	}
	return false
}

// Bounds of JPEGs for links, apart from those of the doors: who has a link needs no token, and may be anybody.
const (
	linkMemory  = 256 << 20        // bytes of all, until they are sent
	linkReserve = 32 << 20         // bytes for one while it is made
	linkWait    = 15 * time.Second // for room and for its turn
)

var errLinks = &refusal{status: http.StatusServiceUnavailable, code: "busy", message: "too many images are being fetched: try again in a few seconds", retry: 5 * time.Second}

// linkedJPEG makes a JPEG for a link. Until done is called it has its place in linkMemory: only its own bytes of it once it is made, so
// that clients that do not read keep nobody out for long. Errors: errLinks when there is no room, those of images.JPEG.
func (s *Server) linkedJPEG(ctx context.Context, id string, quality int) (file []byte, done func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, linkWait)
	defer cancel()
	held := int64(linkReserve)
	err = s.linked.Acquire(waiting, held)
	if err == nil {
		if file, err = s.config.Images.JPEG(waiting, id, quality); err != nil {
			s.linked.Release(held)
		}
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, nil, errAnswered // nobody is there to read one
	case errors.Is(err, context.DeadlineExceeded):
		return nil, nil, errLinks
	default:
		return nil, nil, err
	}
	if spare := held - int64(len(file)); spare > 0 {
		s.linked.Release(spare)
		held -= spare
	}
	return file, func() { s.linked.Release(held) }, nil
}
