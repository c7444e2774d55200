package e2e

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"muster/agent/fixture"
)

// What the real agent answers is what its own description says: with cards, with simulated ones, and without any.
func TestAnswersAreAsTheAgentDescribesThem(t *testing.T) {
	for name, flags := range map[string][]string{
		"eight cards": {"--sysroot", fixture.Root(t, "amd-mi25x8")}, "simulated": {"--simulate", "2x MI25, 1x RTX 4090"}, "none": {"--sysroot", t.TempDir()},
	} {
		agent := start(t, flags...)
		body := func(path string) (int, []byte) {
			request, err := http.NewRequestWithContext(t.Context(), "GET", agent.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer "+agent.Token)
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			text, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			return response.StatusCode, text
		}
		_, raw := body("/api/v1/openapi.json")
		described, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		schemas := jsonschema.NewCompiler()
		schemas.DefaultDraft(jsonschema.Draft2020)
		if err := schemas.AddResource("http://muster.test/openapi.json", described); err != nil {
			t.Fatal(err)
		}
		looked := 0
		for path, item := range described.(map[string]any)["paths"].(map[string]any) {
			if item.(map[string]any)["get"] == nil || strings.Contains(path, "{") || slices.Contains([]string{"/metrics", "/api/v1/events", "/api/v1/history", "/api/v1/jobs/export"}, path) {
				continue
			}
			status, answer := body(path)
			where := "/responses/200"
			if status != http.StatusOK {
				where = "/responses/default"
			}
			schema, err := schemas.Compile("http://muster.test/openapi.json#/paths/" + strings.ReplaceAll(path, "/", "~1") + "/get" + where + "/content/application~1json/schema")
			if err != nil {
				t.Fatal(err)
			}
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(answer))
			if err == nil {
				err = schema.Validate(value)
			}
			if err != nil {
				t.Errorf("%s: GET %s: %d %.300s: %v", name, path, status, answer, err)
			}
			looked++
		}
		if looked < 30 {
			t.Errorf("%s: only %d answers were looked at", name, looked)
		}
	}
}
