package server

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"muster/shared/job"
)

// sdapiParameters is the request as it was understood; clients count images by it.
type sdapiParameters struct {
	Prompt           string         `json:"prompt"`
	NegativePrompt   string         `json:"negative_prompt"`
	Styles           []string       `json:"styles"`
	Seed             int64          `json:"seed"`
	Subseed          int64          `json:"subseed"`
	SubseedStrength  float64        `json:"subseed_strength"`
	SamplerName      string         `json:"sampler_name"`
	Scheduler        string         `json:"scheduler"`
	BatchSize        int            `json:"batch_size"`
	Batches          int            `json:"n_iter"`
	Steps            int            `json:"steps"`
	CFGScale         float64        `json:"cfg_scale"`
	Width            int            `json:"width"`
	Height           int            `json:"height"`
	RestoreFaces     bool           `json:"restore_faces"`
	Tiling           bool           `json:"tiling"`
	EnableHR         bool           `json:"enable_hr"`
	OverrideSettings map[string]any `json:"override_settings"`
	AlwaysonScripts  struct{}       `json:"alwayson_scripts"`
	SendImages       bool           `json:"send_images"`
	SaveImages       bool           `json:"save_images"`
	ForceTaskID      *string        `json:"force_task_id"`
}

// parameters is the request as it was understood; what it left open is as it is in a job that was made of it.
func (a sdapiAsk) parameters(made job.Job) sdapiParameters {
	guidance := made.Guidance
	if a.guidance != nil {
		guidance = *a.guidance
	}
	p := sdapiParameters{
		Prompt: a.prompt, NegativePrompt: a.negative, Styles: []string{}, Seed: a.seed, Subseed: -1, SamplerName: a.sampler, Scheduler: cmp.Or(a.schedule, sdapiScheduler),
		BatchSize: a.batchSize, Batches: a.batches, Steps: cmp.Or(a.steps, made.Steps), CFGScale: guidance, Width: cmp.Or(a.width, made.Width), Height: cmp.Or(a.height, made.Height),
		OverrideSettings: map[string]any{}, SendImages: a.sendImages, SaveImages: a.saveImages,
	}
	if a.model != "" {
		p.OverrideSettings["sd_model_checkpoint"] = a.model
	}
	if a.task != "" {
		p.ForceTaskID = &a.task
	}
	return p
}

// sdapiInfo is what clients read of the images: element i of each list is about image i of the answer.
type sdapiInfo struct {
	Prompt                string         `json:"prompt"`
	AllPrompts            []string       `json:"all_prompts"`
	NegativePrompt        string         `json:"negative_prompt"`
	AllNegativePrompts    []string       `json:"all_negative_prompts"`
	Seed                  int64          `json:"seed"`
	AllSeeds              []int64        `json:"all_seeds"`
	Subseed               int64          `json:"subseed"`
	AllSubseeds           []int64        `json:"all_subseeds"`
	SubseedStrength       float64        `json:"subseed_strength"`
	Width                 int            `json:"width"`
	Height                int            `json:"height"`
	SamplerName           string         `json:"sampler_name"`
	Scheduler             string         `json:"scheduler"`
	CFGScale              float64        `json:"cfg_scale"`
	Steps                 int            `json:"steps"`
	BatchSize             int            `json:"batch_size"`
	RestoreFaces          bool           `json:"restore_faces"`
	FaceRestorationModel  *string        `json:"face_restoration_model"`
	ModelName             string         `json:"sd_model_name"`
	ModelHash             *string        `json:"sd_model_hash"` // not known
	VAEName               *string        `json:"sd_vae_name"`
	VAEHash               *string        `json:"sd_vae_hash"`
	SeedResizeFromW       int            `json:"seed_resize_from_w"`
	SeedResizeFromH       int            `json:"seed_resize_from_h"`
	DenoisingStrength     *float64       `json:"denoising_strength"`
	ExtraGenerationParams map[string]any `json:"extra_generation_params"`
	IndexOfFirstImage     int            `json:"index_of_first_image"` // there is no grid before them
	Infotexts             []string       `json:"infotexts"`
	Styles                []string       `json:"styles"`
	JobTimestamp          string         `json:"job_timestamp"`
	ClipSkip              int            `json:"clip_skip"`
	Inpainting            bool           `json:"is_using_inpainting_conditioning"`
	Version               string         `json:"version"`
	Muster                sdapiMuster    `json:"muster"`
}

// sdapiMuster is what only muster says.
type sdapiMuster struct {
	Images  []made       `json:"images"`
	Ignored []string     `json:"ignored,omitempty"` // fields of the request that changed nothing here
	Errors  []openAILost `json:"errors,omitempty"`  // images that could not be made
	Notes   []string     `json:"notes,omitempty"`   // what is not as it was asked for, for people
}

func (s *Server) sdapiInfo(ask sdapiAsk, jobs []job.Job, pictures []imageFile, lost []unmade) sdapiInfo {
	first := jobs[0]
	info := sdapiInfo{
		Prompt: ask.prompt, NegativePrompt: ask.negative, Seed: first.Seed, Width: first.Width, Height: first.Height, SamplerName: ask.sampler, Scheduler: cmp.Or(ask.schedule, sdapiScheduler),
		CFGScale: first.Guidance, Steps: first.Steps, BatchSize: ask.batchSize, ModelName: first.Model, SeedResizeFromW: -1, SeedResizeFromH: -1,
		ExtraGenerationParams: map[string]any{}, Styles: []string{}, JobTimestamp: sdapiTime(first.Created), ClipSkip: 1,
		Version: "muster " + s.config.Build, AllPrompts: []string{}, AllNegativePrompts: []string{}, AllSeeds: []int64{},
		AllSubseeds: []int64{}, Infotexts: []string{}, Muster: sdapiMuster{Images: []made{}, Ignored: ask.ignored, Errors: openAILosses(lost)},
	}
	if len(pictures) > 0 {
		info.Width, info.Height = pictures[0].sides()
		if width, height := cmp.Or(ask.width, info.Width), cmp.Or(ask.height, info.Height); info.Width != width || info.Height != height {
			info.Muster.Notes = append(info.Muster.Notes, resized(width, height, info.Width, info.Height))
		}
		info.Seed = pictures[0].job.Seed
	}
	for _, p := range pictures {
		info.AllPrompts = append(info.AllPrompts, ask.prompt)
		info.AllNegativePrompts = append(info.AllNegativePrompts, ask.negative)
		info.AllSeeds = append(info.AllSeeds, p.job.Seed)
		info.AllSubseeds = append(info.AllSubseeds, 0)
		info.Infotexts = append(info.Infotexts, infotext(p.job, info))
		info.Muster.Images = append(info.Muster.Images, madeOf(p.job))
	}
	return info
}

// resized says that an image is not of the size that was asked for.
func resized(askedWidth, askedHeight, width, height int) string {
	return fmt.Sprintf("%dx%d was asked for, and the images are %dx%d: the model is made in steps of so many pixels, or its workflow decides", askedWidth, askedHeight, width, height)
}

// infotext is an image's description, in the form that programs read parameters back from.
func infotext(j job.Job, info sdapiInfo) string {
	var text strings.Builder
	text.WriteString(info.Prompt + "\n")
	if info.NegativePrompt != "" {
		text.WriteString("Negative prompt: " + info.NegativePrompt + "\n")
	}
	fmt.Fprintf(&text, "Steps: %d, ", info.Steps)
	if info.SamplerName != "" {
		fmt.Fprintf(&text, "Sampler: %s, ", info.SamplerName)
	}
	if info.Scheduler != sdapiScheduler {
		fmt.Fprintf(&text, "Schedule type: %s, ", info.Scheduler)
	}
	fmt.Fprintf(&text, "CFG scale: %g, Seed: %d, Size: %dx%d, Model: %s, Version: %s",
		info.CFGScale, j.Seed, info.Width, info.Height, info.ModelName, info.Version)
	return text.String()
}

func sdapiTime(t time.Time) string { return t.UTC().Format("20060102150405") }
