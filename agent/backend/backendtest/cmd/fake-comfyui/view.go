package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"muster/agent/backend/backendtest"
)

// view is GET /view, spoilt as the scenario of the newest prompt wants.
func (s *server) view(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	name, subfolder := query.Get("filename"), query.Get("subfolder")
	dir := map[string]string{"": s.options.output, "output": s.options.output, "temp": s.options.temp}[query.Get("type")]
	switch {
	case name == "":
		w.WriteHeader(http.StatusNotFound)
		return
	case name[0] == '/' || strings.Contains(name, "..") || dir == "":
		w.WriteHeader(http.StatusBadRequest)
		return
	case !filepath.IsLocal(filepath.Join(subfolder, "x")):
		w.WriteHeader(http.StatusForbidden)
		return
	}
	file, err := os.ReadFile(filepath.Join(dir, subfolder, filepath.Base(name)))
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	s.mu.Lock()
	var newest *prompt
	if len(s.order) > 0 {
		newest = s.history[s.order[len(s.order)-1]]
	}
	s.mu.Unlock()
	if newest != nil && s.spoilView(w, newest, file) {
		return
	}
	w.Header().Set("Content-Disposition", `filename="`+name+`"`)
	reply(w, http.StatusOK, "image/png", file)
}

// spoilView answers with what the scenario plans; false when it plans nothing.
func (s *server) spoilView(w http.ResponseWriter, p *prompt, file []byte) bool {
	f, ok := s.fault(p, -1, backendtest.CutPNG, backendtest.DamagedPNG, backendtest.WrongSize, backendtest.Bomb, backendtest.ViewLost, backendtest.ViewGarbage,
		backendtest.ViewHuge, backendtest.ViewDrip, backendtest.ViewOther, backendtest.ViewHalf)
	if !ok {
		return false
	}
	other := func(change func(*node)) []byte {
		copied := *p
		copied.graph = graph{}
		for id, n := range p.graph {
			inputs := map[string]any{}
			for key, value := range n.Inputs {
				inputs[key] = value
			}
			copied.graph[id] = &node{n.Class, inputs}
			change(copied.graph[id])
		}
		copied.raw = copied.graph
		changed := &run{server: s, p: &copied, signs: map[string]string{}}
		for _, n := range copied.graph {
			if n.Class == "SaveImage" {
				return changed.draw(n)
			}
		}
		return nil
	}
	switch f.Do {
	case backendtest.CutPNG, backendtest.DamagedPNG, backendtest.Bomb:
		reply(w, http.StatusOK, "image/png", backendtest.SpoilPNG(file, f.Do))
	case backendtest.WrongSize:
		reply(w, http.StatusOK, "image/png", other(func(n *node) {
			if strings.HasPrefix(n.Class, "Empty") {
				n.Inputs["width"] = json.Number(strconv.Itoa(2 * int(number(n.Inputs["width"]))))
			}
		}))
	case backendtest.ViewOther:
		reply(w, http.StatusOK, "image/png", other(func(n *node) {
			if n.Class == "SaveImage" {
				n.Inputs["filename_prefix"] = "somebody/else"
			}
			if n.Class == "KSampler" {
				n.Inputs["seed"] = json.Number("987654321")
			}
		}))
	case backendtest.ViewLost:
		s.mu.Lock()
		first := !s.viewLost
		s.viewLost = true
		s.mu.Unlock()
		if !first {
			return false
		}
		w.WriteHeader(http.StatusNotFound)
	case backendtest.ViewGarbage:
		reply(w, http.StatusOK, "text/html", []byte("<html>502 Bad Gateway</html>"))
	case backendtest.ViewHuge:
		flood(w, "\x89PNG\r\n\x1a\n")
	case backendtest.ViewDrip:
		drip(w, file)
	case backendtest.ViewHalf:
		half(w, file)
	}
	return true
}

// flood answers with 10 GB.
func flood(w http.ResponseWriter, begin string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, begin)
	block := bytes.Repeat([]byte("A"), 1<<20)
	for range 10 << 10 {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// drip answers with a byte a second.
func drip(w http.ResponseWriter, text []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	for i := range text {
		if _, err := w.Write(text[i : i+1]); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		time.Sleep(time.Second)
	}
}

// half answers with half of it and drops the connection.
func half(w http.ResponseWriter, text []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = w.Write(text[:len(text)/2])
	panic(http.ErrAbortHandler)
}
