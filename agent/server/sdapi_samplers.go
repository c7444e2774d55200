package server

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"muster/shared/sampler"
)

type sdapiSamplerEntry struct {
	Name    string            `json:"name"`
	Aliases []string          `json:"aliases"`
	Options map[string]string `json:"options"`
}

// sdapiSamplers answers GET /sdapi/v1/samplers: what the generators of this machine have, by the names that people know.
func (s *Server) sdapiSamplers(w http.ResponseWriter, r *http.Request) error {
	entries := []sdapiSamplerEntry{}
	known := s.allSamplers(r.Context())
	for i, title := range known.Titles() {
		entries = append(entries, sdapiSamplerEntry{title, append([]string{known.Samplers[i].Own}, known.Samplers[i].Aliases...), map[string]string{}})
	}
	writeJSON(w, http.StatusOK, entries)
	return nil
}

type sdapiSchedulerEntry struct {
	Name           string   `json:"name"`
	Label          string   `json:"label"`
	Aliases        []string `json:"aliases"`
	DefaultRho     float64  `json:"default_rho"`
	NeedInnerModel bool     `json:"need_inner_model"`
}

// sdapiSchedulers answers GET /sdapi/v1/schedulers; the first is each generator's own.
func (s *Server) sdapiSchedulers(w http.ResponseWriter, r *http.Request) error {
	entries := []sdapiSchedulerEntry{{Name: "automatic", Label: sdapiScheduler, DefaultRho: -1}}
	for _, title := range s.allSamplers(r.Context()).ScheduleTitles() {
		if !strings.EqualFold(title, sdapiScheduler) {
			entries = append(entries, sdapiSchedulerEntry{Name: strings.ReplaceAll(strings.ToLower(title), " ", "_"), Label: title, DefaultRho: -1})
		}
	}
	writeJSON(w, http.StatusOK, entries)
	return nil
}

// commonSamplers are those that every kind of generator has. They are listed while it is not known what there is; the generator knows
// whether it has what a request names then.
var commonSamplers = &sampler.List{Samplers: sampler.Named("Euler a", "Euler", "DPM++ 2M", "DPM++ 2S a", "DPM++ 2M SDE", "DPM2", "Heun", "LMS", "LCM")}

// allSamplers gives what the generators of this machine know, those of the model first that is chosen in the options.
func (s *Server) allSamplers(ctx context.Context) *sampler.List {
	capacity := s.capacity(ctx)
	chosen, err := s.sdapiChosen(ctx, capacity)
	if err != nil {
		s.log.Warn("read the chosen model", "error", err) // it is only about the order
	}
	var lists sampler.Lists
	add := func(model string) {
		for _, list := range s.offer(model, nil).Samplers {
			if !slices.Contains(lists, list) {
				lists = append(lists, list)
			}
		}
	}
	add(chosen)
	for _, m := range capacity.Models {
		add(m.Name)
	}
	all := lists.Union()
	if len(all.Samplers) == 0 {
		return commonSamplers
	}
	return all
}
