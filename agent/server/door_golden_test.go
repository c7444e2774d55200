package server

import (
	"encoding/json"
	"strings"
	"testing"

	"muster/shared/job"
)

// What programs send, field for field, written down after reading where they make it.

// Open WebUI, backend/open_webui/routers/images.py, image_generations, engine "openai": with its own default model, with a size and
// a number chosen in the chat, and with a model for which it asks no format.
var openWebUIOpenAI = []string{
	`{"model": "dall-e-2", "prompt": "a lighthouse", "n": 1, "size": "512x512", "response_format": "b64_json"}`,
	`{"model": "sketch", "prompt": "a lighthouse", "n": 4, "size": "1024x1024", "response_format": "b64_json"}`,
	`{"model": "gpt-image-1", "prompt": "a lighthouse", "n": 1, "size": "auto"}`,
	`{"model": "gpt-image-1.5", "prompt": "a lighthouse", "n": 2, "quality": "high", "background": "auto", "moderation": "low"}`,
}

// The same, engine "automatic1111": with its settings as they come, with steps and a negative prompt, and with parameters that an
// administrator added.
var openWebUISdapi = []string{
	`{"prompt": "a lighthouse", "batch_size": 1, "width": 512, "height": 512, "steps": 50}`,
	`{"prompt": "a lighthouse", "batch_size": 4, "width": 640, "height": 512, "steps": 20, "negative_prompt": "blurry"}`,
	`{"prompt": "a lighthouse", "batch_size": 1, "width": 512, "height": 512, "cfg_scale": 7.0, "sampler_name": "Euler", "scheduler": "Karras"}`,
}

// SillyTavern: public/scripts/extensions/stable-diffusion/index.js, generateAutoImage, of which src/endpoints/stable-diffusion.js
// sends everything on, the address and the key of the server among it.
const sillyTavernSdapi = `{"url":"http://127.0.0.1:8000","auth":"muster:` + testToken + `","prompt":"best quality, a lighthouse","negative_prompt":"lowres",
	"sampler_name":"Euler a","scheduler":"automatic","steps":20,"cfg_scale":7,"width":512,"height":768,"restore_faces":false,"enable_hr":false,
	"hr_upscaler":"Latent","hr_scale":1,"denoising_strength":0.7,"hr_second_pass_steps":0,
	"override_settings":{"CLIP_stop_at_last_layers":1},"override_settings_restore_afterwards":true,"clip_skip":1,"save_images":true,"send_images":true,
	"do_not_save_grid":false,"do_not_save_samples":false}`

// The same file, generateOpenAiImage, which src/endpoints/openai.js sends on.
const sillyTavernOpenAI = `{"prompt":"a lighthouse","model":"dall-e-3","size":"1024x1792","n":1,"quality":"standard","style":"vivid","response_format":"b64_json"}`

// Cyanic SD for Krita (DrCyanide/cyanic-sd-krita): cyanic/sdapi_v1.py, cleanup_data, on what the widgets of cyanic/pages/txt2img.py
// give: sizes of the canvas, which are no multiple of anything, and a model by its title.
const cyanicKrita = `{"width":683,"height":512,"prompt":"a lighthouse","negative_prompt":"","n_iter":1,"batch_size":2,"cfg_scale":7,"seed":-1,"subseed":-1,
	"subseed_strength":0.0,"enable_hr":false,"override_settings":{"sd_model_checkpoint":"sketch (built-in sketch renderer, no AI model)","sd_vae":""},
	"sampler_name":"DPM++ 2M","steps":20,"override_settings_restore_afterwards":false}`

// sdwebuiapi (mix1009/sdwebuiapi), webuiapi/webuiapi.py, txt2img with nothing but a prompt.
const sdwebuiapiClient = `{"enable_hr":false,"hr_scale":2,"hr_upscaler":"Latent","hr_second_pass_steps":0,"hr_resize_x":0,"hr_resize_y":0,"denoising_strength":0.7,
	"firstphase_width":0,"firstphase_height":0,"prompt":"a lighthouse","styles":[],"seed":-1,"subseed":-1,"subseed_strength":0.0,"seed_resize_from_h":0,
	"seed_resize_from_w":0,"batch_size":1,"n_iter":1,"steps":20,"cfg_scale":7.0,"width":512,"height":512,"restore_faces":false,"tiling":false,
	"do_not_save_samples":false,"do_not_save_grid":false,"negative_prompt":"","eta":1.0,"s_churn":0,"s_tmax":0,"s_tmin":0,"s_noise":1,
	"override_settings":{},"override_settings_restore_afterwards":true,"sampler_name":"Euler a","sampler_index":"Euler a","scheduler":"automatic",
	"script_name":null,"script_args":[],"send_images":true,"save_images":false,"alwayson_scripts":{}}`

func TestBodiesOfProgramsAtTheOpenAIDoor(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.generate(func(job.Job) string { return "" })
	for _, body := range append([]string{sillyTavernOpenAI}, openWebUIOpenAI...) {
		var asked struct{ N int }
		if err := json.Unmarshal([]byte(body), &asked); err != nil {
			t.Fatal(err)
		}
		r := a.ask("POST", imagesPath, body, "Content-Type", "application/json")
		var got openAIResponse
		r.into(t, &got)
		if r.status != 200 || len(got.Data) != asked.N || got.Data[0].B64 == nil {
			t.Errorf("%s: %d %.300s", body, r.status, r.body)
		}
	}
}

func TestBodiesOfProgramsAtTheSdapiDoor(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.generate(func(job.Job) string { return "" })
	for _, body := range append([]string{sillyTavernSdapi, cyanicKrita, sdwebuiapiClient}, openWebUISdapi...) {
		var asked struct {
			BatchSize int `json:"batch_size"`
			Width     int `json:"width"`
			Steps     int `json:"steps"`
		}
		if err := json.Unmarshal([]byte(body), &asked); err != nil {
			t.Fatal(err)
		}
		got, info := a.txt2img(body, append(basic("muster", testToken), "Content-Type", "application/json")...)
		if len(got.Images) != max(1, asked.BatchSize) || got.Parameters.Width != asked.Width || got.Parameters.BatchSize*got.Parameters.Batches != len(got.Images) {
			t.Errorf("%s: %d images, %+v", body, len(got.Images), got.Parameters)
			continue
		}
		j, err := a.queue.Job(t.Context(), info.Muster.Images[0].JobID)
		if err != nil || !strings.HasSuffix(j.Prompt, "a lighthouse") || j.Width != asked.Width || asked.Steps > 0 && j.Steps != asked.Steps || j.ClientID != "sdapi muster" {
			t.Errorf("%s: %+v, %v", body, j, err)
		}
		// What SillyTavern sends of its own goes nowhere.
		if answer, _ := json.Marshal(got); strings.Contains(string(answer), testToken) {
			t.Errorf("the answer holds the token: %.300s", answer)
		}
	}
}
