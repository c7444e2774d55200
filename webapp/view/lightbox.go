package view

import (
	"slices"
	"strconv"

	"github.com/maxence-charriere/go-app/v10/pkg/app"

	"muster/shared/job"
)

// lightbox shows one image large, with what it was made of.
type lightbox struct {
	app.Compo
	Page    *Page
	Picture string // id of its job; "" when closed
	Version int
}

// Render shows the dialog; it stays in the page while it is closed.
func (b *lightbox) Render() app.UI {
	var body []app.UI
	if j := b.Page.state.Job(b.Picture); j != nil && j.ImageID != "" {
		body = append(body, el("div", "lightbox-body", nil,
			el("div", "lightbox-stage", nil,
				picture(at{"id", "lightbox-image", "src", imageURL(j.ImageID), "alt", shorten(j.Prompt, 200), "width", strconv.Itoa(j.Width), "height", strconv.Itoa(j.Height)}),
				iconButton("Previous image", iconPrevious, at{"id", "lightbox-previous"}, on("click", b.previous)),
				iconButton("Next image", iconNext, at{"id", "lightbox-next", "autofocus", "true"}, on("click", b.next))),
			b.renderDetails(j)))
	}
	body = append(body, on("close", b.closed), on("keydown", b.keyDown), on("click", b.backdrop))
	return el("dialog", "lightbox", at{"id", "lightbox", "aria-label", "Image"}, body...)
}

func (b *lightbox) renderDetails(j *job.Job) app.UI {
	seed := strconv.FormatInt(j.Seed, 10)
	rows := []app.UI{
		fact("Made by", text(maker(j)+" "), simulatedNote(j.Simulated)),
		fact("Model", text(b.Page.modelTitle(j.Model))),
		fact("Seed", text(seed)),
		fact("Size and steps", text(strconv.Itoa(j.Width)+" × "+strconv.Itoa(j.Height)+", "+strconv.Itoa(j.Steps)+" steps")),
		fact("Time", text(jobWords(j))),
	}
	if j.NegativePrompt != "" {
		rows = append(rows, fact("Negative prompt", text(j.NegativePrompt)))
	}
	if j.Reason != "" {
		rows = append(rows, fact("Placement", text(j.Reason)))
	}
	return el("div", "lightbox-details", nil,
		el("div", "lightbox-top", nil,
			el("p", "tally", nil, text(b.position())),
			iconButton("Close", iconCross, at{"id", "lightbox-close"}, on("click", b.close))),
		el("p", "lightbox-prompt", nil, text(j.Prompt)),
		el("dl", "facts", nil, rows...),
		el("a", "quiet-button download", at{"href", imageURL(j.ImageID), "download", "muster-" + seed + ".png"}, icon(iconDownload), text("Download")))
}

// place gives the images and where among them the open one is; −1 when it is none of them.
func (b *lightbox) place() ([]*job.Job, int) {
	images := b.Page.state.Images()
	return images, slices.IndexFunc(images, func(j *job.Job) bool { return j.ID == b.Picture })
}

func (b *lightbox) position() string {
	images, at := b.place()
	return "Image " + strconv.Itoa(at+1) + " of " + strconv.Itoa(len(images))
}

func (b *lightbox) move(by int) {
	images, at := b.place()
	if len(images) > 0 {
		b.Page.picture = images[(at+by+len(images))%len(images)].ID
	}
}

func (b *lightbox) previous(app.Context, app.Event) { b.move(-1) }
func (b *lightbox) next(app.Context, app.Event)     { b.move(1) }

func (b *lightbox) keyDown(_ app.Context, e app.Event) {
	switch e.Get("key").String() {
	case "ArrowLeft":
		b.move(-1)
	case "ArrowRight":
		b.move(1)
	}
}

func (b *lightbox) close(app.Context, app.Event) {
	app.Window().GetElementByID("lightbox").Call("close")
}

// backdrop closes when the dialog itself was clicked, which is what surrounds its content.
func (b *lightbox) backdrop(ctx app.Context, e app.Event) {
	if e.Get("target").Equal(ctx.JSSrc()) {
		b.close(ctx, e)
	}
}

func (b *lightbox) closed(app.Context, app.Event) { b.Page.picture = "" }

// openPicture opens the image of the job that the clicked element names.
func (p *Page) openPicture(ctx app.Context, _ app.Event) {
	p.picture = data(ctx, "picture")
	ctx.Defer(func(app.Context) {
		if dialog := app.Window().GetElementByID("lightbox"); dialog.Truthy() && !dialog.Get("open").Bool() {
			dialog.Call("showModal")
		}
	})
}
