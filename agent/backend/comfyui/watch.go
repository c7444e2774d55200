package comfyui

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"

	"muster/agent/backend"
	"muster/agent/process"
)

// Bounds of a message on the socket in bytes. A longer one than maxMessage is read and thrown away; one longer than maxSkip ends the
// connection.
const (
	maxMessage = 2 << 20
	maxSkip    = 64 << 20
)

func byteReader(b []byte) io.Reader { return bytes.NewReader(b) }

// seen is what the socket has told of a prompt.
type seen struct {
	active   time.Time // last sign of life
	running  bool      // it has been begun
	share    float64   // of the sampling that is done, 0 to 1; it never goes back
	stepped  time.Time // when share grew last; zero before
	pace     float64   // seconds that all of the sampling takes at the speed of the newest step; 0 before
	slowest  float64   // longest time between two steps, in seconds
	ended    bool      // by its last message; history says how
	linked   bool      // a socket is open
	links    int       // sockets that were opened
	preview  backend.Preview
	previews int
}

// watch follows what a server says on its socket of one prompt. Nothing that is said there is taken for the end of a prompt: it is
// only why history is asked at once.
type watch struct {
	api    api
	log    *slog.Logger
	client string // its id: events go to the client that submitted the prompt
	wake   chan struct{}
	opened chan struct{} // closed when the first socket is open, or could not be opened
	want   bool          // previews

	once     sync.Once
	mu       sync.Mutex
	prompt   string
	samplers []string
	shares   map[string]float64 // by node, the highest
	told     map[string]progress
	at       seen
	conn     *websocket.Conn // nil while there is none
}

func newWatch(a api, log *slog.Logger, client string, samplers []string, previews bool) *watch {
	return &watch{
		api: a, log: log, client: client, samplers: samplers, want: previews, shares: map[string]float64{}, told: map[string]progress{},
		wake: make(chan struct{}, 1), opened: make(chan struct{}), at: seen{active: time.Now()},
	}
}

// look gives what was told so far.
func (w *watch) look() seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

// call changes the prompt's id to the one that the server gave it.
func (w *watch) call(prompt string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.prompt = prompt
}

// alive notes a sign of life that did not come by the socket; running says that the prompt has been begun.
func (w *watch) alive(running bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if running && w.at.running {
		return // a server that answers may still hang in its work
	}
	w.at.active, w.at.running = time.Now(), running
}

// run keeps a socket open until ctx ends.
func (w *watch) run(ctx context.Context) {
	pause := process.Backoff{First: 100 * time.Millisecond, Longest: 5 * time.Second}
	for ctx.Err() == nil {
		if err := w.connect(ctx); err != nil {
			w.first()
			select {
			case <-ctx.Done():
			case <-time.After(pause.Next()):
			}
			continue
		}
		if w.listen(ctx) {
			pause.Reset()
		}
		w.set(nil)
		select {
		case <-ctx.Done():
		case <-time.After(pause.Next()):
		}
	}
}

func (w *watch) first() { w.once.Do(func() { close(w.opened) }) }

// connect opens a socket and asks for previews that name their prompt.
func (w *watch) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	header := http.Header{}
	if auth := w.api.Authorization(); auth != "" {
		header.Set("Authorization", auth)
	}
	conn, _, err := websocket.Dial(ctx, w.api.URL("/ws?clientId="+url.QueryEscape(w.client)), &websocket.DialOptions{HTTPClient: w.api.HTTP(), HTTPHeader: header})
	if err != nil {
		return err
	}
	conn.SetReadLimit(-1) // read bounds each message
	flags := `{"type":"feature_flags","data":{"supports_preview_metadata":true}}`
	if err := conn.Write(ctx, websocket.MessageText, []byte(flags)); err != nil {
		_ = conn.CloseNow()
		return err
	}
	w.set(conn)
	return nil
}

func (w *watch) set(conn *websocket.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn, w.at.linked = conn, conn != nil
	if conn != nil {
		w.at.links++
	}
	w.nudge()
}

// reconnect closes the socket, so that another one is opened: the server may have forgotten this one when it noticed the end of the
// one before.
func (w *watch) reconnect() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		_ = w.conn.CloseNow()
	}
}

func (w *watch) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// listen reads messages until the socket breaks; it says whether any came.
func (w *watch) listen(ctx context.Context) (heard bool) {
	w.mu.Lock()
	conn := w.conn
	w.mu.Unlock()
	defer conn.CloseNow()
	var buffer bytes.Buffer
	for {
		kind, err := read(ctx, conn, &buffer)
		if err != nil {
			if ctx.Err() == nil {
				w.log.Debug("the socket of ComfyUI broke", "error", err)
			}
			return heard
		}
		heard = true
		w.first() // its first message says that it is registered
		if buffer.Len() > maxMessage {
			continue
		}
		if kind == websocket.MessageText {
			w.take(parseMessage(buffer.Bytes()))
		} else if w.want {
			w.takePreview(buffer.Bytes())
		}
	}
}

var errEndless = errors.New("a message without end")

// read takes one message into the buffer, which holds more than maxMessage bytes when the message was longer and thrown away.
func read(ctx context.Context, conn *websocket.Conn, buffer *bytes.Buffer) (websocket.MessageType, error) {
	kind, r, err := conn.Reader(ctx)
	if err != nil {
		return kind, err
	}
	buffer.Reset()
	if _, err := buffer.ReadFrom(io.LimitReader(r, maxMessage+1)); err != nil || buffer.Len() <= maxMessage {
		return kind, err
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r, maxSkip))
	if err == nil && n == maxSkip {
		err = errEndless
	}
	return kind, err
}

// take notes a message, if it is of our prompt.
func (w *watch) take(m message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m.kind == "" || m.prompt != w.prompt {
		return
	}
	now := time.Now()
	switch m.kind {
	case "execution_success", "execution_error", "execution_interrupted":
		w.at.ended = true
	case "progress", "progress_state":
		if !w.measure(m, now) {
			return // told again, and no sign of life
		}
	}
	w.at.ended = w.at.ended || m.done
	w.at.active, w.at.running = now, true
	w.nudge()
}

// maxTold bounds how many nodes a server may tell of: a workflow's, and those that its nodes make.
const maxTold = 10 * maxNodes

// measure adds what a message tells of the sampling; false when it tells nothing new. It needs mu.
func (w *watch) measure(m message, now time.Time) bool {
	news := false
	for id, p := range m.nodes {
		before, known := w.told[id]
		if known && before == p || !known && len(w.told) >= maxTold {
			continue
		}
		w.told[id], news = p, true
		w.shares[id] = max(w.shares[id], p.share())
	}
	total := 0.0
	for _, id := range w.samplers {
		total += w.shares[id] / float64(len(w.samplers))
	}
	if grown := total - w.at.share; grown > 0 {
		if !w.at.stepped.IsZero() {
			paused := now.Sub(w.at.stepped).Seconds()
			w.at.pace, w.at.slowest = paused/grown, max(w.at.slowest, paused)
		}
		w.at.share, w.at.stepped = total, now
	}
	return news
}

// takePreview notes a picture of the unfinished image. One that does not name its prompt is ours when ours runs: it went to our own id.
func (w *watch) takePreview(data []byte) {
	p, prompt, err := parseBinary(data)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if prompt != "" && prompt != w.prompt || prompt == "" && !w.at.running {
		return
	}
	p.Data = bytes.Clone(p.Data)
	w.at.preview = p
	w.at.previews++
	w.nudge()
}
