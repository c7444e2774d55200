package models

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"muster/shared/gpu"
	"muster/shared/model"
)

// What callers branch on.
var (
	ErrNotFound = errors.New("no such model")
	ErrExists   = errors.New("it is here already")
	ErrBusy     = errors.New("it is in use")
	ErrFull     = errors.New("too many installations wait")
	ErrDisk     = errors.New("the disk did not take it")
)

// FieldError says which part of a request is wrong, and what is allowed.
type FieldError struct{ Field, Message string }

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

func fieldf(field, format string, args ...any) error {
	return &FieldError{field, fmt.Sprintf(format, args...)}
}

// Config says where the models are and who is told of them.
type Config struct {
	Dir  string // of the model files
	Make bool   // makes Dir when it is missing
	// State is the file of what outlives the agent. Its folder must be there.
	State string
	// Hub is where repositories are looked for (see ParseHub); nil is DefaultHub. Token is sent to it alone; "" for none.
	Hub     *url.URL
	Token   string
	Network Network
	// MaxBytes is the size of the largest model that is installed; 0 is DefaultMaxBytes.
	MaxBytes int64
	// Free gives the free and the total bytes of a folder's disk; nil asks the system.
	Free func(dir string) (free, total uint64, err error)

	// Loaded gives the devices that hold a model now; nil: that is never known. It must not block.
	Loaded func(model string) []gpu.Ref
	// Load loads a model on a device, and returns when it is there; nil: no generator can.
	Load func(ctx context.Context, model string, device gpu.Ref) error
	// Publish gets what is in the library whenever it changes, and at most twice a second while something is downloaded. Changed is
	// called after the list of Usable has changed. Both must not block; nil for nobody.
	Publish func(model.Library)
	Changed func()
	Log     *slog.Logger // nil discards
}

// DefaultMaxBytes is beyond every model that a card of today holds.
const DefaultMaxBytes = 200 << 30

// Model is one that generators can use.
type Model struct {
	model.Model
	Path string // where a generator opens it; never shown
	// Parts are the further files that complete it; nil for a whole model, and for one that not all of them are there for.
	Parts []PartFile
}

// Library is the models of one folder. Make it with Open. Its methods may be called from any goroutine.
type Library struct {
	config Config
	log    *slog.Logger
	web    *web
	limits limits

	look chan struct{} // of size 1: the folder has changed
	work chan struct{} // of size 1: something waits to be installed

	saving sync.Mutex // held while the state file is written

	mu       sync.Mutex
	memory   memory
	files    []seenFile      // of the last look, in order of their names
	parts    []seenFile      // the same of the folders beside the models
	usable   []Model         // nobody changes it after it was made
	barred   map[string]bool // by name
	free     *uint64
	problems struct{ dir, state string }

	publishing sync.Mutex // keeps what is published in order
	published  model.Library

	looking  sync.Mutex   // held by who waits for a look at the folder
	scanning chan scanned // the look that is under way; nil for none. Guarded by looking
}

// limits are what tests shorten.
type limits struct {
	look     time.Duration // between two looks at the folder
	patience time.Duration // for one look
	progress time.Duration // between two reports of a download
	idle     time.Duration // without a byte
	slow     int64         // bytes that must come in every idle
	tries    int           // in a row without progress
	step     int64         // bytes that count as progress
	sync     int64         // bytes between two syncs of a part
	backoff  time.Duration // before the second try; doubles
	longest  time.Duration // of these
	load     time.Duration
	keep     time.Duration // how long those that ended are shown, and a part that failed is kept
}

func defaultLimits() limits {
	return limits{
		look: 3 * time.Second, patience: 5 * time.Second, progress: 500 * time.Millisecond,
		idle: time.Minute, slow: 256 << 10, tries: 8, step: 1 << 20, sync: 128 << 20, backoff: time.Second, longest: time.Minute,
		load: 30 * time.Minute, keep: 24 * time.Hour,
	}
}

// Open reads what is remembered and looks at the folder once, for a few seconds at most. A folder that is missing or does not answer
// is no error: Library says so. Nothing is installed before Run.
func Open(config Config) (*Library, error) { return open(config, defaultLimits()) }

func open(config Config, limits limits) (*Library, error) {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Free == nil {
		config.Free = diskFree
	}
	if config.MaxBytes == 0 {
		config.MaxBytes = DefaultMaxBytes
	}
	var err error
	if config.Hub == nil {
		if config.Hub, err = ParseHub(""); err != nil {
			return nil, err
		}
	}
	if config.Dir, err = filepath.Abs(config.Dir); err != nil {
		return nil, fmt.Errorf("models folder: %w", err)
	}
	l := &Library{
		config: config, log: config.Log, web: newWeb(config.Network, config.Hub, config.Token), limits: limits,
		look: make(chan struct{}, 1), work: make(chan struct{}, 1),
	}
	if l.memory, l.problems.state, err = load(config.State); err != nil {
		return nil, err
	}
	if l.problems.state != "" {
		l.log.Warn(l.problems.state)
	}
	if config.Make {
		if err := os.MkdirAll(config.Dir, 0o755); err != nil {
			l.log.Warn("models folder", "error", err) // the look at it says so too
		}
	}
	l.resume()
	l.scan(context.Background())
	return l, nil
}

// resume makes those that had not ended wait again.
func (l *Library) resume() {
	for _, r := range l.memory.Installs {
		if !r.State.Ended() && r.State != model.Loading {
			r.State = model.Waiting
		}
		r.here = r.Kept
		wakeUp(l.work)
	}
}

// Run looks at the folder every few seconds and carries out installations, one after the other, until ctx ends. One that is under
// way goes on at the next start.
func (l *Library) Run(ctx context.Context) error {
	installing := make(chan struct{})
	go func() { defer close(installing); l.install(ctx) }()
	ticker := time.NewTicker(l.limits.look)
	defer ticker.Stop()
	l.publish()
	for {
		select {
		case <-ctx.Done():
			select {
			case <-installing:
			case <-time.After(stopGrace): // the disk or a generator does not answer
			}
			return ctx.Err()
		case <-ticker.C:
			l.forget(time.Now())
		case <-l.look:
		}
		l.scan(ctx)
	}
}

// stopGrace is how long Run waits for an installation that does not end by itself.
const stopGrace = 3 * time.Second

// Library is what is installed and on its way. Nobody changes the result.
func (l *Library) Library() model.Library {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := model.Library{Dir: l.config.Dir, FreeBytes: l.free, Models: []model.Model{}, Installs: []model.Install{}, Problem: l.problems.dir}
	if out.Problem == "" {
		out.Problem = l.problems.state
	}
	parts := slices.Concat(l.files, l.parts)
	for i := range l.files {
		m, _ := l.files[i].modelWith(&l.memory, parts)
		out.Models = append(out.Models, m)
	}
	for _, r := range l.memory.Installs {
		out.Installs = append(out.Installs, r.view(l.web))
	}
	return out
}

// Usable is the models that generators can use now: enabled, and with nothing known against them. Nobody changes the result.
func (l *Library) Usable() []Model {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.usable
}

// Barred says whether the model of that name is kept from being generated with, on whatever generator has the file too: somebody
// disabled it, or it is none.
func (l *Library) Barred(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.barred[name]
}

// publish tells of the library when it is not as it was told last.
func (l *Library) publish() {
	l.publishing.Lock()
	defer l.publishing.Unlock()
	now := l.Library()
	if reflect.DeepEqual(now, l.published) {
		return
	}
	l.published = now
	if l.config.Publish != nil {
		l.config.Publish(now)
	}
}

// reckon makes the list of usable models anew, and tells of it when it is another.
func (l *Library) reckon() {
	l.mu.Lock()
	now, barred := usableOf(l.files, l.parts, &l.memory)
	changed := !reflect.DeepEqual(now, l.usable) || !maps.Equal(barred, l.barred)
	l.usable, l.barred = now, barred
	l.mu.Unlock()
	if changed && l.config.Changed != nil {
		l.config.Changed()
	}
	l.publish()
}

// usableOf sorts the files into the models that can be used, and the names that can't.
func usableOf(files, beside []seenFile, m *memory) (usable []Model, barred map[string]bool) {
	parts := slices.Concat(files, beside)
	barred = map[string]bool{}
	for i := range files {
		one, with := files[i].modelWith(m, parts)
		if one.Disabled || one.Problem != "" || files[i].part != model.NoPart {
			barred[one.Name] = true
		} else {
			usable = append(usable, Model{Model: one, Path: files[i].Path, Parts: with})
		}
	}
	return usable, barred
}

func wakeUp(sleeper chan struct{}) {
	select {
	case sleeper <- struct{}{}:
	default:
	}
}
