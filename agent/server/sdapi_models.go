package server

import (
	"fmt"
	"net/http"
	"strings"

	"muster/shared/wire"
)

// sdapiModelEntry is a model as it is listed. Nothing is told of files.
type sdapiModelEntry struct {
	Title    string  `json:"title"`
	Name     string  `json:"model_name"`
	Hash     *string `json:"hash"`
	SHA256   *string `json:"sha256"`
	Filename string  `json:"filename"`
	Config   *string `json:"config"`
}

// sdapiModels answers GET /sdapi/v1/sd-models.
func (s *Server) sdapiModels(w http.ResponseWriter, r *http.Request) error {
	models := []sdapiModelEntry{}
	for _, m := range s.capacity(r.Context()).Models {
		models = append(models, sdapiModelEntry{Title: sdapiTitle(m), Name: m.Name, Filename: m.Name})
	}
	writeJSON(w, http.StatusOK, models)
	return nil
}

// sdapiModel gives the model of a name: that, with or without the ending of a file, or a title with the short hash behind it.
func sdapiModel(name string, capacity wire.Capacity) (string, bool) {
	known := func(name string) (string, bool) {
		for _, same := range []func(a, b string) bool{func(a, b string) bool { return a == b }, strings.EqualFold} {
			for _, m := range capacity.Models {
				if same(m.Name, name) || same(sdapiTitle(m), name) {
					return m.Name, true
				}
			}
		}
		return "", false
	}
	if found, ok := known(name); ok {
		return found, true
	}
	if at := strings.LastIndex(name, " ["); at > 0 && strings.HasSuffix(name, "]") {
		name = name[:at]
	}
	for _, ending := range []string{".safetensors", ".ckpt", ".gguf"} {
		name = strings.TrimSuffix(name, ending)
	}
	if found, ok := known(name); ok {
		return found, true
	}
	// A file in a folder: the agent writes the folder before the name only where that is needed.
	folder, file, ok := strings.Cut(strings.ReplaceAll(name, `\`, "/"), "/")
	if !ok {
		return "", false
	}
	if found, ok := known(folder + ": " + file); ok {
		return found, true
	}
	return known(file[strings.LastIndex(file, "/")+1:])
}

func noSdapiModel(field, name string, capacity wire.Capacity) error {
	titles := make([]string, len(capacity.Models))
	for i, m := range capacity.Models {
		titles[i] = sdapiTitle(m)
	}
	return &refusal{status: http.StatusNotFound, code: "model_not_found", field: field,
		message: fmt.Sprintf("Model not found: %q; there are %s", cut(name), strings.Join(titles, ", "))}
}

// sdapiTitle is how a model is listed and chosen: its name, and where that is no file's what it is.
func sdapiTitle(m wire.Model) string {
	if m.Title == "" || m.Title == m.Name {
		return m.Name
	}
	return m.Name + " (" + m.Title + ")"
}
