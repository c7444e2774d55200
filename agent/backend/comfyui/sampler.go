package comfyui

import (
	"fmt"
	"slices"
	"strings"
)

// samplerNames are ComfyUI's names of the samplers that A1111's page and sd-server call otherwise, by their bare spelling.
var samplerNames = map[string]string{
	"eulera": "euler_ancestral", "dpm2": "dpm_2", "dpm2a": "dpm_2_ancestral", "dpm2ancestral": "dpm_2_ancestral",
	"dpm++2sa": "dpmpp_2s_ancestral", "dpm++2sancestral": "dpmpp_2s_ancestral", "dpm++2m": "dpmpp_2m", "dpm++sde": "dpmpp_sde",
	"dpm++2msde": "dpmpp_2m_sde", "dpm++2msdeheun": "dpmpp_2m_sde_heun", "dpm++3msde": "dpmpp_3m_sde",
	"unipc": "uni_pc", "plms": "ipndm", "eulerancestral": "euler_ancestral", "ddimtrailing": "ddim",
}

// schedulerNames are ComfyUI's names of schedulers, by how A1111's page and sd-server call them behind a sampler's name.
var schedulerNames = []struct{ suffix, name string }{
	{"karras", "karras"}, {"exponential", "exponential"}, {"sgmuniform", "sgm_uniform"}, {"klooptimal", "kl_optimal"}, {"kloptimal", "kl_optimal"},
	{"simple", "simple"}, {"normal", "normal"}, {"ddimuniform", "ddim_uniform"}, {"linearquadratic", "linear_quadratic"}, {"beta", "beta"}, {"discrete", "normal"},
}

// bare is a sampler's name as everybody spells it: "DPM++ 2M Karras", "dpmpp_2m_karras" and "k_dpmpp_2m" differ in spaces and signs.
func bare(name string) string {
	name = strings.ToLower(strings.TrimSpace(name))
	name = strings.NewReplacer(" ", "", "_", "", "-", "").Replace(name)
	return strings.ReplaceAll(name, "dpmpp", "dpm++")
}

// samplerOf finds what ComfyUI calls a sampler, and the scheduler that stands behind its name; "" leaves the workflow's own. samplers
// and schedulers are those of the server; an empty list knows everything.
func samplerOf(name string, samplers, schedulers []string) (sampler, scheduler string, err error) {
	if name == "" {
		return "", "", nil
	}
	if slices.Contains(samplers, name) {
		return name, "", nil
	}
	wanted := bare(name)
	if found := known(wanted, samplers); found != "" {
		return found, "", nil
	}
	for _, s := range schedulerNames {
		first, ok := strings.CutSuffix(wanted, s.suffix)
		if !ok || len(schedulers) > 0 && !slices.Contains(schedulers, s.name) {
			continue
		}
		if found := known(first, samplers); found != "" {
			return found, s.name, nil
		}
	}
	return "", "", fmt.Errorf("sampler %q is not known to ComfyUI: choose one of %s, or none", shorten(name), strings.Join(samplers, ", "))
}

// known gives the server's name of a sampler in its bare spelling; "" when it has none.
func known(wanted string, samplers []string) string {
	for _, sampler := range samplers {
		if bare(sampler) == wanted {
			return sampler
		}
	}
	name, ok := samplerNames[wanted]
	if !ok && len(samplers) == 0 {
		return strings.ReplaceAll(wanted, "dpm++", "dpmpp_")
	}
	if ok && (len(samplers) == 0 || slices.Contains(samplers, name)) {
		return name
	}
	return ""
}
