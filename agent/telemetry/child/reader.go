// Package child runs a reader of a vendor's driver library in a process of its own, and speaks with it: Reader is the agent's
// half, Serve the half in that process, the collector. A library that hangs holds a thread there and not here; one that crashes,
// aborts or lacks a function takes down its collector alone, which is started again while the last values stay.
//
// The two halves write one line of JSON per request and per answer. Several requests are under way at once.
package child

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// Config says which collector a Reader runs.
type Config struct {
	Name  string // of the reader that the collector serves: "nvml"
	Title string // the same for people: "NVML"; "" = Name
	// Path and Args start the collector, which calls Serve; Env is its environment.
	Path string
	Args []string
	Env  []string
	// Build is this program's. A collector of another one is used as long as it speaks the same version of the protocol.
	Build string
	// Worth says whether there may be anything to read. While not, no collector runs. It is asked at each Inventory and must be
	// cheap; nil = always.
	Worth func() bool
	// Kill ends a collector that hangs when Run ends by SIGKILL, instead of leaving it behind. That can hang the device.
	Kill bool
	Log  *slog.Logger // nil = discard
}

// Reader is a telemetry.Reader, DetailReader, PCIeReader and Examiner that passes every call on to a collector. Nothing is
// answered before Run.
type Reader struct {
	config  Config
	caution *caution
	wake    chan struct{} // capacity 1: Run should look again

	mu      sync.Mutex
	changed chan struct{} // closed and renewed when anything below changes
	wanted  bool
	conn    *conn     // takes requests; nil while none does
	down    time.Time // since when; zero before the first start and while one does
	again   time.Time // when the next start is due, while down
	trouble string    // why none does, for people; "" before the first failure
	list    listing
}

// listing is the newest inventory.
type listing struct {
	found telemetry.Found
	err   error // of the newest; found is the last that had none
	at    time.Time
	ever  bool // found is one
	taken bool // Inventory has returned it
}

const (
	// listingPatience is how long the last inventory stands for one that does not come, and how long a collector may take for one.
	listingPatience = 30 * time.Second
	// listingAge is how old an inventory may be that was made without being asked for.
	listingAge = 5 * time.Second
	// troubleWait is how long Inventory waits for a collector that failed before.
	troubleWait = 2 * time.Second
)

// New prepares a reader; its collector is started by Run after the first Inventory.
func New(c Config) *Reader {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Title == "" {
		c.Title = c.Name
	}
	if c.Worth == nil {
		c.Worth = func() bool { return true }
	}
	return &Reader{config: c, caution: newCaution(), wake: make(chan struct{}, 1), changed: make(chan struct{})}
}

// Name gives the name of the reader behind it.
func (r *Reader) Name() string { return r.config.Name }

// Inventory lists what the collector does. While it is down or does not answer, the last list stands, with a problem that says
// so; after 30 s that is an error.
func (r *Reader) Inventory(ctx context.Context) (telemetry.Found, error) {
	worth := r.config.Worth()
	r.want(worth)
	if !worth {
		return telemetry.Found{}, nil
	}
	asked := time.Now()
	for {
		r.mu.Lock()
		if !r.list.taken && r.list.at.After(asked.Add(-listingAge)) {
			defer r.mu.Unlock()
			r.list.taken = true
			return r.withProblems(""), r.list.err
		}
		if r.conn != nil {
			r.refresh(r.conn)
		}
		changed, limit := r.changed, r.waitLimit(ctx, asked)
		r.mu.Unlock()
		if limit <= 0 || sleep(ctx, limit, changed) != nil {
			return r.stale()
		}
	}
}

// waitLimit is how long Inventory may still wait.
func (r *Reader) waitLimit(ctx context.Context, asked time.Time) time.Duration {
	if r.trouble != "" && r.conn == nil {
		return time.Until(asked.Add(troubleWait))
	}
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return listingPatience
}

// stale is what Inventory gives when no new list comes.
func (r *Reader) stale() (telemetry.Found, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	why := r.trouble
	if r.conn != nil || why == "" {
		why = fmt.Sprintf("the driver behind %s has not answered; muster goes on asking", r.config.Title)
	}
	since := r.list.at
	if r.conn == nil && !r.down.IsZero() {
		since = r.down
	}
	if !r.list.ever || time.Since(since) > listingPatience {
		return telemetry.Found{}, errors.New(why)
	}
	return r.withProblems(why), nil
}

// withProblems adds to the last list what there is to say of the collector. The list itself never changes.
func (r *Reader) withProblems(why string) telemetry.Found {
	found := r.list.found
	found.Problems = slices.Clone(found.Problems)
	if why != "" {
		found.Problems = append(found.Problems, why)
	}
	found.Problems = append(found.Problems, r.caution.problems(r.config.Title)...)
	return found
}

// Read passes the call on. It returns when the collector has answered, ended or been replaced, not before: nothing else is asked
// of a device inside a call.
func (r *Reader) Read(ctx context.Context, id string) (gpu.Reading, error) {
	a, err := r.ask(ctx, askRead, id)
	if err != nil {
		return gpu.Reading{}, err
	}
	if a.Reading == nil && a.Failure == nil {
		return gpu.Reading{}, errEmpty
	}
	return value(a.Reading), a.Failure.err()
}

// Details passes the call on, as Read does. A reader that has none answers telemetry.ErrUnsupported.
func (r *Reader) Details(ctx context.Context, id string) (gpu.Details, error) {
	a, err := r.ask(ctx, askDetails, id)
	if err == nil && a.Details == nil && a.Failure == nil {
		err = errEmpty
	}
	if err != nil {
		return gpu.Details{}, err
	}
	return value(a.Details), a.Failure.err()
}

// PCIeThroughput passes the call on, as Details does.
func (r *Reader) PCIeThroughput(ctx context.Context, id string) (gpu.PCIeThroughput, error) {
	a, err := r.ask(ctx, askPCIe, id)
	if err == nil && a.PCIe == nil && a.Failure == nil {
		err = errEmpty
	}
	if err != nil {
		return gpu.PCIeThroughput{}, err
	}
	return value(a.PCIe), a.Failure.err()
}

var errEmpty = errors.New("the collector answered without a value; please report this")

// value gives what p leads to; the zero value for nil.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// Examine asks the reader, and says how its collector is.
func (r *Reader) Examine(ctx context.Context) []telemetry.Finding {
	subject := "collector of " + r.config.Title
	if !r.config.Worth() {
		return []telemetry.Finding{{Level: telemetry.LevelOK, Subject: subject, Text: "there is nothing for it to read here: it is not started"}}
	}
	a, err := r.ask(ctx, askExamine, "")
	if err == nil {
		err = a.Failure.err()
	}
	if err != nil {
		return []telemetry.Finding{{Level: telemetry.LevelFault, Subject: subject, Text: r.why(err), Costs: "the devices that only " + r.config.Title + " can read",
			Mend: "update or repair the driver (the agent's log says more), or do without it: --" + r.config.Name + " off"}}
	}
	findings := []telemetry.Finding{}
	if a.Findings != nil {
		findings = *a.Findings
	}
	for _, problem := range r.caution.problems(r.config.Title) {
		findings = append(findings, telemetry.Finding{Level: telemetry.LevelFault, Subject: subject, Text: problem, Costs: "what that call tells"})
	}
	return findings
}

// why prefers what is known of the collector to the error of one call.
func (r *Reader) why(err error) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil && r.trouble != "" {
		return r.trouble
	}
	return err.Error()
}

// ask makes a request of the collector that runs, once its turn has come. When that ends meanwhile, the next one is asked, if it
// comes in time: what one call did to the collector should cost the others nothing.
func (r *Reader) ask(ctx context.Context, k kind, id string) (answer, error) {
	var ended *conn
	for {
		c, err := r.ready(ctx, ended)
		if err != nil {
			return answer{}, err
		}
		t, err := r.caution.begin(ctx, place{k, id})
		if err != nil {
			return answer{}, err
		}
		a, err := c.ask(request{Kind: k, ID: id, Milliseconds: milliseconds(ctx)}, t)
		r.caution.end(t, err == nil)
		if !errors.Is(err, errEnded) || t.alone || ctx.Err() != nil {
			return a, err
		}
		ended = c
	}
}

// milliseconds is how long ctx lasts; 0 for ever.
func milliseconds(ctx context.Context) int64 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(1, time.Until(deadline).Milliseconds())
}

// ready waits for a collector that takes requests, other than the one that has ended, unless that is known to take longer than
// ctx lasts.
func (r *Reader) ready(ctx context.Context, ended *conn) (*conn, error) {
	for {
		r.mu.Lock()
		c, changed, trouble, again := r.conn, r.changed, r.trouble, r.again
		r.mu.Unlock()
		if c != nil && c != ended {
			return c, nil
		}
		deadline, ok := ctx.Deadline()
		if ok && again.After(deadline) || sleep(ctx, time.Hour, changed) != nil {
			if trouble == "" {
				trouble = "the collector of " + r.config.Title + " has not listed its devices yet"
			}
			return nil, fmt.Errorf("%s: %w", trouble, context.DeadlineExceeded)
		}
	}
}

// tell lets everybody look again who waits for a change. r.mu is held.
func (r *Reader) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *Reader) want(wanted bool) {
	r.mu.Lock()
	changed := r.wanted != wanted
	r.wanted = wanted
	r.mu.Unlock()
	if changed {
		r.nudge()
	}
}

func (r *Reader) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
