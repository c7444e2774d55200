package server

import "net/http"

// openAIRoutes is everything below /v1/.
func (s *Server) openAIRoutes() []route {
	return []route{
		{method: "POST", path: "/v1/images/generations", serve: s.openAIGenerate},
		{method: "POST", path: "/v1/images/edits", serve: s.openAIUnsupported},
		{method: "POST", path: "/v1/images/variations", serve: s.openAIUnsupported},
		{method: "GET", path: "/v1/images/files/{id}/{ticket}", access: public, serve: s.openAIFile},
		{method: "GET", path: "/v1/models", serve: s.openAIModels},
		{method: "GET", path: "/v1/models/{id}", serve: s.openAIModel},
		{path: "/v1/", serve: s.openAIUnknown},
	}
}

// openAIModelEntry is a model as OpenAI lists it.
type openAIModelEntry struct {
	ID      string `json:"id"`
	Object  string `json:"object"`  // "model"
	Created int64  `json:"created"` // Unix seconds: since when this agent runs, for when the file was made is not known here
	OwnedBy string `json:"owned_by"`
}

func (s *Server) openAIEntry(name string) openAIModelEntry {
	return openAIModelEntry{name, "model", s.began.Unix(), "muster"}
}

// openAIModels answers GET /v1/models: those that are here, not the names that stand for one of them.
func (s *Server) openAIModels(w http.ResponseWriter, r *http.Request) error {
	models := []openAIModelEntry{}
	for _, m := range s.capacity(r.Context()).Models {
		models = append(models, s.openAIEntry(m.Name))
	}
	writeJSON(w, http.StatusOK, openAIModelList{"list", models})
	return nil
}

type openAIModelList struct {
	Object string             `json:"object"` // "list"
	Data   []openAIModelEntry `json:"data"`
}

// openAIModel answers GET /v1/models/{id}, for every name that a request may give.
func (s *Server) openAIModel(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if _, err := openAIModel(id, s.capacity(r.Context())); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, s.openAIEntry(id))
	return nil
}
