package view

import (
	"context"

	"muster/shared/model"
	"muster/webapp/live"
)

// Agent is what the page needs from the outside. Only Link is required; without the others the page just can't do what they do.
type Agent struct {
	Link *live.Link
	// Pair gives a one-time code for a session; its error is for people.
	Pair func(ctx context.Context, code string) error
	// Code is a one-time code that came with the page's address; "" for none.
	Code string
	// NewID gives an id for a command that nobody else has.
	NewID func() string
	// Visible says whether anybody can see the page; nil: always.
	Visible func() bool
	// OnVisible calls a function whenever the page can be seen again; nil: it always can.
	OnVisible func(func())
	// Past asks for what a device measured before; nil: no history is shown.
	Past func(context.Context, live.PastQuery) (live.Past, error)
	// Decide tells the agent what a person decided about its devices, now or not at all; its error is for people. nil: nobody can.
	Decide func(context.Context, live.Decision) error
	// Command tells the agent what a person asks about models, now or not at all; its error is for people. nil: nobody can.
	Command func(context.Context, live.ModelCommand) error
	// Recommend asks which models the agent would install here; nil: none are shown.
	Recommend func(context.Context) ([]model.Recommendation, error)
	// Keep holds the last known state and the choices of the reader; nil keeps nothing.
	Keep Keep
}

// Keep is a small store of texts by key. Get gives "" for an unknown key.
type Keep interface {
	Get(key string) string
	Set(key, value string) error
}
