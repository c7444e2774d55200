package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"net/http"
	"strings"
	"testing"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

const imagesPath = "/v1/images/generations"

type openAIResponse struct {
	Created int64 `json:"created"`
	Data    []struct {
		B64  *string `json:"b64_json"`
		URL  *string `json:"url"`
		Seed int64   `json:"seed"`
		made
	} `json:"data"`
	openAICommon
	Errors []openAILost `json:"errors"`
}

// refusedAs fails unless an answer is an error in OpenAI's form. A param of "" is null.
func (r answer) refusedAs(t *testing.T, name string, status int, kind, code, param, word string) {
	t.Helper()
	var got struct {
		Error map[string]any `json:"error"`
	}
	r.into(t, &got)
	want := any(param)
	if param == "" {
		want = nil
	}
	message, _ := got.Error["message"].(string)
	given, has := got.Error["param"]
	if r.status != status || got.Error["type"] != kind || got.Error["code"] != code || !has || given != want || !strings.Contains(message, word) || len(got.Error) != 4 {
		t.Errorf("%s: %d %s\nwant %d, type %s, code %s, param %q, %q", name, r.status, r.body, status, kind, code, param, word)
	}
	if retry := r.header.Get("X-Should-Retry"); retry != fmt.Sprint(r.header.Get("Retry-After") != "") {
		t.Errorf("%s: X-Should-Retry %q beside Retry-After %q", name, retry, r.header.Get("Retry-After"))
	}
}

func TestOpenAIImages(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.generate(func(job.Job) string { return "" })
	r := a.ask("POST", imagesPath, `{"model":"sketch","prompt":"a fox","n":3,"size":"512x768","seed":40,"steps":7,"guidance_scale":3.5,"negative_prompt":"blurry","user":"anna"}`)
	var got openAIResponse
	r.into(t, &got)
	if r.status != 200 || len(got.Data) != 3 || got.Created == 0 || got.OutputFormat != "png" || got.Quality != "medium" || got.Background != "opaque" || got.Errors != nil {
		t.Fatalf("%d %.400s", r.status, r.body)
	}
	if got.Size != "8x8" { // that of the image, whatever was asked for
		t.Errorf("size %s", got.Size)
	}
	for i, image := range got.Data {
		if image.URL != nil || image.B64 == nil {
			t.Fatalf("image %d: %+v", i, image)
		}
		raw, err := base64.StdEncoding.DecodeString(*image.B64)
		if err != nil || !bytes.Equal(raw, picture(t, 8, uint8(i))) {
			t.Errorf("image %d: %d bytes, %v", i, len(raw), err)
		}
		if image.Index != i || image.Seed != 40+int64(i) || image.DeviceID != gpu.Ref(i%2) {
			t.Errorf("image %d: %+v", i, image.made)
		}
		j, err := a.queue.Job(t.Context(), image.JobID)
		if err != nil || j.Prompt != "a fox" || j.NegativePrompt != "blurry" || j.Model != "sketch" || j.Width != 512 || j.Height != 768 || j.Steps != 7 || j.Guidance != 3.5 || j.ClientID != "openai anna" {
			t.Errorf("job %+v, %v", j, err)
		}
	}
}

// What a request may leave out, and the names that clients send whatever they speak to.
func TestOpenAIDefaults(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.set(func() { a.capacity.DefaultModel = "sd15"; a.capacity.Slots[1].Models = []string{"sketch", "sd15"} })
	a.generate(func(job.Job) string { return "" })
	for body, want := range map[string]struct {
		byURL         bool
		width, height int
		steps, count  int
		model, client string
	}{
		`{"prompt":"x"}`: {false, 512, 512, 20, 1, "sd15", "openai"},
		`{"prompt":"x","model":null,"n":null,"size":null,"quality":null,"user":null}`: {false, 512, 512, 20, 1, "sd15", "openai"},
		`{"prompt":"x","model":"dall-e-2"}`:                                           {true, 512, 512, 20, 1, "sd15", "openai"},
		`{"prompt":"x","model":"dall-e-3","quality":"hd","style":"vivid"}`:            {true, 512, 512, 30, 1, "sd15", "openai"},
		`{"prompt":"x","model":"dall-e-3","response_format":"b64_json"}`:              {false, 512, 512, 20, 1, "sd15", "openai"},
		`{"prompt":"x","model":"gpt-image-1","size":"auto","quality":"auto","n":2}`:   {false, 512, 512, 20, 2, "sd15", "openai"},
		`{"prompt":"x","model":"gpt-image-1.5","moderation":"low","quality":"low"}`:   {false, 512, 512, 12, 1, "sd15", "openai"},
		`{"prompt":"x","model":"chatgpt-image-latest","background":"transparent"}`:    {false, 512, 512, 20, 1, "sd15", "openai"},
		`{"prompt":"x","model":"sketch","response_format":"url"}`:                     {true, 1024, 1024, 20, 1, "sketch", "openai"},
		`{"prompt":"x","step":9,"seed":-1}`:                                           {false, 512, 512, 9, 1, "sd15", "openai"},
		`{"prompt":"x","num_inference_steps":11,"cfg_scale":1,"size":"64x4096"}`:      {false, 64, 4096, 11, 1, "sd15", "openai"},
		`{"prompt":"x","user":"u","safety_identifier":"s"}`:                           {false, 512, 512, 20, 1, "sd15", "openai s"},
		`{"prompt":"x","Prompt":"y","N":9,"SIZE":"bad"}`:                              {false, 512, 512, 20, 1, "sd15", "openai"}, // names are exact
		`{"n":3,"prompt":"no","prompt":"x","n":2}`:                                    {false, 512, 512, 20, 2, "sd15", "openai"}, // the last counts
	} {
		r := a.ask("POST", imagesPath, body)
		var got openAIResponse
		r.into(t, &got)
		if r.status != 200 || len(got.Data) != want.count {
			t.Errorf("%s: %d %.200s", body, r.status, r.body)
			continue
		}
		j, err := a.queue.Job(t.Context(), got.Data[0].JobID)
		if err != nil || j.Prompt != "x" || j.Width != want.width || j.Height != want.height || j.Steps != want.steps || j.Model != want.model || j.ClientID != want.client {
			t.Errorf("%s: %+v, %v", body, j, err)
		}
		if (got.Data[0].URL != nil) != want.byURL || (got.Data[0].B64 != nil) == want.byURL {
			t.Errorf("%s: %.200s", body, r.body)
		}
	}
}

// Where no size is asked for, it is the one that the model was trained on.
func TestOpenAISizeSuitsTheModel(t *testing.T) {
	t.Parallel()
	a, _, _ := withLibrary(t, map[string][]byte{"sd15.safetensors": tinyModel(768), "xl.safetensors": tinyModel(2048)})
	a.set(func() {
		a.capacity.DefaultModel = "sd15"
		a.capacity.Models = append(a.capacity.Models, wire.Model{Name: "xl"})
		for i := range a.capacity.Slots {
			a.capacity.Slots[i].Models = []string{"sketch", "sd15", "xl"}
		}
	})
	a.generate(func(job.Job) string { return "" })
	for body, side := range map[string]int{
		`{"prompt":"x"}`: 512, `{"prompt":"x","model":"gpt-image-1","size":"auto"}`: 512, `{"prompt":"x","model":"sd15","size":"1024x1024"}`: 1024,
		`{"prompt":"x","model":"xl"}`: 1024, `{"prompt":"x","model":"sketch","size":"auto"}`: 1024,
	} {
		var got openAIResponse
		r := a.ask("POST", imagesPath, body)
		r.into(t, &got)
		if r.status != 200 {
			t.Errorf("%s: %d %.200s", body, r.status, r.body)
			continue
		}
		if j, err := a.queue.Job(t.Context(), got.Data[0].JobID); err != nil || j.Width != side || j.Height != side {
			t.Errorf("%s: %d x %d, %v, want %d", body, j.Width, j.Height, err, side)
		}
	}
}

func TestOpenAIJPEG(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.generate(func(job.Job) string { return "" })
	var got openAIResponse
	r := a.ask("POST", imagesPath, `{"prompt":"x","output_format":"jpeg","output_compression":0,"n":2}`)
	r.into(t, &got)
	if r.status != 200 || got.OutputFormat != "jpeg" || got.Size != "8x8" {
		t.Fatalf("%d %.300s", r.status, r.body)
	}
	for _, one := range got.Data {
		raw, err := base64.StdEncoding.DecodeString(*one.B64)
		if err != nil {
			t.Fatal(err)
		}
		if config, err := jpeg.DecodeConfig(bytes.NewReader(raw)); err != nil || config.Width != 8 {
			t.Errorf("%+v, %v", config, err)
		}
	}
}

// Of an image that is too large for a JPEG the client gets the PNG, and is told so before the first byte.
func TestOpenAITooLargeForJPEG(t *testing.T) {
	t.Parallel()
	large := blank(t, 4097, 4096)
	for name, more := range map[string]string{"whole": "", "stream": `,"stream":true`, "link": `,"response_format":"url"`} {
		a := newAgent(t)
		answered := a.asking("POST", imagesPath, `{"prompt":"x","output_format":"jpeg"`+more+`}`)
		a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 1 })
		id, err := a.images.Put(t.Context(), large)
		if err != nil {
			t.Fatal(err)
		}
		waiting := a.queue.Active()
		a.startAll(waiting)
		if _, err := a.queue.Succeed(t.Context(), waiting[0].ID, 1, id); err != nil {
			t.Fatal(err)
		}
		r := <-answered
		want := base64.StdEncoding.EncodeToString(large)
		if name == "link" {
			want = ".png"
		}
		if body := string(r.body); r.status != 200 || !strings.Contains(body, `"output_format":"png"`) || !strings.Contains(body, want+`"`) || !strings.Contains(body, `"4097x4096"`) {
			t.Errorf("%s: %d, %d bytes, ends with %s", name, r.status, len(body), body[max(0, len(body)-500):])
		}
		path, _ := a.linkTo(large, encoding{jpeg: true, quality: 90}) // of before
		for _, method := range []string{"GET", "HEAD"} {
			if r := a.send(method, path, ""); r.status != 200 || r.header.Get("Content-Type") != "image/png" || (method == "GET") != bytes.Equal(r.body, large) {
				t.Errorf("an old link: %d %v", r.status, r.header)
			}
		}
	}
}

// blank is a PNG without a picture.
func blank(t *testing.T, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewPaletted(image.Rect(0, 0, width, height), color.Palette{color.White})); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestBadOpenAIRequests(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	long := strings.Repeat("x", job.MaxPrompt+1)
	for _, test := range []struct{ body, code, param, word string }{
		{"", "invalid_value", "prompt", "missing"}, {`{}`, "invalid_value", "prompt", "missing"}, {`{"prompt":""}`, "invalid_value", "prompt", "missing"}, {`{"prompt":"  "}`, "invalid_value", "prompt", "missing"},
		{`{"prompt":"` + long + `"}`, "invalid_value", "prompt", "8193 bytes"}, {`{"prompt":"x","negative_prompt":"` + long + `"}`, "invalid_value", "negative_prompt", "8193"},
		{`{"prompt":5}`, "invalid_value", "prompt", "must be a string, not 5"}, {`{"prompt":["x"]}`, "invalid_value", "prompt", "not an array"}, {`{"prompt":"a\u0000b"}`, "invalid_value", "prompt", "NUL"},
		{`{"prompt":"x","size":"0x0"}`, "invalid_value", "size", "64 to 4096"}, {`{"prompt":"x","size":0}`, "invalid_value", "size", "string"}, {`{"prompt":"x","size":"-1x512"}`, "invalid_value", "size", "WIDTHxHEIGHT"},
		{`{"prompt":"x","size":"7x512"}`, "invalid_value", "size", "64 to 4096"}, {`{"prompt":"x","size":"7"}`, "invalid_value", "size", "WIDTHxHEIGHT"}, {`{"prompt":"x","size":"4097x4096"}`, "invalid_value", "size", "64 to 4096"},
		{`{"prompt":"x","size":"1000000000x1000000000"}`, "invalid_value", "size", "64 to 4096"}, {`{"prompt":"x","size":"abc"}`, "invalid_value", "size", `is "abc"`}, {`{"prompt":"x","size":"99999999999x64"}`, "invalid_value", "size", "WIDTHxHEIGHT"},
		{`{"prompt":"x","n":0}`, "invalid_value", "n", "1 to 16"}, {`{"prompt":"x","n":17}`, "invalid_value", "n", "1 to 16"}, {`{"prompt":"x","n":1000000}`, "invalid_value", "n", "1 to 16"}, {`{"prompt":"x","n":1e400}`, "invalid_value", "n", "out of range"},
		{`{"prompt":"x","n":"4"}`, "invalid_value", "n", "whole number, not a string"}, {`{"prompt":"x","n":1.5}`, "invalid_value", "n", "whole number"}, {`{"prompt":"x","n":true}`, "invalid_value", "n", "whole number"}, {`{"prompt":"x","n":-9223372036854775808}`, "invalid_value", "n", "1 to 16"},
		{`{"prompt":"x","quality":"ultra"}`, "invalid_value", "quality", "allowed are auto, low"}, {`{"prompt":"x","output_format":"webp"}`, "invalid_value", "output_format", "png and jpeg"}, {`{"prompt":"x","output_compression":101}`, "invalid_value", "output_compression", "0 to 100"},
		{`{"prompt":"x","response_format":"file"}`, "invalid_value", "response_format", "b64_json and url"}, {`{"prompt":"x","stream":"yes"}`, "invalid_value", "stream", "true or false"}, {`{"prompt":"x","partial_images":4}`, "invalid_value", "partial_images", "0 to 3"},
		{`{"prompt":"x","steps":0}`, "invalid_value", "steps", "1 to 200"}, {`{"prompt":"x","num_inference_steps":201}`, "invalid_value", "num_inference_steps", "1 to 200"}, {`{"prompt":"x","guidance_scale":51}`, "invalid_value", "guidance_scale", "0 to 50"}, {`{"prompt":"x","cfg_scale":"7"}`, "invalid_value", "cfg_scale", "number"},
		{`{"prompt":"x","seed":-2}`, "invalid_value", "seed", "0 to"}, {`{"prompt":"x","seed":4294967296}`, "invalid_value", "seed", "0 to"}, {`{"prompt":"x","seed":"7"}`, "invalid_value", "seed", "whole"},
		{`{"prompt":"x","device_id":7}`, "invalid_value", "device_id", "allowed are 0, 1"}, {`{"prompt":"x","device_id":-1}`, "invalid_value", "device_id", "number"}, {`{"prompt":"x","device_id":"gpu"}`, "invalid_value", "device_id", "cpu"}, {`{"prompt":"x","device_id":1,"model":"sd15"}`, "invalid_value", "device_id", "no generator for the model"},
		{`{"prompt":"x","user":7}`, "invalid_value", "user", "string"},
		{`prompt=a+fox&n=1`, "invalid_json", "", "not JSON"}, {`{"prompt":"x"`, "invalid_json", "", "ends in the middle"}, {`{"prompt":"x"} {}`, "invalid_json", "", "something follows"}, {`[]`, "invalid_json", "", "not an array"}, {`"x"`, "invalid_json", "", "not a string"},
		{"{\"prompt\":\"\xff\"}", "invalid_json", "", "UTF-8"}, {"--b\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nx\r\n--b--", "invalid_json", "", "not JSON"},
	} {
		a.ask("POST", imagesPath, test.body).refusedAs(t, fmt.Sprintf("%.80s", test.body), 400, "invalid_request_error", test.code, test.param, test.word)
	}
	a.ask("POST", imagesPath, `{"prompt":"x","model":"nope"}`).refusedAs(t, "model", 404, "invalid_request_error", "model_not_found", "model", "there are sketch, sd15")
	if n := len(a.queue.Active()); n != 0 {
		t.Errorf("%d jobs were accepted", n)
	}
}

// The longest prompt is taken, and no error repeats one.
func TestOpenAILongestPrompt(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.generate(func(job.Job) string { return "secret reason" })
	r := a.ask("POST", imagesPath, `{"prompt":"`+strings.Repeat("y", job.MaxPrompt)+`"}`)
	if strings.Contains(string(r.body), "yyyy") {
		t.Errorf("%.200s", r.body)
	}
	r.refusedAs(t, "taken, and failed", 500, "server_error", "generation_failed", "", "secret reason")
}

func TestOpenAIImagesThatFail(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.generate(func(j job.Job) string {
		if j.Ordinal == 1 || j.Steps == 9 {
			return "out of memory"
		}
		return ""
	})
	var got openAIResponse
	r := a.ask("POST", imagesPath, `{"prompt":"x","n":3}`)
	r.into(t, &got)
	if r.status != 200 || len(got.Data) != 2 || got.Data[1].Index != 2 || len(got.Errors) != 1 || got.Errors[0].Index != 1 || got.Errors[0].Message != "out of memory" || got.Errors[0].JobID == "" {
		t.Errorf("some: %d %.300s", r.status, r.body)
	}
	a.ask("POST", imagesPath, `{"prompt":"x","n":2,"steps":9}`).refusedAs(t, "all", 500, "server_error", "generation_failed", "", "no image could be made: out of memory")
}

func TestOpenAIModels(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	a.set(func() { a.capacity.Models = append(a.capacity.Models, wire.Model{Name: "flux: a b"}) })
	r := a.ask("GET", "/v1/models", "")
	var list struct {
		Object string             `json:"object"`
		Data   []openAIModelEntry `json:"data"`
	}
	r.into(t, &list)
	if r.status != 200 || list.Object != "list" || len(list.Data) != 3 || list.Data[0].ID != "sketch" || list.Data[0].Object != "model" || list.Data[0].OwnedBy != "muster" || list.Data[0].Created == 0 {
		t.Errorf("%d %s", r.status, r.body)
	}
	for path, id := range map[string]string{"sd15": "sd15", "flux:%20a%20b": "flux: a b", "dall-e-3": "dall-e-3"} {
		var one openAIModelEntry
		if r := a.ask("GET", "/v1/models/"+path, ""); r.status != 200 || json.Unmarshal(r.body, &one) != nil || one.ID != id {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	a.ask("GET", "/v1/models/nope", "").refusedAs(t, "unknown", 404, "invalid_request_error", "model_not_found", "model", "there are sketch, sd15")
	a.set(func() { a.capacity = wire.Capacity{} })
	if r := a.ask("GET", "/v1/models", ""); r.status != 200 || !strings.Contains(string(r.body), `"data":[]`) {
		t.Errorf("nothing generates: %d %s", r.status, r.body)
	}
	a.ask("GET", "/v1/models/x", "").refusedAs(t, "nothing generates", 503, "server_error", "no_backend", "", "no backend")
}

// What the guard and the table refuse has OpenAI's form too.
func TestOpenAIErrorsFromEverywhere(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	for _, test := range []struct {
		name, method, path string
		headers            []string
		status             int
		kind, code, word   string
	}{
		{"no key", "POST", imagesPath, []string{"Authorization", ""}, 401, "invalid_request_error", "invalid_api_key", "token"},
		{"wrong key", "POST", imagesPath, []string{"Authorization", "Bearer sk-1"}, 401, "invalid_request_error", "invalid_api_key", "the token is wrong"},
		{"wrong host", "POST", imagesPath, []string{"Host", "evil.example:8000"}, 403, "permission_error", "host", "--allow-host"},
		{"other site", "POST", imagesPath, []string{"Origin", "http://evil.example"}, 403, "permission_error", "origin", "Origin"},
		{"method", "GET", imagesPath, nil, 405, "invalid_request_error", "method_not_allowed", "allowed are POST"},
		{"preflight", "OPTIONS", imagesPath, nil, 405, "invalid_request_error", "method_not_allowed", "POST"},
		{"unknown path", "POST", "/v1/audio/speech", nil, 404, "invalid_request_error", "unknown_url", "/v1/images/generations"},
		{"edits", "POST", "/v1/images/edits", nil, 400, "invalid_request_error", "unsupported", "only made from text"},
		{"variations", "POST", "/v1/images/variations", nil, 400, "invalid_request_error", "unsupported", "only made from text"},
		{"no link", "GET", "/v1/images/files/x/y", []string{"Authorization", ""}, 404, "invalid_request_error", "not_found", "link"},
	} {
		r := a.ask(test.method, test.path, "", test.headers...)
		r.refusedAs(t, test.name, test.status, test.kind, test.code, "", test.word)
		for name := range r.header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: %s", test.name, name)
			}
		}
	}
	for range maxAttempts {
		a.server.attempts.count("192.0.2.1:1234") // the recorder's client
	}
	r := a.ask("POST", imagesPath, "", "Authorization", "Bearer sk-1")
	r.refusedAs(t, "many wrong keys", http.StatusTooManyRequests, "rate_limit_error", "too_many_attempts", "", "wait a minute")
}
