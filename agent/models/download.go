package models

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"muster/shared/model"
)

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
