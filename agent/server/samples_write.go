package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"muster/shared/gpu"
	"muster/shared/job"
)

// openSamples opens the images of the jobs that succeeded, and lists the others. The files are the caller's to close.
func (s *Server) openSamples(jobs []job.Job) (samples []sample, failed []sampleError) {
	pictures, lost := s.openPictures(jobs)
	for _, p := range pictures {
		samples = append(samples, sample{sampleID(p.job.Ordinal), fmt.Sprintf("Sample %d", p.job.Ordinal+1), p})
	}
	for _, l := range lost {
		failed = append(failed, sampleError{sampleID(l.job.Ordinal), l.job.ID, l.why})
	}
	return samples, failed
}

// sample is one finished image with its names.
type sample struct {
	id, label string
	imageFile
}

// samplesFailed is the answer when no image could be made.
type samplesFailed struct {
	Detail string        `json:"detail"`
	Errors []sampleError `json:"errors"`
}

// writeSamples answers with head, an open JSON object, and "images", "count" and "errors" in it; 500 when every image failed.
func (s *Server) writeSamples(w http.ResponseWriter, head []byte, jobs []job.Job) error {
	samples, failed := s.openSamples(jobs)
	defer func() {
		for _, one := range samples {
			one.file.Close()
		}
	}()
	if len(samples) == 0 {
		writeJSON(w, http.StatusInternalServerError, samplesFailed{fmt.Sprintf("no image could be made: %s", failed[0].Error), failed})
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	out := bufio.NewWriterSize(w, 32<<10)
	out.Write(head)
	if err := writeImages(out, samples, failed); err != nil {
		s.log.Warn("write sample images", "error", err)
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
	return nil
}

func writeImages(out *bufio.Writer, samples []sample, failed []sampleError) error {
	io.WriteString(out, `"images":[`)
	for i, one := range samples {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := one.write(out); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, `],"count":%d`, len(samples))
	if len(failed) > 0 {
		list, err := json.Marshal(failed)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, `,"errors":%s`, list)
	}
	io.WriteString(out, "}\n")
	return out.Flush() // a bufio.Writer keeps its first error for this
}

// sampleFacts is what stands behind the data of an image.
type sampleFacts struct {
	Size      int64   `json:"size"` // bytes
	GPUID     gpu.Ref `json:"gpu_id"`
	Seed      int64   `json:"seed"`
	JobID     string  `json:"job_id"`
	Simulated bool    `json:"simulated,omitempty"`
}

// write writes one image, its data as base64 straight from the file.
func (one sample) write(out io.Writer) error {
	device := gpu.CPU
	if one.job.DeviceID != nil {
		device = *one.job.DeviceID
	}
	fmt.Fprintf(out, `{"id":%q,"label":%q,"data_url":"data:image/png;base64,`, one.id, one.label)
	if err := writeBase64(out, one.file); err != nil {
		return err
	}
	rest, err := json.Marshal(sampleFacts{one.size, device, one.job.Seed, one.job.ID, one.job.Simulated})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, `",%s`, rest[1:])
	return err
}
