package server

import (
	"strings"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/sampler"
)

// Offer is what images of a model can be asked to be like.
type Offer struct {
	Family   model.Family // as far as a generator knows it
	Grid     int          // both sides of an image are whole multiples of it, in pixels; 1 for any size
	Samplers sampler.Lists
}

// offer says what can be asked of a model on a device, on any for nil. Its family is that of the file where the library has it, else what
// a generator knows, else what the name says.
func (s *Server) offer(name string, device *gpu.Ref) Offer {
	offer := Offer{Grid: 1}
	if s.config.Offer != nil {
		offer = s.config.Offer(name, device)
	}
	if known := s.familyInLibrary(name); known != model.Unknown {
		offer.Family = known
	}
	if offer.Family == model.Unknown {
		offer.Family = model.FamilyOfName(name)
	}
	return offer
}

// familyInLibrary gives the kind of a model by its file; Unknown for those that only a generator has.
func (s *Server) familyInLibrary(name string) model.Family {
	if s.config.Library == nil {
		return model.Unknown
	}
	for _, m := range s.config.Library.Library().Models {
		if m.Name == name {
			return m.Family
		}
	}
	return model.Unknown
}

// adapter changes what is made of a command by what is offered. Its errors refuse the command.
type adapter func(made job.Spec, offer Offer) (job.Spec, error)

// settle makes of a command, whose model is chosen, what can be made: what it left open is what suits the model, sizes are those that
// every generator of the model makes, and its sampler is known. asked is the command as it came.
func (s *Server) settle(asked, made job.Spec, adapt adapter) (job.Spec, error) {
	made = suited(asked, made, s.offer(made.Model, nil).Family)
	if adapt != nil {
		var err error
		if made, err = adapt(made, s.offer(made.Model, made.DeviceID)); err != nil {
			return made, err
		}
	}
	return s.offered(made)
}

// suited fills in what a command left open as it suits the model that was chosen.
func suited(asked, made job.Spec, family model.Family) job.Spec {
	suits := model.SuitsOf(family, made.Model)
	if asked.Width == 0 {
		made.Width = suits.Side
	}
	if asked.Height == 0 {
		made.Height = suits.Side
	}
	if asked.Steps == 0 {
		made.Steps = suits.Steps
	}
	if asked.Guidance == nil {
		made.Guidance = &suits.Guidance
	}
	return made
}

// offered rounds a size up to one that every generator of the model makes, so that all images of a set have it wherever they are made,
// and refuses a sampler that none of them knows. A device that was asked for is the only one that counts for the sampler.
func (s *Server) offered(spec job.Spec) (job.Spec, error) {
	grid := s.offer(spec.Model, nil).Grid
	spec.Width, spec.Height = roundUp(spec.Width, grid), roundUp(spec.Height, grid)
	samplers := s.offer(spec.Model, spec.DeviceID).Samplers
	if samplers.Knows(spec.Sampler) {
		return spec, nil
	}
	if all := samplers.Union(); len(all.Samplers) > 0 {
		return spec, invalid("sampler", "%q is not known to the generator of %s; it has %s", cut(spec.Sampler), spec.Model, strings.Join(all.Titles(), ", "))
	}
	return spec, invalid("sampler", "the generator of %s can't be told which sampler to use: leave it out", spec.Model)
}

// roundUp gives the next whole multiple of a grid. The largest side is one of every grid that there is, and no side passes it.
func roundUp(side, grid int) int { return min((side+grid-1)/grid*grid, job.MaxSide) }
