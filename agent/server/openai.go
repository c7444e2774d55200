package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
)

// openAIGenerate answers POST /v1/images/generations.
//
// OpenAI has no form for a set of which some images failed: those that were made are given, "errors", which its clients pass over,
// tells of the others. Only when all failed it is an error.
func (s *Server) openAIGenerate(w http.ResponseWriter, r *http.Request) error {
	body, err := s.readDoor(w, r)
	if err != nil {
		return err
	}
	ask, err := parseOpenAI(body)
	if err != nil {
		return err
	}
	spec, err := ask.spec(s.capacity(r.Context()))
	if err != nil {
		return err
	}
	spec.ClientID = clientOf(r, "openai", ask.user)
	jobs, keep, err := s.order(r, spec, ask.adapt)
	if err != nil {
		return renamed(err, openAINames)
	}
	if ask.stream {
		return s.openAIStream(w, r, ask, jobs, keep)
	}
	err = s.each(r, jobs, wait{keep: keep, done: func(i int, j job.Job) error { jobs[i] = j; return nil }})
	if err != nil {
		return err
	}
	return s.openAIAnswer(w, r, ask, jobs)
}

func (s *Server) openAIAnswer(w http.ResponseWriter, r *http.Request, ask openAIAsk, jobs []job.Job) error {
	pictures, lost := s.openPictures(jobs)
	defer closeAll(pictures)
	if len(pictures) == 0 {
		return errAllFailed(lost)
	}
	ask.encoding = ask.encoding.suited(pictures...)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	out := newReply(w)
	if err := s.writeOpenAI(out, r, ask, pictures, lost); err != nil {
		s.log.Warn("write images", "error", err)
		panic(http.ErrAbortHandler) // half an answer must not look like a whole one
	}
	return nil
}

// errAllFailed is for a set of which there is no image.
func errAllFailed(lost []unmade) *refusal {
	return &refusal{status: http.StatusInternalServerError, code: "generation_failed", message: "no image could be made: " + lost[0].why}
}

func (s *Server) writeOpenAI(out reply, r *http.Request, ask openAIAsk, pictures []imageFile, lost []unmade) error {
	common := s.openAICommon(ask, pictures[0])
	fmt.Fprintf(out, `{"created":%d,"data":[`, time.Now().Unix())
	for i, p := range pictures {
		if i > 0 {
			out.WriteByte(',')
		}
		if err := s.writeOpenAIImage(out, r, ask, p); err != nil {
			return err
		}
	}
	out.WriteByte(']')
	if err := writeRest(out, common); err != nil {
		return err
	}
	if len(lost) > 0 {
		if err := writeRest(out, struct {
			Errors []openAILost `json:"errors"`
		}{openAILosses(lost)}); err != nil {
			return err
		}
	}
	io.WriteString(out, "}\n")
	return out.Flush() // a bufio.Writer keeps its first error for this
}

// writeOpenAIImage writes one element of data.
func (s *Server) writeOpenAIImage(out reply, r *http.Request, ask openAIAsk, p imageFile) error {
	if ask.byURL {
		fmt.Fprintf(out, `{"url":%q`, s.links.url(r, p.job.ImageID, ask.encoding, time.Now()))
	} else {
		io.WriteString(out, `{"b64_json":"`)
		if err := s.writePicture(r.Context(), out, p, ask.encoding); err != nil {
			return err
		}
		out.WriteByte('"')
	}
	if err := writeRest(out, madeOf(p.job)); err != nil {
		return err
	}
	return out.WriteByte('}')
}

// writeRest writes the fields of a struct behind others of the same object.
func writeRest(out reply, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	out.WriteByte(',')
	_, err = out.Write(text[1 : len(text)-1])
	return err
}

// made is what no other program says of an image; clients pass over it.
type made struct {
	Index     int     `json:"index"` // in its set, from 0
	Seed      int64   `json:"seed"`
	DeviceID  gpu.Ref `json:"device_id"`
	JobID     string  `json:"job_id"`
	Simulated bool    `json:"simulated,omitempty"`
}

func madeOf(j job.Job) made {
	device := gpu.CPU
	if j.DeviceID != nil {
		device = *j.DeviceID
	}
	return made{j.Ordinal, j.Seed, device, j.ID, j.Simulated}
}

// openAILost is an image that could not be made.
type openAILost struct {
	Index   int    `json:"index"`
	JobID   string `json:"job_id"`
	Message string `json:"message"`
}

func openAILosses(lost []unmade) []openAILost {
	out := make([]openAILost, len(lost))
	for i, l := range lost {
		out[i] = openAILost{l.job.Ordinal, l.job.ID, l.why}
	}
	return out
}

// openAIPicture is what answers say of a picture, and of all images together.
type openAIPicture struct {
	Background   string `json:"background"`
	OutputFormat string `json:"output_format"`
	Quality      string `json:"quality"`
	Size         string `json:"size"` // pixels, WIDTHxHEIGHT
}

// openAICommon is that of finished ones.
type openAICommon struct {
	openAIPicture
	Usage openAIUsage `json:"usage"`
}

// openAIUsage counts tokens: clients want it, and there are none here.
type openAIUsage struct {
	InputTokens         int          `json:"input_tokens"`
	InputTokensDetails  openAITokens `json:"input_tokens_details"`
	OutputTokens        int          `json:"output_tokens"`
	OutputTokensDetails openAITokens `json:"output_tokens_details"`
	TotalTokens         int          `json:"total_tokens"`
}

type openAITokens struct {
	ImageTokens int `json:"image_tokens"`
	TextTokens  int `json:"text_tokens"`
}

func (s *Server) openAICommon(ask openAIAsk, p imageFile) openAICommon {
	width, height := p.sides()
	common := openAICommon{openAIPicture: openAIPicture{
		Background: "opaque", OutputFormat: "png", Quality: ask.quality, Size: fmt.Sprintf("%dx%d", width, height),
	}}
	if ask.encoding.jpeg {
		common.OutputFormat = "jpeg"
	}
	return common
}
