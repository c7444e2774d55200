package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"image/png"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"muster/agent/backend/backendtest"
	"muster/agent/fixture"
	"muster/e2e/harness"
	"muster/shared/job"
)

// onEqualCards runs a test on four simulated cards, and on eight captured ones with a generator each.
func onEqualCards(t *testing.T, test func(t *testing.T, agent *harness.Agent)) {
	t.Run("simulated", func(t *testing.T) { test(t, start(t, "--simulate", "4x MI25")) })
	t.Run("sd-server", func(t *testing.T) {
		program := backendtest.BuildFakeSDServer(t, backendtest.MI25x8())
		models := t.TempDir()
		backendtest.WriteModel(t, models, "sd15", backendtest.Scenario{LoadMilliseconds: 300, StepMilliseconds: 20})
		test(t, start(t, "--sysroot", fixture.Root(t, "amd-mi25x8"), "--sd-server", program, "--models", models))
	})
}

// square fails unless the bytes are a PNG of that side.
func square(t *testing.T, raw []byte, side int) {
	t.Helper()
	config, err := png.DecodeConfig(bytes.NewReader(raw))
	if err != nil || config.Width != side || config.Height != side {
		t.Errorf("%d bytes are an image of %d x %d: %v", len(raw), config.Width, config.Height, err)
	}
}

// OpenAI's own client needs another address and the token as its key, and its four images come from four cards.
func TestOfficialOpenAIClientGainsEveryCard(t *testing.T) {
	onEqualCards(t, func(t *testing.T, agent *harness.Agent) {
		client := openai.NewClient(option.WithBaseURL(agent.URL+"/v1"), option.WithAPIKey(agent.Token))
		models, err := client.Models.List(t.Context())
		if err != nil || len(models.Data) == 0 {
			t.Fatalf("models: %v, %+v", err, models)
		}
		got, err := client.Images.Generate(t.Context(), openai.ImageGenerateParams{Prompt: "a lighthouse keeper", Model: "gpt-image-1", N: openai.Int(4), Size: "512x512"})
		if err != nil || len(got.Data) != 4 {
			t.Fatalf("%v, %+v", err, got)
		}
		for _, image := range got.Data {
			raw, err := base64.StdEncoding.DecodeString(image.B64JSON)
			if err != nil {
				t.Fatal(err)
			}
			square(t, raw, 512)
		}
		spread(t, finished(t, agent, 4))
		if log := agent.Stderr(); strings.Contains(log, "lighthouse") {
			t.Error("the log holds the prompt")
		}
	})
}

// A link is fetched without the token, and streaming gives each image on its own.
func TestOfficialOpenAIClientLinksAndStreams(t *testing.T) {
	agent := start(t, "--simulate", "4x MI25")
	client := openai.NewClient(option.WithBaseURL(agent.URL+"/v1"), option.WithAPIKey(agent.Token))
	got, err := client.Images.Generate(t.Context(), openai.ImageGenerateParams{Prompt: "x", Model: "dall-e-3", Size: "256x256"})
	if err != nil || len(got.Data) != 1 {
		t.Fatalf("%v, %+v", err, got)
	}
	response, err := http.Get(got.Data[0].URL)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	square(t, raw, 256)
	stream := client.Images.GenerateStreaming(t.Context(), openai.ImageGenerateParams{Prompt: "x", N: openai.Int(4), Size: "256x256"})
	images := 0
	for stream.Next() {
		if event, ok := stream.Current().AsAny().(openai.ImageGenCompletedEvent); ok {
			images++
			raw, err := base64.StdEncoding.DecodeString(event.B64JSON)
			if err != nil {
				t.Fatal(err)
			}
			square(t, raw, 256)
		}
	}
	if stream.Err() != nil || images != 4 {
		t.Errorf("%d images, %v", images, stream.Err())
	}
}

// txt2img asks as clients of stable-diffusion-webui do: by a name and a password, or by an address that holds the token.
func txt2img(t *testing.T, address, password, body string) (images []string, info map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "POST", address+"/sdapi/v1/txt2img", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if password != "" {
		request.SetBasicAuth("anybody", password)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Images []string `json:"images"`
		Info   string   `json:"info"`
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != 200 {
		t.Fatalf("%s: %v", response.Status, err)
	}
	if err := json.Unmarshal([]byte(answer.Info), &info); err != nil {
		t.Fatal(err)
	}
	return answer.Images, info
}

func TestSdapiClientGainsEveryCard(t *testing.T) {
	onEqualCards(t, func(t *testing.T, agent *harness.Agent) {
		images, info := txt2img(t, agent.URL, agent.Token, `{"prompt":"a lighthouse keeper","batch_size":4,"width":512,"height":512,"steps":20,"seed":-1,"sampler_name":"Euler a"}`)
		if len(images) != 4 || len(info["all_seeds"].([]any)) != 4 {
			t.Fatalf("%d images, %v", len(images), info)
		}
		for _, image := range images {
			raw, err := base64.StdEncoding.DecodeString(image)
			if err != nil {
				t.Fatal(err)
			}
			square(t, raw, 512)
		}
		spread(t, finished(t, agent, 4))
	})
}

// What was chosen as a program's model is still so after a restart, and an address with the token in it needs nothing else.
func TestSdapiChoiceSurvivesARestart(t *testing.T) {
	data := t.TempDir()
	program := backendtest.BuildFakeSDServer(t, backendtest.MI25x8())
	models := t.TempDir()
	for _, name := range []string{"alpha", "beta"} {
		backendtest.WriteModel(t, models, name, backendtest.Scenario{StepMilliseconds: 5})
	}
	flags := []string{"--sysroot", fixture.Root(t, "amd-mi25x8"), "--sd-server", program, "--models", models}
	agent := startOn(t, data, flags...)
	if _, err := agent.Do(t.Context(), "POST", "/sdapi/v1/options", map[string]string{"sd_model_checkpoint": "beta"}, nil); err != nil {
		t.Fatal(err)
	}
	agent.Kill()
	agent = startOn(t, data, flags...)
	if _, info := txt2img(t, agent.URL+"/key/"+agent.Token, "", `{"prompt":"x","width":64,"height":64,"steps":1}`); info["sd_model_name"] != "beta" {
		t.Errorf("made with %v", info["sd_model_name"])
	}
	jobs := finished(t, agent, 1)
	if jobs[0].State != job.Succeeded || jobs[0].Model != "beta" {
		t.Errorf("%+v", jobs[0])
	}
	if log := agent.Stderr(); strings.Contains(log, agent.Token) {
		t.Error("the log holds the token")
	}
}
