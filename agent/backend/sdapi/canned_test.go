package sdapi

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"muster/agent/backend/backendtest"
)

// canned gives an answer of A1111's with an image of 1024x1024 that is as large as real ones, and the image.
func canned(t *testing.T) (answer, file []byte) {
	t.Helper()
	file = backendtest.Paint(backendtest.Picture{Width: 1024, Height: 1024, Grain: true})
	info, err := json.Marshal(map[string]any{"seed": 7, "width": 1024, "height": 1024, "steps": 5, "sd_model_name": "model", "job_timestamp": "20260701120000"})
	if err != nil {
		t.Fatal(err)
	}
	answer, err = json.Marshal(map[string]any{"images": []string{base64.StdEncoding.EncodeToString(file)}, "parameters": map[string]any{}, "info": string(info)})
	if err != nil {
		t.Fatal(err)
	}
	return answer, file
}

// serveCanned gives every image the same answer, and allocates nothing for it.
func serveCanned(t *testing.T, answer []byte) (base string) {
	t.Helper()
	fixed := map[string]string{
		"/sdapi/v1/sd-models": `[{"title":"model.safetensors [0123456789]","model_name":"model","hash":"0123456789","filename":"/models/model.safetensors"}]`,
		"/sdapi/v1/options":   `{"sd_model_checkpoint":"model.safetensors [0123456789]"}`,
		"/sdapi/v1/progress":  `{"progress":0,"eta_relative":0,"state":{"skipped":false,"interrupted":false,"job":"","job_count":0,"job_timestamp":"20260701120000"}}`,
		"/internal/progress":  `{"active":false,"queued":false,"completed":false}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sdapi/v1/txt2img" {
			w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
			_, _ = w.Write(answer)
			return
		}
		text, ok := fixed[r.URL.Path]
		if !ok {
			http.Error(w, `{"detail":"Not Found"}`, http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(text))
	}))
	t.Cleanup(server.Close)
	return server.URL
}
