package comfyui

import (
	"embed"
	"fmt"
	"slices"
	"sync"

	"muster/shared/model"
)

// template is a workflow for a family of models.
type template struct {
	*Workflow
	// multiple is what both sides of an image are whole multiples of.
	multiple int
	// classes are the only ones that its nodes may have.
	classes []string
	// needs are the files that it takes beside the model's own.
	needs []component
}

//go:embed templates/*.json
var templateFiles embed.FS

// common are the classes that every template has.
var common = []string{"CLIPTextEncode", "KSampler", "VAEDecode", "SaveImage", "PreviewImage"}

// checkpoints are the templates for files that hold everything: what the loader of checkpoints takes. A family that is not among them
// is made as Stable Diffusion is: ComfyUI adapts an empty latent image to the model.
var checkpoints = sync.OnceValue(func() map[model.Family]*template {
	sd := readTemplate("checkpoint", template{multiple: 8, classes: []string{"CheckpointLoaderSimple", "EmptyLatentImage"}})
	return map[model.Family]*template{
		model.Unknown: sd, model.SD1: sd, model.SD2: sd, model.SDXL: sd,
		model.SD3:  readTemplate("sd3", template{multiple: 16, classes: []string{"CheckpointLoaderSimple", "EmptySD3LatentImage"}}),
		model.Flux: readTemplate("flux-checkpoint", template{multiple: 16, classes: []string{"CheckpointLoaderSimple", "EmptySD3LatentImage", "ConditioningZeroOut", "FluxGuidance"}}),
	}
})

// diffusers are the templates for files that hold the diffusion model alone.
var diffusers = sync.OnceValue(func() map[model.Family]*template {
	alone := []string{"UNETLoader", "VAELoader", "EmptySD3LatentImage"}
	return map[model.Family]*template{
		model.Flux: readTemplate("flux", template{multiple: 16, classes: append([]string{"DualCLIPLoader", "ConditioningZeroOut", "FluxGuidance"}, alone...),
			needs: []component{t5, clipL, fluxVAE}}),
		model.Chroma: readTemplate("chroma", template{multiple: 16, classes: append([]string{"CLIPLoader"}, alone...), needs: []component{t5, fluxVAE}}),
		model.QwenImage: readTemplate("qwen-image", template{multiple: 16, classes: append([]string{"CLIPLoader", "ModelSamplingAuraFlow"}, alone...),
			needs: []component{qwen25, qwenVAE}}),
		model.ZImage: readTemplate("z-image", template{multiple: 16, classes: append([]string{"CLIPLoader", "ModelSamplingAuraFlow"}, alone...),
			needs: []component{qwen3, fluxVAE}}),
	}
})

// readTemplate reads an embedded template; a mistake in one is a mistake of this package.
func readTemplate(name string, t template) *template {
	text, err := templateFiles.ReadFile("templates/" + name + ".json")
	if err == nil {
		t.Workflow, err = ParseWorkflow(text)
	}
	if err == nil {
		err = t.allowed(t.graph)
	}
	if err != nil {
		panic(fmt.Sprintf("template %s: %v", name, err))
	}
	return &t
}

// allowed says whether a graph has nodes of the template's classes alone.
func (t *template) allowed(g Graph) error {
	for _, id := range g.ids() {
		if class := g[id].Class; !slices.Contains(common, class) && !slices.Contains(t.classes, class) {
			return fmt.Errorf("node %q has the class %s, which this template may not have", id, class)
		}
	}
	return nil
}

// templateOf gives the template for a model file in a folder of ComfyUI's; nil when there is none.
func templateOf(folder string, family model.Family) *template {
	if folder == folderCheckpoints {
		if t := checkpoints()[family]; t != nil {
			return t
		}
		return checkpoints()[model.Unknown]
	}
	return diffusers()[family]
}
