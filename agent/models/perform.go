package models

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"muster/shared/model"
)

// install carries out installations, the oldest first, until ctx ends.
func (l *Library) install(ctx context.Context) {
	l.sweepParts()
	for {
		r := l.next()
		if r == nil {
			select {
			case <-ctx.Done():
				return
			case <-l.work:
			}
			continue
		}
		own, stop := context.WithCancelCause(ctx)
		l.mu.Lock()
		r.stop = stop
		gone := r.State.Ended() // stopped between the two locks
		l.mu.Unlock()
		var err error
		if !gone {
			err = l.perform(own, r)
		}
		stop(nil)
		l.conclude(ctx, r, err)
		if ctx.Err() != nil {
			return
		}
	}
}

// next gives the oldest installation that has not ended; nil when there is none.
func (l *Library) next() *record {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.memory.Installs) - 1; i >= 0; i-- {
		if r := l.memory.Installs[i]; !r.State.Ended() {
			return r
		}
	}
	return nil
}

// conclude ends an installation with what came of it. When the agent stops it has not ended.
func (l *Library) conclude(ctx context.Context, r *record, err error) {
	l.mu.Lock()
	r.stop = nil
	r.speed, r.trouble = 0, ""
	switch {
	case r.State.Ended(): // a person stopped it
	case err != nil && ctx.Err() != nil:
		l.mu.Unlock()
		return
	case err != nil:
		l.log.Warn("a model was not installed", "name", stem(r.FileName), "from", r.from(l.web), "error", err)
		r.end(model.Failed, err.Error())
	}
	state := r.State
	l.mu.Unlock()
	if state == model.Stopped {
		if err := l.dropPart(r.ID); err != nil {
			l.log.Warn("remove a part", "error", err)
		}
	}
	l.remember()
	l.publish()
}

// perform takes an installation from where it is to its end.
func (l *Library) perform(ctx context.Context, r *record) error {
	l.mu.Lock()
	state, placing := r.State, r.Placing
	l.mu.Unlock()
	if state == model.Loading {
		return l.load(ctx, r)
	}
	root, err := l.openParts()
	if err != nil {
		return err
	}
	defer root.Close()
	if placing {
		if done, err := l.adopt(ctx, root, r); done || err != nil {
			return err
		}
	}
	if err := l.download(ctx, root, r); err != nil {
		return err
	}
	if err := l.examine(ctx, root, r); err != nil {
		return err
	}
	if err := l.settle(root, r); err != nil {
		return err
	}
	return l.load(ctx, r)
}

// load loads an installed model where it is wanted. That it can't be loaded does not undo the installation.
func (l *Library) load(ctx context.Context, r *record) error {
	l.mu.Lock()
	device := r.Device
	if r.State == model.Loading && device == nil {
		r.end(model.Installed, "")
	}
	done := r.State != model.Loading
	l.mu.Unlock()
	if done {
		return nil
	}
	l.publish()
	err := l.loadOn(ctx, r)
	if err != nil && ctx.Err() != nil && !errors.Is(context.Cause(ctx), errStopped) {
		return err // the agent stops: it goes on at the next start
	}
	words := ""
	if err != nil {
		words = fmt.Sprintf("it is installed, but was not loaded on %s: %s", device.Label(), err)
	}
	l.mu.Lock()
	r.end(model.Installed, words)
	l.mu.Unlock()
	return nil
}

func (l *Library) loadOn(ctx context.Context, r *record) error {
	if l.config.Load == nil {
		return errors.New("no generator of this agent can load a model ahead; it is loaded with the first image")
	}
	ctx, cancel := context.WithTimeout(ctx, l.limits.load)
	defer cancel()
	name := stem(r.FileName)
	l.mu.Lock()
	for _, f := range l.files { // another file may have changed its name
		if f.fileName() == r.FileName {
			name = f.Name
		}
	}
	l.mu.Unlock()
	return l.config.Load(ctx, name, *r.Device)
}

// sweepParts removes parts of which nothing is known.
func (l *Library) sweepParts() {
	root, err := os.OpenRoot(l.config.Dir)
	if err != nil {
		return
	}
	defer root.Close()
	folder, err := root.Open(partsDir)
	if err != nil {
		return
	}
	defer folder.Close()
	names, err := folder.Readdirnames(maxFiles)
	if err != nil {
		return
	}
	for _, entry := range names {
		id, isPart := strings.CutSuffix(entry, ".part")
		l.mu.Lock()
		r := l.record(id)
		wanted := r != nil && (!r.State.Ended() || r.State == model.Failed)
		l.mu.Unlock()
		if isPart && !wanted {
			_ = root.Remove(partsDir + "/" + entry)
		}
	}
}
