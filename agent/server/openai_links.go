package server

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
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
	_ = http.NewResponseController(w).SetWriteDeadline(now.Add(linkTimeout)) // recorders of tests know no deadlines
	// The link is a permission of its own, for a page that shows the image too, and ends when it says.
	shared := func(h http.Header) {
		h.Set("Cache-Control", fmt.Sprintf("private, max-age=%d", t.expires-now.Unix()))
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	}
	if !t.as.jpeg {
		return s.original(w, r, id, shared)
	}
	return s.converted(w, r, id, t.as, shared)
}

// converted serves the image as a JPEG.
func (s *Server) converted(w http.ResponseWriter, r *http.Request, id string, as encoding, change func(http.Header)) error {
	if err := s.jpegs.Acquire(r.Context(), 1); err != nil {
		return errAnswered // nobody is there to read one
	}
	defer s.jpegs.Release(1)
	file, err := s.config.Images.JPEG(r.Context(), id, as.quality)
	if err != nil {
		return noImage(err)
	}
	imageHeaders(w.Header(), "image/jpeg", fmt.Sprintf("%s-q%d", id, as.quality))
	w.Header().Set("Content-Disposition", fmt.Sprintf(`inline; filename="muster-%.12s.jpg"`, id))
	change(w.Header())
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
	return nil
}
