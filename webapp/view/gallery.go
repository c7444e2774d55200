package view

import (
	"strconv"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/job"
)

// gallery is the finished images, newest first.
type gallery struct {
	app.Compo
	Page    *Page
	Version int
}

// galleryPage is how many images are shown at first, and how many more each time.
const galleryPage = 24

// Render shows the section.
func (g *gallery) Render() app.UI {
	images := g.Page.state.Images()
	tiles := make([]app.UI, 0, min(len(images), g.Page.shown))
	for _, j := range images[:min(len(images), g.Page.shown)] {
		tiles = append(tiles, g.Page.renderTile(j))
	}
	return section("images", "gallery",
		heading("images", "Images", el("p", "tally", nil, text(imagesTally(len(images))))),
		g.renderEmpty(len(images) == 0),
		el("ul", "tiles", nil, tiles...),
		g.renderMore(len(images)))
}

func imagesTally(n int) string {
	if n == 0 {
		return ""
	}
	return plural(n, "image", "images")
}

func (g *gallery) renderEmpty(empty bool) app.UI {
	if !empty {
		return nothing()
	}
	title, words := "No images yet", "Write a prompt and choose Generate. Each image appears here as soon as its device has finished it."
	if !g.Page.informed() {
		title, words = "Images are with the agent", "They appear here when it is back."
	}
	return el("div", "empty empty-gallery", nil, icon(iconPicture),
		el("p", "", nil, el("strong", "", nil, text(title)), text(" "+words)))
}

func (g *gallery) renderMore(total int) app.UI {
	if total <= g.Page.shown {
		return nothing()
	}
	return el("button", "quiet-button more-images", at{"type", "button"},
		text("Show "+strconv.Itoa(min(galleryPage, total-g.Page.shown))+" more of "+strconv.Itoa(total)), on("click", g.more))
}

func (g *gallery) more(app.Context, app.Event) { g.Page.shown += galleryPage }

func imageURL(id string) string { return "/api/v1/images/" + id }
func thumbURL(id string) string { return imageURL(id) + "?size=thumb" }

// picture is an image that shows nothing instead of a broken sign when the agent is away.
func picture(attributes at) app.UI {
	return void("img", "", append(attributes, "decoding", "async"), on("error", imageBroken), on("load", imageLoaded))
}

func (p *Page) renderTile(j *job.Job) app.UI {
	return el("li", "tile", nil,
		el("button", "tile-open", at{"type", "button", "data-image", j.ImageID, "data-picture", j.ID},
			picture(at{"src", thumbURL(j.ImageID), "alt", shorten(j.Prompt, 120), "loading", "lazy", "width", strconv.Itoa(j.Width), "height", strconv.Itoa(j.Height)}),
			on("click", p.openPicture)),
		el("div", "tile-text", nil,
			el("p", "tile-prompt", at{"title", j.Prompt}, text(j.Prompt)),
			el("p", "tile-meta", nil, text(maker(j)+" · seed "+strconv.FormatInt(j.Seed, 10)), simulatedNote(j.Simulated))))
}

// maker names the device that made an image.
func maker(j *job.Job) string {
	if j.DeviceID == nil {
		return "device unknown"
	}
	return j.DeviceID.Label()
}

func simulatedNote(simulated bool) app.UI {
	if !simulated {
		return nothing()
	}
	return el("span", "badge simulated", nil, text("simulated"))
}

// imageBroken marks an image that can't be loaded.
func imageBroken(ctx app.Context, _ app.Event) {
	ctx.JSSrc().Call("setAttribute", "data-broken", "true")
}

func imageLoaded(ctx app.Context, _ app.Event) { ctx.JSSrc().Call("removeAttribute", "data-broken") }
