package models

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"muster/shared/model"
)

const (
	maxWaiting = 32 // installations that have not ended
	maxRecords = 100
	maxURL     = 4096
)

// Install takes an installation, and of a model of the catalogue those of the parts that the folder lacks, which come before it. When it
// returns nil, they are durable: they go on after a restart. Asking again for what is under way or failed gives that one, and the failed
// one goes on where it was. Where only parts are missing, the last of them is given. Errors: *FieldError, ErrExists when a model of that
// name is here, ErrFull, ErrDisk, the context's.
func (l *Library) Install(ctx context.Context, q Request) (model.Install, error) {
	r, err := l.parse(q)
	if err != nil {
		return model.Install{}, err
	}
	var taken bool
	if err := within(ctx, func() error { taken = l.taken(r.FileName); return nil }); err != nil {
		return model.Install{}, err
	}
	parts, err := l.partsFor(ctx, r)
	if err != nil {
		return model.Install{}, err
	}
	order := append(parts, r)
	if taken && len(parts) > 0 {
		order, taken = parts, false
	}
	entered, fresh, dropped, err := l.enter(order, taken)
	if err != nil {
		return model.Install{}, err
	}
	if err := l.keep(ctx); err != nil {
		l.mu.Lock()
		l.memory.Installs = slices.DeleteFunc(l.memory.Installs, func(r *record) bool { return slices.Contains(fresh, r) })
		l.mu.Unlock()
		l.publish()
		return model.Install{}, err
	}
	l.dropParts(ctx, dropped)
	wakeUp(l.work)
	l.publish()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range entered {
		l.log.Info("a model is to be installed", "name", stem(r.FileName), "from", r.from(l.web))
	}
	return entered[len(entered)-1].view(l.web), nil
}

// enter puts requests among the installations, all or none, the first to be carried out first. entered are what stands there for them,
// fresh those of them that did not stand there before. taken says that a model of the last one's name is in the folder. dropped are the
// ids of those that made room, whose parts are to go.
func (l *Library) enter(order []*record, taken bool) (entered, fresh []*record, dropped []string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, r := range order {
		other, err := l.standing(r, taken && i == len(order)-1)
		if err != nil {
			return nil, nil, nil, err
		}
		if other == nil {
			fresh, other = append(fresh, r), r
		}
		entered = append(entered, other)
	}
	waiting := 0
	for _, other := range l.memory.Installs {
		if !other.State.Ended() {
			waiting++
		}
	}
	if len(fresh) > 0 && waiting+len(fresh) > maxWaiting {
		return nil, nil, nil, fmt.Errorf("%w: %d; wait for some, or stop them", ErrFull, waiting)
	}
	for i, r := range entered {
		if r.State == model.Failed {
			asked := order[i]
			r.Wanted, r.SHA, r.Device, r.State, r.Error, r.Ended = asked.Wanted, asked.Wanted, asked.Device, model.Waiting, "", time.Time{}
		}
	}
	for _, r := range fresh {
		r.ID = newID()
		l.memory.Installs = append([]*record{r}, l.memory.Installs...)
	}
	return entered, fresh, l.trim(), nil
}

// standing finds the installation that a request asks for again: one that is under way, or one that failed and can go on. nil: it is a
// new one. It is called with mu held.
func (l *Library) standing(r *record, taken bool) (*record, error) {
	for _, other := range l.memory.Installs {
		same := other.URL == r.URL && other.Repo == r.Repo && other.File == r.File && other.Revision == r.Revision && other.FileName == r.FileName
		switch active := !other.State.Ended(); {
		case same && active && (r.Wanted == "" || r.Wanted == other.Wanted):
			return other, nil
		case active && strings.EqualFold(stem(other.FileName), stem(r.FileName)):
			return nil, fmt.Errorf("%w: a model named %q is being installed; give another name", ErrExists, stem(r.FileName))
		case same && other.State == model.Failed && !taken:
			return other, nil
		}
	}
	if taken {
		return nil, fmt.Errorf("%w: a model named %q is in the models folder; remove it first, or give another name", ErrExists, stem(r.FileName))
	}
	return nil, nil
}

// partsFor gives requests for the parts that a model of the catalogue needs and the folder lacks. Its error is ErrExists when a file
// that is of no use has the name of one.
func (l *Library) partsFor(ctx context.Context, r *record) (parts []*record, err error) {
	at := slices.IndexFunc(catalogue, func(k known) bool { return k.repo == r.Repo && k.file == r.File })
	if at < 0 {
		return nil, nil
	}
	l.mu.Lock()
	files := slices.Concat(l.files, l.parts)
	l.mu.Unlock()
	for _, s := range catalogue[at].with {
		if slices.ContainsFunc(files, func(f seenFile) bool { return f.serves(s.part) }) {
			continue
		}
		part, err := l.parse(Request{Repo: s.repo, File: s.file, Name: s.name})
		if err != nil { // a mistake in the catalogue, see TestCatalogue
			return nil, err
		}
		var taken bool
		if err := within(ctx, func() error { taken = l.taken(part.FileName); return nil }); err != nil {
			return nil, err
		}
		name := stem(part.FileName)
		switch seen := slices.ContainsFunc(files, func(f seenFile) bool { return strings.EqualFold(stem(f.fileName()), name) }); {
		case taken && seen:
			return nil, fmt.Errorf("%w: %s needs %s, and %q in the models folder is none that can be used; remove it first", ErrExists, stem(r.FileName), s.part.Title(), name)
		case !taken: // else it has come since the last look at the folder
			parts = append(parts, part)
		}
	}
	return parts, nil
}

// taken says whether a model of that name is in the folder. Two that differ by their extension alone would change each other's names.
func (l *Library) taken(fileName string) bool {
	l.mu.Lock()
	for _, f := range l.files {
		if strings.EqualFold(stem(f.fileName()), stem(fileName)) {
			l.mu.Unlock()
			return true
		}
	}
	l.mu.Unlock()
	root, err := os.OpenRoot(l.config.Dir)
	if err != nil {
		return false // the installation will tell
	}
	defer root.Close()
	_, err = root.Lstat(fileName)
	return err == nil
}

// trim drops the oldest that have ended, beyond maxRecords, and gives their ids. It is called with mu held.
func (l *Library) trim() (dropped []string) {
	for i := len(l.memory.Installs) - 1; i >= 0 && len(l.memory.Installs) > maxRecords; i-- {
		if l.memory.Installs[i].State.Ended() {
			dropped = append(dropped, l.memory.Installs[i].ID)
			l.memory.Installs = slices.Delete(l.memory.Installs, i, i+1)
		}
	}
	return dropped
}

func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// errStopped is the cause when a person stops an installation.
var errStopped = errors.New("stopped")

// Stop ends an installation, and removes what it has downloaded; of one that failed it removes what was kept of it. Errors:
// ErrNotFound, ErrDisk, the context's.
func (l *Library) Stop(ctx context.Context, id string) (model.Install, error) {
	l.mu.Lock()
	r := l.record(id)
	if r == nil {
		l.mu.Unlock()
		return model.Install{}, fmt.Errorf("%w: no installation %q", ErrNotFound, cut(id))
	}
	if r.stop != nil {
		r.stop(errStopped)
	}
	here := r.Placing || r.State == model.Loading || r.State == model.Installed // too late: it ends as installed
	switch {
	case !here:
		r.end(model.Stopped, "")
	case r.State == model.Loading && r.stop == nil:
		r.end(model.Installed, "it is installed, but was not loaded: stopped")
	}
	l.mu.Unlock()
	if !here {
		if err := within(ctx, func() error { return l.dropPart(id) }); err != nil {
			l.log.Warn("remove a part", "error", err) // it goes at the next start
		}
	}
	err := l.keep(ctx)
	l.publish()
	l.mu.Lock()
	defer l.mu.Unlock()
	return r.view(l.web), err
}

// Again takes an installation that failed or was stopped once more, as it was asked for; one that failed goes on where it was. Of one
// that is under way or done it changes nothing. Errors: ErrNotFound, and those of Install.
func (l *Library) Again(ctx context.Context, id string) (model.Install, error) {
	l.mu.Lock()
	r := l.record(id)
	if r == nil {
		l.mu.Unlock()
		return model.Install{}, fmt.Errorf("%w: no installation %q", ErrNotFound, cut(id))
	}
	now := r.view(l.web)
	q := Request{URL: r.URL, Repo: r.Repo, File: r.File, Revision: r.Revision, Name: r.FileName, SHA256: r.Wanted, Device: r.Device}
	l.mu.Unlock()
	if now.State != model.Failed && now.State != model.Stopped {
		return now, nil
	}
	return l.Install(ctx, q)
}

// record finds an installation; nil when there is none. It is called with mu held.
func (l *Library) record(id string) *record {
	for _, r := range l.memory.Installs {
		if r.ID == id {
			return r
		}
	}
	return nil
}

// end is called with mu held.
func (r *record) end(state model.InstallState, words string) {
	r.State, r.Error, r.Ended = state, words, time.Now().UTC()
	r.speed, r.trouble, r.Placing = 0, "", false
	if state != model.Failed {
		r.Kept, r.ETag = 0, ""
	}
}

func (l *Library) dropPart(id string) error {
	root, err := os.OpenRoot(l.config.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(partName(id)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// dropParts removes the parts of installations that are known no more. A disk that does not answer costs no more than ctx, and what
// stays goes at the next start.
func (l *Library) dropParts(ctx context.Context, ids []string) {
	if len(ids) == 0 {
		return
	}
	if err := within(ctx, func() (err error) {
		for _, id := range ids {
			err = errors.Join(err, l.dropPart(id))
		}
		return err
	}); err != nil {
		l.log.Warn("remove a part", "error", err)
	}
}

// forget drops installations that ended long ago, with the parts of those that failed.
func (l *Library) forget(now time.Time) {
	var dropped []string
	l.mu.Lock()
	l.memory.Installs = slices.DeleteFunc(l.memory.Installs, func(r *record) bool {
		old := r.State.Ended() && now.Sub(r.Ended) > l.limits.keep
		if old {
			dropped = append(dropped, r.ID)
		}
		return old
	})
	l.mu.Unlock()
	if len(dropped) == 0 {
		return
	}
	l.dropParts(context.Background(), dropped)
	if err := l.save(); err != nil {
		l.log.Warn("what is known of models can't be kept", "error", err)
	}
}
