package live

import (
	"encoding/json"
	"strings"
	"testing"

	"muster/shared/gpu"
)

func TestModelCommandsAsRequests(t *testing.T) {
	t.Parallel()
	cpu, three := gpu.CPU, gpu.Ref(3)
	for _, test := range []struct {
		name string
		in   ModelCommand
		want [3]string
	}{
		{"enable", ModelCommand{Act: EnableModel, Model: "sdxl"}, [3]string{"POST", "/api/v1/models/sdxl/enable", ""}},
		{"disable", ModelCommand{Act: DisableModel, Model: "sub: a b"}, [3]string{"POST", "/api/v1/models/sub:%20a%20b/disable", ""}},
		{"remove", ModelCommand{Act: RemoveModel, Model: "a/b?c#d"}, [3]string{"DELETE", "/api/v1/models/a%2Fb%3Fc%23d", ""}},
		{"load", ModelCommand{Act: LoadModel, Model: "sdxl", Device: &three}, [3]string{"POST", "/api/v1/models/sdxl/load", `{"device_id":3}`}},
		{"load on the processor", ModelCommand{Act: LoadModel, Model: "sdxl", Device: &cpu}, [3]string{"POST", "/api/v1/models/sdxl/load", `{"device_id":"cpu"}`}},
		{"install an address", ModelCommand{Act: InstallModel, Source: Source{URL: "https://a.example/x.gguf"}}, [3]string{"POST", "/api/v1/models/install", `{"url":"https://a.example/x.gguf"}`}},
		{
			"install of a repository", ModelCommand{Act: InstallModel, Source: Source{Repo: "ada/models", File: "x.gguf", Name: "mine", SHA256: "0a"}, Device: &three},
			[3]string{"POST", "/api/v1/models/install", `{"repo":"ada/models","file":"x.gguf","name":"mine","sha256":"0a","device_id":3}`},
		},
		{"stop", ModelCommand{Act: StopInstall, Install: "0123"}, [3]string{"DELETE", "/api/v1/models/installs/0123", ""}},
		{"again", ModelCommand{Act: AgainInstall, Install: "0123"}, [3]string{"POST", "/api/v1/models/installs/0123/again", ""}},
	} {
		if method, path, body := test.in.Request(); [3]string{method, path, body} != test.want {
			t.Errorf("%s: %s %s %s, want %q", test.name, method, path, body, test.want)
		}
	}
}

func TestDecodeRecommendations(t *testing.T) {
	t.Parallel()
	many, err := json.Marshal(map[string]any{"recommendations": make([]map[string]string, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	one := `{"name":"sdxl-1.0","title":"SDXL 1.0","family":"sdxl","repo":"a/b","file":"x.safetensors","bytes":7000000000,"need_bytes":10200547328,"model_name":"x","usable":true}`
	for _, test := range []struct {
		name   string
		status int
		body   string
		n      int
		want   string // error; "" for none
	}{
		{"none", 200, string(many), 0, ""},
		{"one", 200, `{"recommendations":[` + one + `]}`, 1, ""},
		{"endless", 200, `{"recommendations":[` + strings.Repeat(one+",", 500) + one + `]}`, maxRecommendations, ""},
		{"without repository", 200, `{"recommendations":[{"name":"x","file":"x.gguf"}]}`, 0, "the agent's answer contradicts itself"},
		{"of a negative size", 200, `{"recommendations":[{"repo":"a/b","file":"x.gguf","bytes":-1}]}`, 0, "the agent's answer contradicts itself"},
		{"half", 200, `{"recommendations":[`, 0, "the agent's answer can't be read"},
		{"refused", 503, `{"error":{"code":"not_measured","message":"the devices have not been measured yet"}}`, 0, "the devices have not been measured yet"},
		{"not there", 404, `<html>`, 0, "the agent refused (status 404)"},
	} {
		got, err := DecodeRecommendations(test.status, []byte(test.body))
		if len(got) != test.n || (err == nil) != (test.want == "") || err != nil && !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %d, %v; want %d, %q", test.name, len(got), err, test.n, test.want)
		}
	}
}

func FuzzDecodeRecommendations(f *testing.F) {
	f.Add(200, []byte(`{"recommendations":[{"name":"x","repo":"a/b","file":"x.gguf","fits":[{"device_id":"cpu","fits":null}]}]}`))
	f.Add(200, []byte(`{"recommendations":null}`))
	f.Add(400, []byte(`{"error":{"message":"no"}}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		list, err := DecodeRecommendations(status, body)
		if err != nil && list != nil || len(list) > maxRecommendations {
			t.Errorf("%d recommendations, %v", len(list), err)
		}
		for _, r := range list {
			if r.Repo == "" || r.File == "" || r.Bytes < 0 {
				t.Errorf("taken: %+v", r)
			}
		}
	})
}
