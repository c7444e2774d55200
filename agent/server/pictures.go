package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"image/png"
	"io"
	"net/http"
	"os"
	"time"

	"muster/agent/images"
	"muster/shared/job"
)

// imageFile is a finished image, still a file: sixteen large ones as text would take a gigabyte.
type imageFile struct {
	job  job.Job
	file *os.File
	size int64 // bytes
}

// unmade is an image that there is not, with the reason in words for people.
type unmade struct {
	job job.Job
	why string
}

// openPictures opens the images of the jobs that succeeded, and lists the others. The files are the caller's to close.
func (s *Server) openPictures(jobs []job.Job) (pictures []imageFile, lost []unmade) {
	for _, j := range jobs {
		if j.State != job.Succeeded {
			lost = append(lost, unmade{j, failureOf(j)})
			continue
		}
		p, err := s.openPicture(j)
		if err != nil {
			s.log.Error("open image", "job", j.ID, "error", err)
			lost = append(lost, unmade{j, "the image can't be read"})
			continue
		}
		pictures = append(pictures, p)
	}
	return pictures, lost
}

func (s *Server) openPicture(j job.Job) (imageFile, error) {
	file, err := s.config.Images.Open(j.ImageID)
	if err != nil {
		return imageFile{}, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return imageFile{}, err
	}
	return imageFile{j, file, info.Size()}, nil
}

// sides gives the size in pixels that the image has: generators round what was asked for. That is said where the file's header
// can't be read.
func (p imageFile) sides() (width, height int) {
	config, err := png.DecodeConfig(p.file)
	if err != nil {
		config.Width, config.Height = p.job.Width, p.job.Height
	}
	_, _ = p.file.Seek(0, io.SeekStart) // of a regular file: what is wrong with it, reading will tell
	return config.Width, config.Height
}

// suited is the encoding in which all of the pictures can be given. It is decided before anything is sent: JPEG is not made of images
// above images.MaxThumbPixels, which are given as they are kept.
func (as encoding) suited(pictures ...imageFile) encoding {
	for _, p := range pictures {
		if width, height := p.sides(); width*height > images.MaxThumbPixels {
			return encoding{}
		}
	}
	return as
}

func closeAll(pictures []imageFile) {
	for _, p := range pictures {
		p.file.Close()
	}
}

// encoding is the format in which a client wants its images.
type encoding struct {
	jpeg    bool // else PNG, as they are kept
	quality int  // of JPEG, 1 to 100
}

// Bounds of images as JPEG at the doors.
const (
	maxJPEGs    = 4           // in memory at once, made and not yet sent; their pixels are unpacked one at a time
	jpegTimeout = time.Minute // for a client to read one: as long it keeps others waiting
)

// writePicture writes the image as base64 in that encoding.
func (s *Server) writePicture(ctx context.Context, out reply, p imageFile, as encoding) error {
	if !as.jpeg {
		return writeBase64(out, p.file)
	}
	if err := s.jpegs.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.jpegs.Release(1)
	file, err := s.config.Images.JPEG(ctx, p.job.ImageID, as.quality)
	if err != nil {
		return err
	}
	out.to.until = time.Now().Add(jpegTimeout)
	defer func() { out.to.until = time.Time{} }()
	return writeBase64(out, bytes.NewReader(file))
}

func writeBase64(out io.Writer, from io.Reader) error {
	encoder := base64.NewEncoder(base64.StdEncoding, out)
	if _, err := io.Copy(encoder, from); err != nil {
		return err
	}
	return encoder.Close()
}

// pieceTimeout is how long a client may take for each piece of a long answer.
const pieceTimeout = 30 * time.Second

// steady writes to a client that has to keep reading: one that does not, loses its connection. net/http takes the deadline off
// before the next request.
type steady struct {
	w     http.ResponseWriter
	conn  *http.ResponseController
	until time.Time // by when everything has to be read; zero: only pieceTimeout counts
}

func (s *steady) Write(p []byte) (int, error) {
	end := time.Now().Add(pieceTimeout)
	if !s.until.IsZero() && s.until.Before(end) {
		end = s.until
	}
	_ = s.conn.SetWriteDeadline(end) // recorders of tests know no deadlines
	return s.w.Write(p)
}

// flush sends what was written.
func (s *steady) flush() { _ = s.conn.Flush() }

// reply is a long answer on its way to a client. It keeps the first error of writing for Flush.
type reply struct {
	*bufio.Writer
	to *steady
}

func newReply(w http.ResponseWriter) reply {
	to := &steady{w: w, conn: http.NewResponseController(w)}
	return reply{bufio.NewWriterSize(to, 32<<10), to}
}
