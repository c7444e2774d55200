package server

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/sampler"
)

// adapt settles what clients of this door send with every request whatever the model is. What comes to nothing is noted in ignored.
func (a *sdapiAsk) adapt(made job.Spec, offer Offer) (job.Spec, error) {
	made = a.adaptGuidance(made, offer.Family)
	if err := a.choose(offer.Samplers, offer.Family); err != nil {
		return made, err
	}
	made.Sampler = a.wanted()
	return made, nil
}

// adaptGuidance takes the guidance that a model has of its own from the field that Forge has for it. Its clients send a classifier-free
// one of 1 beside it, which is no wish.
func (a *sdapiAsk) adaptGuidance(made job.Spec, family model.Family) job.Spec {
	switch own := family.OwnGuidance(); {
	case own && a.distilled != nil:
		made.Guidance = a.distilled
	case own && a.guidance != nil && *a.guidance == 1:
		made.Guidance = new(model.SuitsOf(family, made.Model).Guidance)
	case !own && a.distilled != nil:
		a.ignored = append(a.ignored, "distilled_cfg_scale")
	}
	return made
}

// flowSchedules are the schedules that models of the newer kind, which learned a flow, are made with by those who published them.
var flowSchedules = []string{"simple", "normal", "beta", "sgm_uniform"}

// choose settles the sampler by what the generators of the model know. Programs always send one, so one sent by habit is left out where
// a generator can't be told any, and so is a schedule that is not there, or not meant for the model; a sampler that is not there is an
// error, as it is in stable-diffusion-webui.
func (a *sdapiAsk) choose(samplers sampler.Lists, family model.Family) error {
	flow := len(family.Parts()) > 0
	suitable := !flow || slices.ContainsFunc(flowSchedules, func(name string) bool { return sampler.Same(name, a.schedule) })
	all := samplers.Union()
	if a.sampler == "" || !samplers.Known() || !suitable {
		a.ignore("scheduler", &a.schedule)
	}
	switch {
	case a.sampler == "" || !samplers.Known():
	case len(all.Samplers) == 0, samplers.Silent() && habit(a.sampler):
		a.ignore("sampler_name", &a.sampler)
		a.ignore("scheduler", &a.schedule)
	case samplers.Knows(a.wanted()):
	case samplers.Knows(a.sampler):
		a.ignore("scheduler", &a.schedule)
	default:
		return &refusal{status: http.StatusNotFound, code: "sampler_not_found", field: sdapiNames["sampler"],
			message: fmt.Sprintf("Sampler not found: %q; there are %s", cut(a.sampler), strings.Join(all.Titles(), ", "))}
	}
	return nil
}

// habit says whether a sampler is one that programs send when nobody has chosen any.
func habit(name string) bool { return sampler.Same(name, "Euler a") || sampler.Same(name, "Euler") }

// wanted is the sampler with its schedule, as a command names them; "" without a sampler.
func (a *sdapiAsk) wanted() string {
	if a.sampler == "" {
		return ""
	}
	return strings.TrimSpace(a.sampler + " " + a.schedule)
}

// ignore notes that what was asked for is not here, and forgets it.
func (a *sdapiAsk) ignore(name string, asked *string) {
	if *asked != "" {
		a.ignored = append(a.ignored, name)
		*asked = ""
	}
}
