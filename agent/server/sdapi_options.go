package server

import (
	"context"
	"net/http"

	"muster/shared/wire"
)

// sdapiSetting is where the model that clients of this door have chosen is kept.
const sdapiSetting = "sdapi model"

// sdapiScheduler stands for each generator's own schedule of noise.
const sdapiScheduler = "Automatic"

// sdapiChosen gives the model for requests that name none: the one that was chosen while it is there, else the agent's default.
// "" when nothing can generate.
func (s *Server) sdapiChosen(ctx context.Context, capacity wire.Capacity) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	chosen, err := s.config.Queue.Setting(ctx, sdapiSetting)
	if err != nil {
		return "", err
	}
	if found, ok := sdapiModel(chosen, capacity); chosen != "" && ok {
		return found, nil
	}
	if len(capacity.Models) == 0 {
		return "", nil
	}
	return defaultModel(capacity, nil), nil
}

// sdapiOptions are the settings that clients look at. Only the model can be chosen.
type sdapiOptions struct {
	Checkpoint     string `json:"sd_model_checkpoint"` // the title of a model; "" when nothing can generate
	CheckpointHash string `json:"sd_checkpoint_hash"`
	VAE            string `json:"sd_vae"`
	ClipSkip       int    `json:"CLIP_stop_at_last_layers"`
	SamplesFormat  string `json:"samples_format"`
	SamplesSave    bool   `json:"samples_save"`
	GridSave       bool   `json:"grid_save"`
	ReturnGrid     bool   `json:"return_grid"`
}

// sdapiGetOptions answers GET /sdapi/v1/options.
func (s *Server) sdapiGetOptions(w http.ResponseWriter, r *http.Request) error {
	capacity := s.capacity(r.Context())
	chosen, err := s.sdapiChosen(r.Context(), capacity)
	if err != nil {
		return err
	}
	options := sdapiOptions{VAE: "Automatic", ClipSkip: 1, SamplesFormat: "png", SamplesSave: true}
	for _, m := range capacity.Models {
		if m.Name == chosen {
			options.Checkpoint = sdapiTitle(m)
		}
	}
	writeJSON(w, http.StatusOK, options)
	return nil
}

// sdapiPutOptions answers POST /sdapi/v1/options. The model is that of later requests at this door which name none; it is loaded
// when the first of them is made, on the device that makes it. Other settings are taken and change nothing.
func (s *Server) sdapiPutOptions(w http.ResponseWriter, r *http.Request) error {
	body, err := s.readDoor(w, r)
	if err != nil {
		return err
	}
	f, err := parseFields(body, true)
	if err != nil {
		return err
	}
	const field = "sd_model_checkpoint"
	name := f.text(field)
	if f.err != nil {
		return f.err
	}
	if name != "" {
		capacity := s.capacity(r.Context())
		found, ok := sdapiModel(name, capacity)
		if !ok {
			return noSdapiModel(field, name, capacity)
		}
		ctx, cancel := context.WithTimeout(r.Context(), commandTimeout)
		defer cancel()
		if err := s.config.Queue.PutSetting(ctx, sdapiSetting, found); err != nil {
			return err
		}
	}
	writeJSON(w, http.StatusOK, nil)
	return nil
}
