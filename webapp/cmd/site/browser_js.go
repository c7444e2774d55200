package main

import (
	"slices"
	"syscall/js"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/webapp/live"
	"muster/webapp/view"
)

// run shows the page of every route and keeps it connected, for as long as the browser has it open.
func run() {
	link := live.New(live.Browser())
	page := view.NewPage(view.Agent{
		Link: link, Pair: live.Pair, Code: live.TakeFragmentCode(), NewID: live.NewID, Visible: live.Visible, OnVisible: live.OnVisible, Past: live.FetchPast, Decide: live.Decide, Command: live.Command, Recommend: live.FetchRecommendations, Keep: live.LocalStorage{},
	})
	live.Listen(link)
	// All routes share one page, so that going from one to another loses nothing.
	for _, route := range routes {
		app.Route(route, func() app.Composer { return page })
	}
	home()
	app.RunWhenOnBrowser()
}

// routes are the addresses of the page. The agent and the service worker answer every address with it.
var routes = []string{"/", "/ai-models-setup"}

// home gives an address that is no route the first one's, instead of go-app's own page about missing pages.
func home() {
	location := js.Global().Get("location")
	if !slices.Contains(routes, location.Get("pathname").String()) {
		js.Global().Get("history").Call("replaceState", js.Null(), "", routes[0]+location.Get("search").String()+location.Get("hash").String())
	}
}
