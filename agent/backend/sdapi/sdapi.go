// Package sdapi makes images with a server that somebody else runs and that speaks /sdapi/v1: AUTOMATIC1111's web UI, Forge, SD.Next,
// koboldcpp, or stable-diffusion.cpp's sd-server. One Generator is one server on one device.
//
// What these programs share is little: one call at a time, behind a lock that their own pages and other clients wait for too; a
// progress and an interrupt that are of whatever runs, not of a call; an interrupted image that comes back half made with status 200;
// unknown models and samplers that are ignored without a word. So nothing is taken on trust: what runs is interrupted only when it is
// proven to be ours (see watch.go), an image counts only when seed, size and model are those that were asked for and nobody
// interrupted it, and a call that was given up holds the server until it is free again.
//
// Facts are from the programs' sources: modules/api/api.py, progress.py, shared_state.py and processing.py of AUTOMATIC1111 (0050a354
// and 1.10), Forge (dfdcbab) and SD.Next (058a7f0), koboldcpp.py 1.102, and captures of sd-server master-827.
package sdapi

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"muster/agent/backend"
	"muster/agent/backend/attach"
	"muster/agent/backend/exchange"
	"muster/shared/sampler"
)

// limits bound waiting. Tests have others.
type limits struct {
	answer    time.Duration // of small exchanges
	look      time.Duration // of one look at the progress
	poll      time.Duration // between looks
	preview   time.Duration // between pictures of the unfinished image
	alive     time.Duration // between reports that nothing is new
	read      time.Duration // of an image, from its first byte to its last
	firstStep time.Duration // from the beginning of our job to its first step: a model may load meanwhile
	stall     time.Duration // without a step while our job runs
	silent    time.Duration // of a call to a program that tells nothing
	queue     time.Duration // of a call behind others
	load      time.Duration // of a switch to another model
	giveUp    time.Duration // for the end of a call that hangs, before its connection is closed
	farewell  time.Duration // for the interrupt of our job when the agent stops
	end       time.Duration // of Run, once it is to end
}

func defaultLimits() limits {
	return limits{
		answer: 20 * time.Second, look: 5 * time.Second, poll: 250 * time.Millisecond, preview: time.Second, alive: 15 * time.Second, read: 30 * time.Second,
		firstStep: 10 * time.Minute, stall: 3 * time.Minute, silent: 30 * time.Minute, queue: 2 * time.Hour, load: 10 * time.Minute, giveUp: 30 * time.Second,
		farewell: 2 * time.Second, end: 2500 * time.Millisecond,
	}
}

// Generator is one server. It is a backend.Backend, backend.Unloader and backend.Loader; Make it with New.
type Generator struct {
	*attach.Server // what is known of it

	client *exchange.Client
	log    *slog.Logger
	limits limits

	// Whoever has the turn.
	perTask  knowledge // whether the program tells of single calls
	markless bool      // settings for one image do not show, as in an SD.Next with --freeze
	learned  int       // recognised when these were learned

	mu      sync.Mutex
	program program // as far as it is known
	version string  // of it; "" when not known
	// samplers are those of the program; one that does not tell can't be asked for any.
	samplers *sampler.List
	// recognised counts how often it was found out which program answers: it, or its next start, may have learned something.
	recognised int
	doubted    bool   // it has not answered since: another one may come back in its place
	loaded     string // title of the model that it holds, or would take back; "" when not known
	unloaded   bool   // by us: it must be told to take its model back
	unsure     bool   // the same, but it may hold its model all the same: A1111 does not tell
	ooms       int    // that its allocator has counted, as it said last
}

// knowledge is what is known of something that can only be tried.
type knowledge int

const (
	unknown knowledge = iota
	yes
	no
)

// New gives the server at an address. It is asked what it is when Run begins.
func New(config attach.Config, machine *attach.Machine, log *slog.Logger) *Generator {
	return newGenerator(config, machine, log, defaultLimits())
}

func newGenerator(config attach.Config, machine *attach.Machine, log *slog.Logger, l limits) *Generator {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	g := &Generator{log: log, limits: l}
	c := exchange.Config{Name: config.Address(), Base: config.Base, User: config.User, Password: config.Password, Answer: l.answer, IdleConnections: 2}
	if c.User == "" { // koboldcpp has a password alone
		c.Password, c.Bearer = "", config.Password
	}
	g.client = exchange.New(c)
	g.Server = attach.New(config, machine, g.probe, log)
	return g
}

// Name gives "sdapi"; Server.Name is what people call it.
func (g *Generator) Name() string { return "sdapi" }

// Run asks the server what it is until ctx ends. Then it waits, for a short time, until what is left of a call has been interrupted.
func (g *Generator) Run(ctx context.Context) error {
	err := g.Server.Run(ctx)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.limits.end)
	defer cancel()
	if g.Turn.Take(end) == nil { // whoever uses the server has it
		g.Turn.Release()
	}
	g.client.Close()
	return err
}

// kind gives the program that answers, as far as it is known. A call asks once, at its start.
func (g *Generator) kind() program {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.program
}

// holds notes which model is in the server's memory.
func (g *Generator) holds(m backend.Model) {
	g.mu.Lock()
	g.loaded, g.unloaded, g.unsure = m.Path, false, false
	g.mu.Unlock()
	g.Server.Loaded(m.Name)
}

// held gives the title of the model that the server holds; away says that it was told to put it away.
func (g *Generator) held() (title string, away bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.loaded, g.unloaded
}

// takenBack notes that the server was told to take its model back.
func (g *Generator) takenBack() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unloaded, g.unsure = false, false
}

// doubtful says that the server may have put its model away without our knowledge.
func (g *Generator) doubtful() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.unsure
}
