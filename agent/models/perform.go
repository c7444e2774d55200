package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

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

// download asks the hub what the file is, where it comes from there, and brings it into its part.
func (l *Library) download(ctx context.Context, root *os.Root, r *record) error {
	l.enterState(r, model.Downloading)
	t := &transfer{library: l, record: r, url: r.URL, format: formatOf(r.FileName), sha: r.Wanted}
	if r.Repo != "" {
		t.url = l.web.fileURL(r.place())
		if err := l.ask(ctx, r, t); err != nil {
			return err
		}
	} else {
		t.said = r.Total
	}
	t.told = r.Repo != "" && t.said > 0
	target, err := parseHTTPS(t.url)
	if err != nil {
		return err
	}
	t.host = target.Host
	if t.part, err = root.OpenFile(partName(r.ID), os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return onDisk(err)
	}
	defer t.part.Close()
	info, err := t.part.Stat()
	if err != nil {
		return onDisk(err)
	}
	// After a power cut the file may be longer than what of it is on the disk.
	if err := t.truncate(min(info.Size(), r.Kept)); err != nil {
		return err
	}
	if err := t.run(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	r.Total = t.here.Load()
	l.mu.Unlock()
	return nil
}

// ask lets the hub say what the file is. A file that is another than before is downloaded anew.
func (l *Library) ask(ctx context.Context, r *record, t *transfer) error {
	size, sha, err := l.askPatiently(ctx, r)
	if err != nil {
		return explainNetwork(l.web.hub.Host, err)
	}
	if size > l.config.MaxBytes {
		return &permanentError{fmt.Sprintf("the hub says that the file has %s; at most %s are installed", sizeWords(size), sizeWords(l.config.MaxBytes))}
	}
	if r.Wanted != "" && sha != "" && sha != r.Wanted {
		return &permanentError{fmt.Sprintf("the file on the hub has the SHA-256 %s, and not %s, which was asked for", sha, r.Wanted)}
	}
	t.said = size
	if t.sha == "" {
		t.sha = sha
	}
	l.mu.Lock()
	if r.SHA != "" && t.sha != "" && r.SHA != t.sha || r.Total != 0 && r.Total != size {
		r.Kept, r.ETag = 0, ""
	}
	r.SHA, r.Total = t.sha, size
	have := r.Kept
	l.mu.Unlock()
	return l.room(size - have)
}

// askPatiently asks again while the hub is busy or can't be reached.
func (l *Library) askPatiently(ctx context.Context, r *record) (size int64, sha string, err error) {
	for tries := 1; ; tries++ {
		size, sha, err = l.web.find(ctx, r.place())
		if err == nil || !tryAgain(err) || tries == l.limits.tries || ctx.Err() != nil {
			return size, sha, errors.Join(err, context.Cause(ctx))
		}
		wait := min(l.limits.backoff<<(tries-1), l.limits.longest)
		var status *statusError
		if errors.As(err, &status) {
			wait = max(wait, status.after)
		}
		l.trouble(r, fmt.Sprintf("%s; tried again in %s", err, wait.Round(time.Second)))
		select {
		case <-ctx.Done():
			return 0, "", context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// examine checks the hash and the header of a whole part. What is wrong is removed: no further byte would mend it.
func (l *Library) examine(ctx context.Context, root *os.Root, r *record) error {
	l.enterState(r, model.Verifying)
	part, err := root.Open(partName(r.ID))
	if err != nil {
		return onDisk(err)
	}
	defer part.Close()
	sum, err := hash(ctx, part)
	if err != nil {
		return err
	}
	l.mu.Lock()
	want := r.SHA
	r.SHA = sum
	l.mu.Unlock()
	if want != "" && want != sum {
		return l.spoiled(r, fmt.Sprintf("the file has the SHA-256 %s, and not %s: it was damaged on its way, or is another one; it was removed", sum, want))
	}
	info, err := part.Stat()
	if err != nil {
		return onDisk(err)
	}
	found, err := inspect(part, info.Size(), formatOf(r.FileName))
	if err != nil {
		return onDisk(err)
	}
	if found.problem != "" {
		return l.spoiled(r, "the file "+found.problem+"; it was removed")
	}
	return nil
}

// spoiled removes a part that is of no use.
func (l *Library) spoiled(r *record, words string) error {
	l.mu.Lock()
	r.Kept, r.ETag, r.SHA, r.Total = 0, "", r.Wanted, 0
	l.mu.Unlock()
	return errors.Join(&permanentError{words}, onDisk(l.dropPart(r.ID)))
}

// hash gives the SHA-256 of a file in hex.
func hash(ctx context.Context, file io.Reader) (string, error) {
	sum, buffer := sha256.New(), make([]byte, 1<<20)
	for {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		n, err := file.Read(buffer)
		sum.Write(buffer[:n])
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(sum.Sum(nil)), nil
		}
		if err != nil {
			return "", onDisk(err)
		}
	}
}

// settle gives the part its name. What is about to happen is remembered first: after a crash in between the file is known to be ours.
func (l *Library) settle(root *os.Root, r *record) error {
	l.mu.Lock()
	stopped := r.State.Ended()
	r.Placing = !stopped
	l.mu.Unlock()
	if stopped {
		return errStopped
	}
	if err := l.save(); err != nil {
		return onDisk(err)
	}
	err := giveName(root, partName(r.ID), r.FileName)
	if errors.Is(err, os.ErrExist) {
		return l.spoiled(r, fmt.Sprintf("a file named %s came into the models folder meanwhile, and is not replaced", r.FileName))
	}
	if err != nil {
		return onDisk(err)
	}
	return l.installed(root, r)
}

// adopt looks whether a file got its name before a crash. done says that nothing is left to do but to load it.
func (l *Library) adopt(ctx context.Context, root *os.Root, r *record) (done bool, err error) {
	if _, err := root.Lstat(partName(r.ID)); err == nil {
		return false, nil // it did not
	}
	file, err := root.Open(r.FileName)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, onDisk(err)
	}
	defer file.Close()
	l.enterState(r, model.Verifying)
	sum, err := hash(ctx, file)
	if err != nil {
		return false, err
	}
	if sum != r.SHA {
		return false, &permanentError{fmt.Sprintf("a file named %s came into the models folder meanwhile, and is not replaced", r.FileName)}
	}
	if err := l.installed(root, r); err != nil {
		return false, err
	}
	return true, l.load(ctx, r)
}

// installed records a file that has its name, and lets it be seen.
func (l *Library) installed(root *os.Root, r *record) error {
	info, err := root.Lstat(r.FileName)
	if err != nil {
		return onDisk(err)
	}
	l.mu.Lock()
	l.memory.Installed[r.FileName] = origin{SHA256: r.SHA, From: r.from(l.web), Bytes: info.Size(), Modified: info.ModTime()}
	delete(l.memory.Disabled, r.FileName)
	r.Placing, r.State, r.Total, r.Kept, r.ETag = false, model.Loading, info.Size(), 0, "" // from here on a restart only loads it
	l.mu.Unlock()
	l.log.Info("a model is installed", "name", stem(r.FileName), "bytes", info.Size())
	if err := l.save(); err != nil {
		return onDisk(err)
	}
	l.scan(context.Background())
	return nil
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

// enterState is for states that only say what is done; they need not be durable.
func (l *Library) enterState(r *record, state model.InstallState) {
	l.mu.Lock()
	if !r.State.Ended() {
		r.State = state
	}
	r.speed, r.trouble = 0, ""
	l.mu.Unlock()
	l.publish()
}

func (l *Library) trouble(r *record, words string) {
	l.mu.Lock()
	r.trouble, r.speed = words, 0
	l.mu.Unlock()
	l.publish()
}

func (l *Library) progress(r *record, here, speed int64) {
	l.mu.Lock()
	if here > r.here {
		r.trouble = ""
	}
	r.here, r.speed = here, speed
	l.mu.Unlock()
	l.publish()
}

func (l *Library) etag(r *record) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return r.ETag
}

// known records what an answer told of the file.
func (l *Library) known(r *record, total int64, etag string) {
	l.mu.Lock()
	r.Total = total
	r.ETag = etag
	l.mu.Unlock()
}

// kept records how much of a part is on the disk for certain.
func (l *Library) kept(r *record, here int64) error {
	l.mu.Lock()
	r.Kept, r.here = here, here
	l.mu.Unlock()
	return l.save()
}

// remember is save where nobody waits for it.
func (l *Library) remember() {
	if err := l.save(); err != nil {
		l.log.Warn("what is known of models can't be kept", "error", err)
	}
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
