package sdapi

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/answer"
	"muster/agent/backend/backendtest"
	"muster/agent/imagefile"
	"muster/shared/job"
	"muster/shared/model"
)

func FuzzProgress(f *testing.F) {
	f.Add([]byte(`{"progress":0.5,"eta_relative":1.5,"state":{"skipped":false,"interrupted":false,"job":"x","job_count":1,"job_timestamp":"20260701120000","job_no":0,"sampling_step":10,"sampling_steps":20},"current_image":null}`))
	f.Add([]byte(`{"id":"abc","state":{"job_count":-1,"sampling_step":99,"sampling_steps":1}}`))
	f.Add([]byte(`{"active":true,"queued":false,"progress":1e308,"live_preview":"data:image/png;base64,AA"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var all progressAnswer
		var one taskAnswer
		shares := []float64{}
		if json.Unmarshal(text, &all) == nil {
			_, _ = all.idle(), all.run()
			shares = append(shares, all.share())
		}
		if json.Unmarshal(text, &one) == nil && one.Progress != nil {
			shares = append(shares, *one.Progress)
		}
		for _, share := range shares {
			last := 0
			c := call{req: backend.Request{Steps: 20}, toldAt: time.Now(), report: func(p job.Progress) {
				if p.Step < last || p.Step >= 20 || p.Steps != 20 {
					t.Errorf("a share of %g is told as step %d after %d", share, p.Step, last)
				}
				last = p.Step
			}}
			for _, s := range []float64{0.25, share, 0.5} {
				c.see(sight{ours: true, share: s}, time.Hour)
			}
		}
	})
}

func FuzzResult(f *testing.F) {
	picture := backendtest.Paint(backendtest.Picture{Width: 8, Height: 8})
	whole, err := json.Marshal(map[string]any{"images": [][]byte{picture}, "info": `{"seed":7,"width":8,"height":8,"index_of_first_image":0}`})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(`{"images":["data:image/png;base64,AAAA"],"info":""}`))
	f.Add([]byte(`{"images":[null,""],"info":"{\"index_of_first_image\":-1}"}`))
	f.Add([]byte(`{"images":["\u0041AAA"],"info":"[]"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, i, err := parseResult(text)
		if err != nil {
			return
		}
		file := r.file(i)
		if out, err := answer.PNG(file, 8, 8); err == nil {
			if w, h, err := imagefile.PNG(out); err != nil || w != 8 || h != 8 {
				t.Errorf("%dx%d, %v was taken for 8x8", w, h, err)
			}
		}
	})
}

func FuzzComplaint(f *testing.F) {
	f.Add([]byte(`{"error":"OutOfMemoryError","detail":"","body":"","errors":"CUDA out of memory"}`))
	f.Add([]byte(`{"detail":{"msg":"Server is busy","type":"service_unavailable"}}`))
	f.Add([]byte(`{"detail":[{"loc":["body","width"],"msg":"value is not a valid integer"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if words := complaint(body); len(words) > 400 || strings.ContainsAny(words, "\x00\x1b\n") {
			t.Errorf("%q", words)
		}
	})
}

func FuzzModels(f *testing.F) {
	f.Add([]byte(`[{"title":"a/b.safetensors [12]","model_name":"a_b","filename":"/m/a/b.safetensors","hash":"12"},{"title":"c/b","filename":"C:\\m\\c\\b.ckpt"}]`))
	f.Add([]byte(`[{"title":"x","filename":"/"},{"title":"..","filename":".."},{"title":"y","filename":"a:b/c"}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var list []listed
		if json.Unmarshal(text, &list) != nil {
			return
		}
		seen := map[string]bool{}
		for _, m := range models(list) {
			if m.Name == "" || seen[m.Name] || strings.ContainsAny(m.Name, "/\\\x00\n") {
				t.Errorf("name %q", m.Name)
			}
			seen[m.Name] = true
		}
	})
}

// FLUX.1 has a guidance of its own: Forge has a field for it, and SD.Next one for whatever a model has.
func TestGuidanceOfFlux(t *testing.T) {
	t.Parallel()
	flux := backend.Model{Family: model.Flux}
	for _, tt := range []struct {
		p     program
		m     backend.Model
		scale float64
		own   bool
	}{
		{forge, flux, 1, true}, {sdnext, flux, 3.5, false}, {koboldcpp, flux, 1, false}, {a1111, flux, 3.5, false}, {sdserver, flux, 1, false}, {forge, backend.Model{Family: model.SDXL}, 3.5, false},
		{sdnext, backend.Model{Family: model.ZImage, Name: "z_image_turbo"}, 1, false},
	} {
		if scale, own := tt.p.guidance(tt.m, 3.5); scale != tt.scale || (own != nil) != tt.own || own != nil && *own != 3.5 {
			t.Errorf("%s, %s: %g %v", tt.p.name, tt.m.Family, scale, own)
		}
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	var p pace
	if !p.enough(20, at) {
		t.Error("a job of which nothing was seen is suspected")
	}
	for i, step := range []int{0, 1, 2, 2, 4} {
		p.see(step, at.Add(time.Duration(i)*time.Second))
	}
	last := at.Add(4 * time.Second)
	for _, tt := range []struct {
		after time.Duration
		want  bool
	}{{0, false}, {time.Second, false}, {7 * time.Second, false}, {8 * time.Second, true}} {
		if got := p.enough(20, last.Add(tt.after)); got != tt.want { // 15 steps at 1 s, half of it allowed for
			t.Errorf("16 steps within %v: %v", tt.after, got)
		}
	}
}
