package process

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"sync"
)

// defaultMaxLine is the longest line in bytes that is kept unless a Command says otherwise.
const defaultMaxLine = 4096

// eraseLine is the terminal's "erase to the end of the line". Programs that redraw a progress bar end each bar with it and
// begin the next one with \r: it tells that a bar is complete, before the next one comes.
const eraseLine = "\x1b[K"

// lineWriter splits what is written to it into lines. Ends of a line are \n, \r and eraseLine; empty lines are dropped.
type lineWriter struct {
	max  int
	emit func(string)
	line []byte // never longer than max: the rest is thrown away
}

// Write never fails.
func (w *lineWriter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		end := bytes.IndexAny(b, "\r\nK")
		if end < 0 {
			w.add(b)
			break
		}
		if b[end] != 'K' {
			w.add(b[:end])
			w.flush()
		} else if w.add(b[:end+1]); bytes.HasSuffix(w.line, []byte(eraseLine)) {
			w.line = w.line[:len(w.line)-len(eraseLine)]
			w.flush()
		}
		b = b[end+1:]
	}
	return n, nil
}

func (w *lineWriter) add(b []byte) {
	w.line = append(w.line, b[:min(len(b), w.max-len(w.line))]...)
}

func (w *lineWriter) flush() {
	if len(w.line) > 0 {
		w.emit(string(w.line))
	}
	w.line = w.line[:0]
}

// pipes are the child's stdout and stderr.
type pipes struct {
	readers, writers []*os.File
	sinks            []*lineWriter
}

func newPipes(c Command, cmd *exec.Cmd) (*pipes, error) {
	p := &pipes{}
	limit := c.MaxLine
	if limit <= 0 {
		limit = defaultMaxLine
	}
	for _, emit := range []func(string){c.Stdout, c.Stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			p.closeReaders()
			p.closeWriters()
			return nil, err
		}
		if emit == nil {
			emit = func(string) {}
		}
		p.readers, p.writers = append(p.readers, r), append(p.writers, w)
		p.sinks = append(p.sinks, &lineWriter{max: limit, emit: emit})
	}
	cmd.Stdout, cmd.Stderr = p.writers[0], p.writers[1]
	return p, nil
}

// drain reads both pipes to their ends; the channel is closed when both are there.
func (p *pipes) drain() <-chan struct{} {
	var reading sync.WaitGroup
	for i := range p.readers {
		reading.Go(func() {
			_, _ = io.CopyBuffer(p.sinks[i], onlyReader{p.readers[i]}, make([]byte, 4096))
			p.sinks[i].flush()
			_ = p.readers[i].Close()
		})
	}
	drained := make(chan struct{})
	go func() {
		reading.Wait()
		close(drained)
	}()
	return drained
}

// onlyReader hides the file's WriteTo, which would take a buffer of its own choosing.
type onlyReader struct{ io.Reader }

func (p *pipes) closeWriters() { closeAll(p.writers) }
func (p *pipes) closeReaders() { closeAll(p.readers) }

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
