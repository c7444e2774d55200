package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

// refusedWell fails unless the error is one that a client can act on, and can be told.
func refusedWell(t *testing.T, err error) {
	t.Helper()
	r := refusalOf(err)
	if r.status < 400 || r.status > 499 || r.message == "" || len(r.message) > 2000 {
		t.Errorf("%v becomes %+v", err, r)
	}
	if _, err := json.Marshal(r.event("id")); err != nil {
		t.Error(err)
	}
}

func FuzzSampleAsk(f *testing.F) {
	f.Add("appearance=a+tall+man+with+a+beard&count=2&device_id=1&resolution=512x512", "")
	f.Add("", `{"appearance":"a tall man with a beard","personality":"calm","resolution":"256x4096","quality":"draft","style":"anime","image_model":"m","count":16,"device_id":"cpu"}`)
	f.Add("count=%31&device_id=cpu", `{"count":null}`)
	f.Add("appearance=%ff%00&a;b", `{"device_id":-1}{`)
	f.Add("resolution=99999x99999", `[1,2`)
	f.Fuzz(func(t *testing.T, query, body string) {
		ask, err := parseSampleAsk(query, []byte(body))
		if err != nil {
			refusedWell(t, err)
			return
		}
		spec, err := ask.spec()
		if err != nil {
			refusedWell(t, err)
			return
		}
		if spec.Width < minSampleSide || spec.Width > maxSampleSide || spec.Height < minSampleSide || spec.Height > maxSampleSide || spec.Count < 1 || spec.Count > job.MaxCount ||
			spec.Steps < 20 || !strings.Contains(spec.Prompt, strings.TrimRight(strings.TrimSpace(ask.Appearance), " .,;")) {
			t.Errorf("%+v of %+v", spec, ask)
		}
		if spec.DeviceID != nil && *spec.DeviceID < gpu.CPU {
			t.Errorf("device %d", *spec.DeviceID)
		}
	})
}

func FuzzDecodeSpec(f *testing.F) {
	f.Add(`{"prompt":"x","width":512,"device_id":0,"seed":1,"guidance":7.5}`)
	f.Add(`{"prompt":"x","count":1e3}`)
	f.Add(`{"prompt":{"a":[1,2,{"b":null}]}}`)
	f.Add(`{"device_id":"` + strings.Repeat("é", 100) + `"}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, body string) {
		var spec job.Spec
		if err := decodeJSON([]byte(body), &spec); err != nil {
			refusedWell(t, err)
			return
		}
		if err := spec.WithDefaults().Validate(); err != nil {
			refusedWell(t, err)
		}
	})
}

func FuzzCommand(f *testing.F) {
	a := newAgent(f)
	a.set(func() { a.capacity = wire.Capacity{} }) // nothing is accepted, so the queue stays empty
	f.Add(`{"submit":{"id":"a","spec":{"prompt":"x","width":512}}}`)
	f.Add(`{"cancel":{"id":"b","job_id":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}}`)
	f.Add(`{"submit":{"id":"a","spec":{"prompt":"x","device_id":"gpu"}}}`)
	f.Add(`{"submit":{},"cancel":{}}`)
	f.Add("{\"cancel\":{\"id\":\"\xff\",\"job_id\":\"\x00\"}}")
	f.Fuzz(func(t *testing.T, frame string) {
		jobs, id, err := a.server.carryOut(caller{bearer: true}, []byte(frame))
		if err == nil || len(jobs) != 0 {
			t.Fatalf("%q was carried out: %v", frame, jobs)
		}
		r := refusalOf(err)
		if !errors.Is(err, errNoBackend) && r.status != http.StatusBadRequest && r.status != http.StatusNotFound {
			t.Errorf("%q becomes %+v", frame, r)
		}
		if !utf8.ValidString(id) || len(id) > job.MaxKeyBytes {
			t.Errorf("answers id %q", id)
		}
		if _, err := wire.JSON.Encode(r.event(id)); err != nil {
			t.Error(err)
		}
	})
}

func FuzzHeaders(f *testing.F) {
	a := newAgent(f)
	f.Add("127.0.0.1:8000", "http://127.0.0.1:8000", "Bearer x", "a=b")
	f.Add("evil.example", "null", "Basic Og==", "muster-session-8000=x")
	f.Add("[::1]:8000", "", "", "")
	f.Add("LOCALHOST:8000", "HTTP://LOCALHOST:8000", "bearer "+strings.Repeat("x", 100), ";;==")
	f.Fuzz(func(t *testing.T, host, origin, authorization, cookie string) {
		r := &http.Request{Method: "GET", Host: host, Header: http.Header{}}
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		if a.server.hosts.checkHost(r) == nil && !strings.HasSuffix(host, ":8000") {
			t.Errorf("Host %q passes", host)
		}
		if origin != "" && a.server.hosts.checkOrigin(r) == nil && !strings.HasPrefix(origin, "http") {
			t.Errorf("Origin %q passes", origin)
		}
		r.Header.Set("Authorization", authorization)
		r.Header.Set("Cookie", cookie)
		if a.server.knowsToken(r) != (strings.EqualFold(strings.TrimSpace(authorization), "Bearer "+testToken)) && !strings.HasPrefix(strings.ToLower(authorization), "basic") {
			t.Errorf("Authorization %q", authorization)
		}
		cookieName(r)
	})
}

func FuzzAccepts(f *testing.F) {
	f.Add("gzip, deflate, br;q=0.5", "\"x\", W/\"y\"")
	f.Add("br;q=", "*")
	f.Add(";q=1,,br;q=0.000", "")
	f.Fuzz(func(t *testing.T, encoding, match string) {
		for _, e := range encodings {
			if accepts([]string{encoding}, e.name) && !strings.Contains(strings.ToLower(encoding), e.name) {
				t.Errorf("%q accepts %s", encoding, e.name)
			}
		}
		if matches([]string{match}, `"tag"`) && !strings.Contains(match, "tag") && !strings.Contains(match, "*") {
			t.Errorf("%q matches", match)
		}
	})
}

func FuzzOpenAIBody(f *testing.F) {
	for _, body := range append([]string{sillyTavernOpenAI, `{"prompt":"x","n":1e0,"size":"64x64","stream":true,"device_id":"cpu"}`, `{"prompt":null}`, `[{}]`, `{"n":-0}`}, openWebUIOpenAI...) {
		f.Add(body)
	}
	capacity := wire.Capacity{DefaultModel: "sketch", Models: []wire.Model{{Name: "sketch"}}, Slots: []wire.Slot{{Models: []string{"sketch"}}}}
	f.Fuzz(func(t *testing.T, body string) {
		ask, err := parseOpenAI([]byte(body))
		if err != nil {
			refusedWell(t, err)
			return
		}
		spec, err := ask.spec(capacity)
		if err != nil {
			refusedWell(t, err)
			return
		}
		if err := spec.WithDefaults().Validate(); err != nil || spec.Count < 1 || spec.Count > job.MaxCount || ask.encoding.quality < 1 || ask.encoding.quality > 100 || ask.quality == "" {
			t.Errorf("%v: %+v of %s", err, spec, body)
		}
	})
}

func FuzzSdapiBody(f *testing.F) {
	for _, body := range append([]string{`{"prompt":"x","sampler_index":3,"scheduler":"karras","enable_hr":"false"}`, `{"prompt":"x","alwayson_scripts":{"a":{"args":{"b":[]}},"c":null,"d":[]}}`, `{"prompt":"x","batch_size":"3","n_iter":5.0,"seed":"-1"}`,
		`{"override_settings":{"sd_model_checkpoint":"a/b\\c.ckpt [x]"}}`}, openWebUISdapi...) {
		f.Add(body)
	}
	capacity := wire.Capacity{Models: []wire.Model{{Name: "sketch"}, {Name: "a: b"}}}
	f.Fuzz(func(t *testing.T, body string) {
		ask, err := parseSdapi([]byte(body))
		if err != nil {
			refusedWell(t, err)
			return
		}
		if model, ok := sdapiModel(ask.model, capacity); ok != (model != "") {
			t.Errorf("model %q of %q", model, ask.model)
		}
		spec, err := ask.spec("sketch")
		if err != nil {
			refusedWell(t, err)
			return
		}
		if err := spec.WithDefaults().Validate(); err != nil || spec.Count != ask.batchSize*ask.batches || spec.Count < 1 {
			t.Errorf("%v: %+v of %s", err, spec, body)
		}
		if _, err := json.Marshal(ask.parameters(job.Job{})); err != nil {
			t.Error(err)
		}
	})
}
