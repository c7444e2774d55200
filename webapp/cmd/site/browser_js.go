package main

import (
	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/webapp/live"
	"muster/webapp/view"
)

// run shows the page of every route and keeps it connected, for as long as the browser has it open.
func run() {
	link := live.New(live.Browser())
	page := view.NewPage(view.Agent{
		Link: link, Pair: live.Pair, Code: live.TakeFragmentCode(), NewID: live.NewID, Visible: live.Visible, Keep: live.LocalStorage{},
	})
	live.Listen(link)
	// All routes share one page, so that going from one to another loses nothing.
	app.RouteWithRegexp("^/.*$", func() app.Composer { return page })
	app.RunWhenOnBrowser()
}
