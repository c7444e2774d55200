package fakesdapi

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"muster/agent/backend/backendtest"
)

// MemoryTotal is the device memory that /sdapi/v1/memory tells of: a card with 16 GiB.
const MemoryTotal = 17163091968

// route answers the routes of the flavour; false for all others.
func (s *Server) route(w http.ResponseWriter, r *http.Request, route string, body []byte) bool {
	switch route {
	case "POST /sdapi/v1/txt2img":
		s.textToImage(w, r, body)
	case "GET /sdapi/v1/sd-models":
		answer(w, http.StatusOK, s.models())
	case "GET /sdapi/v1/samplers":
		answer(w, http.StatusOK, s.samplers())
	case "GET /sdapi/v1/options":
		s.getOptions(w)
	case "GET /sdapi/v1/progress":
		if s.cfg.Flavour == KoboldCpp || s.cfg.Flavour == SDServer {
			return false
		}
		answer(w, http.StatusOK, s.progress(r.URL.Query().Get("skip_current_image") != "true"))
	default:
		if s.cfg.Flavour.python() {
			return s.pythonRoute(w, r, route, body)
		}
		return s.otherRoute(w, route)
	}
	return true
}

// pythonRoute answers what the web UIs alone have.
func (s *Server) pythonRoute(w http.ResponseWriter, r *http.Request, route string, body []byte) bool {
	switch route {
	case "GET /sdapi/v1/memory":
		answer(w, http.StatusOK, s.memory())
	case "GET /sdapi/v1/schedulers":
		if s.cfg.Flavour == A1111Old {
			return false
		}
		answer(w, http.StatusOK, schedules)
	case "GET /sdapi/v1/sd-modules":
		if s.cfg.Flavour != Forge {
			return false
		}
		answer(w, http.StatusOK, []any{})
	case "GET /sdapi/v1/version":
		if s.cfg.Flavour != SDNext {
			return false
		}
		answer(w, http.StatusOK, map[string]any{"app": "sd.next", "updated": "2026-07-23", "commit": "058a7f0c", "branch": "master", "url": "https://github.com/vladmandic/sdnext/tree/master"})
	case "POST /sdapi/v1/interrupt":
		s.interrupt(true)
		s.done(w)
	case "POST /sdapi/v1/skip":
		s.interrupt(false)
		s.done(w)
	case "POST /sdapi/v1/options":
		s.setOptions(w, r, body)
	case "POST /sdapi/v1/unload-checkpoint":
		s.unload()
		s.done(w)
	case "POST /sdapi/v1/reload-checkpoint":
		s.reload()
		s.done(w)
	case "POST /internal/progress":
		answer(w, http.StatusOK, s.taskProgress(body))
	case "GET /internal/pending-tasks":
		if s.cfg.Flavour == SDNext || s.cfg.Flavour == A1111Old {
			return false
		}
		s.mu.Lock()
		pending := slices.Clone(s.pending)
		s.mu.Unlock()
		answer(w, http.StatusOK, map[string]any{"size": len(pending), "tasks": append([]string{}, pending...)})
	default:
		return false
	}
	return true
}

// done answers a command that gives nothing back.
func (s *Server) done(w http.ResponseWriter) {
	if s.cfg.Flavour == SDNext {
		reply(w, http.StatusNoContent, "", nil)
		return
	}
	answer(w, http.StatusOK, map[string]any{})
}

func (s *Server) otherRoute(w http.ResponseWriter, route string) bool {
	kobold := s.cfg.Flavour != SDServer
	switch {
	case route == "GET /api/extra/version" && kobold:
		answer(w, http.StatusOK, map[string]any{"result": "KoboldCpp", "version": "1.102", "protected": false, "txt2img": true})
	case route == "GET /api/extra/perf" && kobold:
		s.mu.Lock()
		idle, queue := 1, len(s.waiting)
		if s.locked {
			idle, queue = 0, queue+1
		}
		s.mu.Unlock()
		answer(w, http.StatusOK, map[string]any{"total_img_gens": 1, "queue": queue, "idle": idle, "uptime": 1.5})
	case route == "GET /sdcpp/v1/capabilities" && !kobold:
		name := s.cfg.Models[0]
		answer(w, http.StatusOK, map[string]any{"current_mode": "img_gen", "model": map[string]any{"name": name + ".safetensors", "path": "/models/" + name + ".safetensors", "stem": name}})
	case route == "GET /v1/models":
		answer(w, http.StatusOK, map[string]any{"data": []any{map[string]any{"id": "sd-cpp-local", "object": "model", "owned_by": "local"}}})
	default:
		return false
	}
	return true
}

func (s *Server) models() []any {
	list := []any{}
	for _, name := range s.cfg.Models {
		m := map[string]any{"title": s.title(name), "model_name": name, "hash": hash(name), "sha256": strings.Repeat(hash(name), 6) + "0000",
			"filename": "/models/Stable-diffusion/" + name + ".safetensors", "config": nil}
		switch s.cfg.Flavour {
		case SDNext:
			m["type"] = "safetensors"
		case KoboldCpp, KoboldNew, SDServer:
			m["hash"], m["sha256"] = strings.Repeat("8", 10), strings.Repeat("8", 64)
			m["filename"] = name + ".safetensors"
			return []any{m}
		}
		list = append(list, m)
	}
	return list
}

// scheduler is one that the web UIs know.
type scheduler struct {
	Name  string `json:"name"`
	Label string `json:"label"`
}

var schedules = []scheduler{{"automatic", "Automatic"}, {"sgm_uniform", "SGM Uniform"}, {"karras", "Karras"}}

// sampler is one that the program knows.
type sampler struct {
	name    string
	aliases []string
}

func (s *Server) known() []sampler {
	switch s.cfg.Flavour {
	case A1111Old:
		return []sampler{{"Euler a", []string{"k_euler_a", "k_euler_ancestral"}}, {"Euler", []string{"k_euler"}}, {"DPM++ 2M Karras", []string{"k_dpmpp_2m_ka"}}}
	case KoboldCpp, KoboldNew:
		return []sampler{{"Euler a", []string{"k_euler_a", "k_euler_ancestral"}}, {"Euler", []string{"k_euler"}}, {"DPM++ 2M", []string{"k_dpmpp_2m"}}, {"LCM", []string{"k_lcm"}}}
	case SDNext:
		return []sampler{{name: "Euler a"}, {name: "Euler"}, {name: "DPM++ 2M"}, {name: "UniPC"}}
	case SDServer:
		return []sampler{{"default", []string{"default"}}, {"euler", []string{"euler"}}, {"euler_a", []string{"euler_a"}}, {"dpm++2m", []string{"dpm++2m"}}}
	}
	return []sampler{{"Euler a", []string{"k_euler_a", "k_euler_ancestral"}}, {"Euler", []string{"k_euler"}}, {"DPM++ 2M", []string{"k_dpmpp_2m"}}}
}

func (s *Server) samplers() []any {
	list := []any{}
	for _, k := range s.known() {
		m := map[string]any{"name": k.name, "options": map[string]any{}}
		if s.cfg.Flavour != SDNext {
			m["aliases"] = append([]string{}, k.aliases...)
		}
		list = append(list, m)
	}
	return list
}

func (s *Server) memory() map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := 1 << 30
	if s.loaded != "" && !s.offline {
		used += 4 << 30
	}
	pair := map[string]any{"current": used, "peak": used}
	return map[string]any{
		"ram": map[string]any{"free": 1 << 34, "used": 1 << 32, "total": 1 << 35},
		"cuda": map[string]any{
			"system": map[string]any{"free": MemoryTotal - used, "used": used, "total": MemoryTotal}, "active": pair, "allocated": pair,
			"reserved": pair, "inactive": pair, "events": map[string]any{"retries": s.ooms, "oom": s.ooms},
		},
	}
}

func (s *Server) getOptions(w http.ResponseWriter) {
	if !s.cfg.Flavour.python() {
		answer(w, http.StatusOK, map[string]any{"samples_format": "png", "sd_model_checkpoint": s.cfg.Models[0]})
		return
	}
	s.mu.Lock()
	text := encode(s.options)
	s.mu.Unlock()
	reply(w, http.StatusOK, "application/json", text)
}

// setOptions blocks until a new model is loaded, behind whatever runs; Forge loads with the next image.
func (s *Server) setOptions(w http.ResponseWriter, r *http.Request, body []byte) {
	var wanted map[string]any
	if err := json.Unmarshal(body, &wanted); err != nil {
		s.invalid(w, "__root__", "Invalid JSON", "json_invalid")
		return
	}
	title, named := wanted["sd_model_checkpoint"].(string)
	model, ok := s.alias(title)
	if named && !ok && s.cfg.Flavour != SDNext {
		s.fail(w, http.StatusInternalServerError, "RuntimeError", "", "model '"+title+"' not found")
		return
	}
	if named && s.cfg.Flavour != Forge {
		s.lock(r)
		defer s.unlock()
	}
	if f, hit := s.fault(0, 0, backendtest.SwitchFails); hit && named {
		s.fail(w, http.StatusInternalServerError, "RuntimeError", "", f.Text)
		return
	}
	s.mu.Lock()
	for key, value := range wanted {
		if !s.cfg.Frozen {
			s.options[key] = value
		}
	}
	if named && ok && s.cfg.Flavour != Forge {
		s.loaded, s.offline = model, false
	}
	s.mu.Unlock()
	if s.cfg.Flavour == SDNext {
		answer(w, http.StatusOK, map[string]any{"updated": []any{map[string]any{"sd_model_checkpoint": true}}})
		return
	}
	answer(w, http.StatusOK, nil)
}

// unload frees the device. A1111 moves the weights away and keeps them; it must be told to move them back.
func (s *Server) unload() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cfg.Flavour == Forge || s.cfg.Flavour == SDNext {
		s.loaded = ""
		return
	}
	s.offline = true
}

func (s *Server) reload() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offline = false
	if s.loaded == "" && s.cfg.Flavour == SDNext {
		title, _ := s.options["sd_model_checkpoint"].(string)
		s.loaded, _ = s.alias(title)
	}
}

// progress is GET /sdapi/v1/progress: of whatever runs.
func (s *Server) progress(picture bool) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	d := map[string]any{
		"skipped": st.skipped, "interrupted": st.interrupted, "job": st.job, "job_count": st.jobCount, "job_timestamp": st.timestamp,
		"job_no": st.jobNo, "sampling_step": st.step, "sampling_steps": st.steps,
	}
	answer := map[string]any{"progress": 0.0, "eta_relative": 0.0, "state": d, "current_image": nil, "textinfo": nil}
	if s.cfg.Flavour == SDNext {
		answer["id"] = st.id
	} else {
		d["stopping_generation"] = st.stopping
	}
	if st.jobCount == 0 {
		return answer
	}
	answer["progress"] = s.share()
	if s.cfg.Flavour != SDNext {
		answer["progress"] = min(s.share()+0.01, 1)
	}
	answer["eta_relative"] = 1.5
	if picture && st.step > 0 {
		answer["current_image"] = base64.StdEncoding.EncodeToString(s.preview())
	}
	return answer
}

// share is how much of the job is done, from 0 to 1. The caller holds mu.
func (s *Server) share() float64 {
	st := s.state
	if st.jobCount <= 0 || st.steps <= 0 {
		return 0
	}
	return min((float64(st.jobNo)+float64(st.step)/float64(st.steps))/float64(st.jobCount), 1)
}

func (s *Server) preview() []byte {
	return backendtest.Paint(backendtest.Picture{Prompt: "preview", Seed: int64(s.state.preview), Width: 64, Height: 64})
}

// taskProgress is POST /internal/progress: of one task.
func (s *Server) taskProgress(body []byte) map[string]any {
	var asked struct {
		Task    string `json:"id_task"`
		Last    int    `json:"id_live_preview"`
		Preview *bool  `json:"live_preview"`
	}
	asked.Last = -1
	_ = json.Unmarshal(body, &asked)
	s.mu.Lock()
	defer s.mu.Unlock()
	active, queued, completed := asked.Task == s.current && s.current != "", slices.Contains(s.pending, asked.Task), slices.Contains(s.finished, asked.Task)
	answer := map[string]any{"active": active, "queued": queued, "completed": completed, "progress": nil, "eta": nil, "live_preview": nil,
		"id_live_preview": -1, "textinfo": "Waiting..."}
	if queued {
		answer["textinfo"] = "In queue: 1/1"
	}
	if !active {
		return answer
	}
	answer["progress"], answer["eta"], answer["textinfo"], answer["id_live_preview"] = s.share(), 1.5, nil, asked.Last
	if (asked.Preview == nil || *asked.Preview) && s.state.preview != asked.Last && s.state.step > 0 {
		answer["live_preview"] = "data:image/png;base64," + base64.StdEncoding.EncodeToString(s.preview())
		answer["id_live_preview"] = s.state.preview
	}
	return answer
}
