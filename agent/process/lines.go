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

// keptLine is the largest buffer in bytes that stays between lines: a rare long line should not cost memory for good.
const keptLine = 64 << 10

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
	if cap(w.line) > keptLine {
		w.line = nil
	}
}

// pipes are the child's stdout and stderr, and its stdin if it has one.
type pipes struct {
	readers, writers []*os.File
	sinks            []*lineWriter
	stdin, childs    *os.File // the two ends of its stdin; nil without
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
			p.discard()
			return nil, err
		}
		if emit == nil {
			emit = func(string) {}
		}
		p.readers, p.writers = append(p.readers, r), append(p.writers, w)
		p.sinks = append(p.sinks, &lineWriter{max: limit, emit: emit})
		limit = min(limit, defaultMaxLine) // nobody expects long lines on stderr
	}
	cmd.Stdout, cmd.Stderr = p.writers[0], p.writers[1]
	if c.Stdin {
		var err error
		if p.childs, p.stdin, err = os.Pipe(); err != nil {
			p.discard()
			return nil, err
		}
		cmd.Stdin = p.childs
	}
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

// closeChilds closes the ends that the child has.
func (p *pipes) closeChilds() {
	closeAll(p.writers)
	_ = p.childs.Close() // of nil too
}

func (p *pipes) closeReaders() { closeAll(p.readers) }

// discard closes everything, when nothing was started.
func (p *pipes) discard() {
	p.closeChilds()
	p.closeReaders()
	_ = p.stdin.Close()
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
