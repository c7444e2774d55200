package server

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"muster/agent/images"
)

// image answers GET /api/v1/images/{id}: the PNG, or with ?size=thumb a small JPEG of it. An id names content, so both never
// change. The type is fixed, and a page made of an image could do nothing.
func (s *Server) image(w http.ResponseWriter, r *http.Request) error {
	values, err := query(r, "size")
	if err != nil {
		return err
	}
	id := r.PathValue("id")
	switch size := values.Get("size"); size {
	case "":
		return s.original(w, r, id)
	case "thumb":
	default:
		return invalid("size", "is %q; allowed is thumb, or none for the original", cut(size))
	}
	thumb, err := s.config.Images.Thumb(r.Context(), id)
	if errors.Is(err, images.ErrTooLarge) { // to decode it would cost too much: the browser scales it
		return s.original(w, r, id)
	}
	if err != nil {
		return noImage(err)
	}
	imageHeaders(w.Header(), "image/jpeg", id+"-thumb")
	if r.Header.Get("If-None-Match") == w.Header().Get("ETag") {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(thumb)))
	_, _ = w.Write(thumb)
	return nil
}

// original serves the image as it is kept. change, where there is one, has the last word on the headers.
func (s *Server) original(w http.ResponseWriter, r *http.Request, id string, change ...func(http.Header)) error {
	file, err := s.config.Images.Open(id)
	if err != nil {
		return noImage(err)
	}
	defer file.Close()
	imageHeaders(w.Header(), "image/png", id)
	w.Header().Set("Content-Disposition", fmt.Sprintf(`inline; filename="muster-%.12s.png"`, id))
	for _, c := range change {
		c(w.Header())
	}
	http.ServeContent(w, r, "", time.Time{}, file)
	return nil
}

func imageHeaders(h http.Header, contentType, tag string) {
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
	h.Set("ETag", `"`+tag+`"`)
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
}

// preview answers GET /api/v1/jobs/{id}/preview: the newest picture of an image that is being made. There is none before the first
// and after the end, and generators that send none have none.
func (s *Server) preview(w http.ResponseWriter, r *http.Request) error {
	preview, ok := s.config.Previews.Get(r.PathValue("id"))
	if !ok {
		return &refusal{status: http.StatusNotFound, code: "not_found", message: "there is no preview of such a job now"}
	}
	h := w.Header()
	h.Set("Content-Type", preview.Type)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Content-Length", strconv.Itoa(len(preview.Data)))
	_, _ = w.Write(preview.Data)
	return nil
}

func noImage(err error) error {
	if errors.Is(err, images.ErrNotFound) {
		return &refusal{status: http.StatusNotFound, code: "not_found", message: "no such image"}
	}
	return err
}
