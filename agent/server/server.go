// Package server is the agent's edge: the page, the HTTP API, and the socket of events and commands.
//
// Every request passes guard.go first, which stands outside the mux: exact Host, exact Origin, token or session. What a route
// needs is said in the one table of routes.go. The package decides nothing: it takes commands to the queue, and shows what the
// feed, the store, the library and the function fields of Config give it. It imports the packages queue, feed, images and models
// beside it.
package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"muster/agent/feed"
	"muster/agent/images"
	"muster/agent/models"
	"muster/agent/queue"
	"muster/shared/gpu"
	"muster/shared/pool"
	"muster/shared/wire"
)

// TemperaturePoint is one measured temperature of a device.
type TemperaturePoint struct {
	Time    time.Time
	Celsius float64
}

// Config is what the server shows and where it hands commands to. What has no "nil" in its comment is required.
type Config struct {
	Build, Instance string
	// Interval is the time between snapshots, for hello.
	Interval time.Duration
	// Addr is the address that is listened on, host:port.
	Addr string
	// AllowHosts are further exact values of the Host header that are served, name:port; may be nil.
	AllowHosts []string
	// Token is what programs send as Bearer.
	Token string
	// ModelsDir is shown in the setup status.
	ModelsDir string
	// MaxClients bounds open sockets; 0 is DefaultMaxClients. MaxClientsPerSession bounds those of one browser; 0 is
	// DefaultMaxClientsPerSession.
	MaxClients, MaxClientsPerSession int

	Queue  *queue.Queue
	Images *images.Store
	// Previews are the pictures of what is being made; nil: there are none.
	Previews *images.Previews
	Feed     *feed.Feed
	// Workflows are those of ComfyUI; the zero value has none.
	Workflows Workflows
	// Library is the model files; nil: this agent has none, and the routes of models say so.
	Library *models.Library
	// LoadModel loads a model on a device, and returns when it is there; nil: no generator can.
	LoadModel func(ctx context.Context, model string, device gpu.Ref) error

	Inventory    func() *gpu.Inventory                 // nil result: not looked yet
	Snapshot     func() *gpu.Snapshot                  // nil result: not measured yet
	History      func(time.Duration, int) wire.History // window, and how many points at most
	Temperatures func(gpu.Ref) []TemperaturePoint      // of the last 10 minutes, oldest first
	Report       func() *gpu.Report                    // what is dear to ask; nil, or a nil result: not asked yet
	// Query answers what a device did; nil: no history is kept. Errors wrap fs.ErrNotExist for a device of which nothing is known,
	// and context.DeadlineExceeded when the disk does not answer.
	Query func(HistoryQuery) (HistorySeries, error)
	// PCIeThroughput measures a device's bus; nil: no reader can. Errors wrap errors.ErrUnsupported when no reader of that device
	// can, fs.ErrNotExist when there is no such device any more, and context.DeadlineExceeded when the driver does not answer.
	PCIeThroughput func(context.Context, gpu.Ref) (gpu.PCIeThroughput, error)
	Capacity       func() wire.Capacity // what can generate
	// Offer says what can be asked of a model on a device, or on any for nil; nil: everything can.
	Offer func(model string, device *gpu.Ref) Offer
	// Steering is what people decided about the devices: never nil, and nobody changes it. Steer and SteerPool keep a decision, and
	// return when it is durable. Steer gives the control as it was kept; its error wraps ErrNoDevice where there is none.
	Steering  func() *pool.Steering
	Steer     func(context.Context, gpu.Ref, pool.Control) (pool.Control, error)
	SteerPool func(context.Context, pool.Settings) error
	Ready     func() error // an error says what is missing; nil: always ready
	Site      fs.FS        // the built page; nil or empty answers 503
	Log       *slog.Logger // nil discards
}

// Bounds of open sockets when Config does not say.
const (
	DefaultMaxClients           = 256
	DefaultMaxClientsPerSession = 8
)

func (c Config) check() error {
	switch {
	case c.Token == "":
		return errors.New("a token is required")
	case c.Queue == nil || c.Images == nil || c.Feed == nil:
		return errors.New("queue, images and feed are required")
	case c.Inventory == nil || c.Snapshot == nil || c.History == nil || c.Temperatures == nil || c.Capacity == nil,
		c.Steering == nil || c.Steer == nil || c.SteerPool == nil:
		return errors.New("a required function is nil")
	}
	return nil
}

// Server is the edge of one agent. Make it with New.
type Server struct {
	config   Config
	log      *slog.Logger
	hosts    hosts
	tokenSum [sha256.Size]byte
	site     *site
	handler  http.Handler
	scrape   http.Handler // of Prometheus
	began    time.Time

	attempts    attempts
	sessions    sessions
	submissions buckets[[sha256.Size]byte] // of browsers, by session
	sockets     sockets
	bodies      *semaphore.Weighted // bytes of submissions, see hold
	exports     *semaphore.Weighted // exports under way
	steering    *semaphore.Weighted // one change of a control at a time
	jpegs       *semaphore.Weighted // images as JPEG in memory, see maxJPEGs
	linked      *semaphore.Weighted // bytes of JPEGs for links, see linkMemory
	links       linkKey
	sdapi       sdapiRuns

	// The description of the API, made when it is asked for first.
	described      sync.Once
	description    []byte
	descriptionErr error

	stopping chan struct{} // closed when the agent stops: what waits for images gives up
	stopOnce sync.Once
}

// A browser's session may submit 60 commands a minute; programs with the token are bounded by the queue alone.
const submissionsPerMinute = 60

// New checks the configuration and builds the table of routes.
func New(c Config) (*Server, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	allowed, err := newHosts(c.Addr, c.AllowHosts)
	if err != nil {
		return nil, fmt.Errorf("server: address %q: %w", c.Addr, err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Previews == nil {
		c.Previews = &images.Previews{}
	}
	s := &Server{
		config: c, log: c.Log, began: time.Now(), hosts: allowed, tokenSum: sha256.Sum256([]byte(c.Token)),
		sessions:    sessions{queue: c.Queue},
		submissions: buckets[[sha256.Size]byte]{most: submissionsPerMinute, interval: time.Minute / submissionsPerMinute},
		sockets:     newSockets(c.MaxClients, c.MaxClientsPerSession),
		bodies:      semaphore.NewWeighted(maxHeldBytes), exports: semaphore.NewWeighted(maxExports), steering: semaphore.NewWeighted(1),
		jpegs: semaphore.NewWeighted(maxJPEGs), linked: semaphore.NewWeighted(linkMemory),
		stopping: make(chan struct{}),
	}
	if s.site, err = newSite(c.Site); err != nil {
		return nil, fmt.Errorf("server: site: %w", err)
	}
	if s.links, err = newLinkKey(c.Token); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	s.scrape = newMetrics(s)
	mux, resources := s.table(s.routes())
	s.handler = keyInPath(s.survive(s.guard(mux, resources)))
	return s, nil
}

// Handler serves everything, guard included.
func (s *Server) Handler() http.Handler { return s.handler }

// NewLink gives a link that lets one browser in, once, within 5 minutes. The code stands in the fragment, which browsers send to
// nobody.
func (s *Server) NewLink() string {
	return "http://" + reachable(s.config.Addr) + "/#pair=" + s.sessions.newCode()
}

// reachable gives an address that a browser can open for one that is listened on: not "every interface".
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return net.JoinHostPort("localhost", port)
	}
	return addr
}

// survive answers a panic with 500 and logs it, and logs every request at debug. The query is left out: it can hold a prompt.
func (s *Server) survive(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		limitBody(w, r)
		defer func() {
			cause := recover()
			if cause == http.ErrAbortHandler {
				panic(cause) // net/http's own way to cut a connection
			}
			if cause != nil {
				s.log.Error("panic in a request", "method", r.Method, "path", r.URL.Path, "cause", fmt.Sprintf("%T", cause), "stack", string(debug.Stack()))
				s.refuse(w, r, errors.New("panic"), false)
			}
			s.log.Debug("request", "method", r.Method, "path", r.URL.Path, "from", r.RemoteAddr, "took", time.Since(began))
		}()
		next.ServeHTTP(w, r)
	})
}

// refuse answers an error, and logs those that are ours.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error, legacy bool) {
	if errors.Is(err, errAnswered) {
		return
	}
	refused := refusalOf(err)
	if refused.status == http.StatusInternalServerError || refused.cause != nil {
		s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	switch doorOf(r.URL.Path) {
	case openAIDoor:
		refused.writeOpenAI(w)
	case sdapiDoor:
		refused.writeSdapi(w)
	default:
		refused.write(w, legacy)
	}
}

// errAnswered says that the answer was written already.
var errAnswered = errors.New("answered")

// stop ends what waits in requests, and the sockets.
func (s *Server) stop() {
	s.stopOnce.Do(func() { close(s.stopping) })
	s.sockets.stop()
}
