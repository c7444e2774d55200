// Command shots takes pictures of the page in the states that a person meets, at phone and desktop width, light and dark, for
// somebody to look at. It writes PNG files into the folder that -o names.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"muster/e2e/harness"
	"muster/e2e/stage"
	"muster/shared/job"
	"muster/shared/wire"
)

// scene is a state of the page: how the agent is started and what is done before the picture is taken.
type scene struct {
	name    string
	flags   []string
	staged, // the agent is made up, for what none here can show
	leave, // it ends when act is done
	paired,
	stop bool // stop the agent before the picture
	machine func(time.Time) []wire.Event // of a made-up agent; nil is stage.Machine
	refuse  string                       // why a made-up agent refuses every decision; "" accepts them
	jobs    []job.Spec
	ready   string // JavaScript that is true when act can be done
	act     string // JavaScript that a person's clicks would do; "" for none
	done    string // JavaScript that is true when the picture can be taken; "" for when act is done
}

const connected = `document.querySelector("#connection")?.dataset.state == "connected"`

func scenes(sysroot string) []scene {
	portrait := func(prompt string, count, steps int) job.Spec {
		return job.Spec{Prompt: prompt, Count: count, Steps: steps}
	}
	list := []scene{
		{name: "empty", flags: []string{"--simulate", "2x MI25, 1x RTX 4090"}, paired: true, ready: connected + ` && document.querySelectorAll("[data-device]").length == 3`},
		{
			name: "full", flags: []string{"--simulate", "4x V620, 2x MI25, 1x RTX 4090, 1x H100"}, paired: true,
			jobs: []job.Spec{
				portrait("a violinist with silver hair, night sky", 4, 20), portrait("a gardener with a straw hat, freckles, green coat", 4, 20),
				portrait("an old sea captain with a grey beard", 8, 150), portrait("a young astronomer with round glasses", 6, 150),
			},
			ready: connected + ` && document.querySelectorAll("[data-image]").length >= 8 && document.querySelectorAll('[data-job][data-state="running"]').length >= 6`,
		},
		{name: "many", flags: []string{"--simulate", "64x H100"}, paired: true, ready: connected + ` && document.querySelectorAll("[data-device]").length >= 8`},
		{name: "cpu", flags: []string{"--sysroot", os.TempDir()}, paired: true, ready: connected},
		{name: "unpaired", flags: []string{"--simulate", "2x MI25"}, ready: `document.body.innerText.includes("muster link")`},
		{
			name: "offline", flags: []string{"--simulate", "2x MI25, 1x RTX 4090"}, paired: true, stop: true, jobs: []job.Spec{portrait("a fox in the snow", 2, 20)},
			ready: `document.querySelector("#connection")?.dataset.state != "connected"`,
		},
	}
	list = append(append(list, details()...), steered()...)
	list = append(list, shelves()...)
	if sysroot != "" {
		captured := scene{name: "captured", flags: []string{"--sysroot", sysroot}, paired: true, ready: connected + ` && document.querySelectorAll("[data-device]").length > 1`}
		list = append(list, captured)
		captured.name, captured.act, captured.done = "details-captured", open(1), drawn
		list = append(list, captured)
	}
	return list
}

func main() {
	log.SetFlags(0)
	out := flag.String("o", "bin/shots", "folder for the pictures")
	sysroot := flag.String("sysroot", "", "an unpacked capture to take a picture of too")
	only := flag.String("only", "", "take this scene alone")
	flag.Parse()
	if err := os.MkdirAll(*out, 0o755); err != nil {
		log.Fatal(err)
	}
	browser, stop, err := harness.NewBrowser(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
	for _, s := range scenes(*sysroot) {
		if *only != "" && *only != s.name {
			continue
		}
		if err := take(browser, s, *out); err != nil {
			log.Printf("%s: %v", s.name, err)
		}
	}
}

func take(browser context.Context, s scene, out string) error {
	page, closePage, err := harness.NewPage(browser)
	if err != nil {
		return err
	}
	defer closePage()
	if err := still(page, ""); err != nil {
		return err
	}
	end, err := set(page, s)
	defer func() {
		if end != nil {
			end()
		}
	}()
	if err != nil {
		return err
	}
	if err := page.Until(s.ready, 2*time.Minute); err != nil {
		log.Printf("%s: %v", s.name, err) // a picture of what is there instead tells more
	}
	if s.act != "" {
		if err := page.Until("Boolean("+s.act+")", time.Minute); err != nil {
			log.Printf("%s: %v", s.name, err)
		}
	}
	if s.leave {
		end()
		end = nil
	}
	if s.done != "" {
		if err := page.Until("Boolean("+s.done+")", time.Minute); err != nil {
			log.Printf("%s: %v", s.name, err)
		}
	}
	for _, size := range []struct {
		name          string
		width, height int64
	}{{"desktop", 1440, 900}, {"phone", 390, 844}} {
		// The first picture of a size comes before cards that were out of sight are laid out.
		if err := picture(page, size.width, size.height, "", os.DevNull); err != nil {
			return err
		}
		for _, scheme := range []string{"light", "dark"} {
			name := fmt.Sprintf("%s-%s-%s.png", s.name, size.name, scheme)
			if err := picture(page, size.width, size.height, scheme, filepath.Join(out, name)); err != nil {
				return err
			}
		}
	}
	for _, problem := range page.Problems() {
		log.Printf("%s: console: %s", s.name, problem)
	}
	return nil
}

// set opens the page of a scene; end takes down what it needed.
func set(page *harness.Page, s scene) (end func(), err error) {
	if s.staged {
		machine := stage.Machine
		if s.machine != nil {
			machine = s.machine
		}
		made, err := stage.Open(stage.Waves, machine(time.Now().UTC())...)
		if err != nil {
			return nil, err
		}
		made.Refuse(s.refuse)
		return made.Close, page.Navigate(made.URL)
	}
	data, err := os.MkdirTemp("", "muster-shots-")
	if err != nil {
		return nil, err
	}
	agent, err := harness.Start(data, s.flags...)
	if err != nil {
		return nil, err
	}
	end = func() {
		agent.Stop()
		os.RemoveAll(data)
	}
	url := agent.URL
	if s.paired {
		url = agent.Link
	}
	if err := page.Navigate(url); err != nil {
		return end, err
	}
	for _, spec := range s.jobs {
		if _, err := agent.Do(page.Context, "POST", "/api/v1/jobs", spec, nil); err != nil {
			return end, err
		}
	}
	if s.stop {
		if err := page.Until(connected+` && document.querySelectorAll("[data-image]").length >= 2`, time.Minute); err != nil {
			return end, err
		}
		return end, agent.Stop()
	}
	return end, nil
}

// still lets nothing move, and sets the colours of the reader's system; "" leaves them.
func still(page *harness.Page, scheme string) error {
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-reduced-motion", Value: "reduce"}, {Name: "prefers-color-scheme", Value: scheme}}}
	_, err := chromedp.Call(page.Context, emulation.SetEmulatedMedia, media)
	return err
}

func picture(page *harness.Page, width, height int64, scheme, path string) error {
	if err := chromedp.Do(page.Context, chromedp.EmulateViewport(width, height)); err != nil {
		return err
	}
	if err := still(page, scheme); err != nil {
		return err
	}
	if _, err := harness.Eval[bool](page, `(document.activeElement?.blur(), scrollTo(0, 0), true)`); err != nil {
		return err
	}
	// Two animation frames, so that the new size and colours are painted.
	if _, err := harness.Eval[bool](page, `new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(true), 400))))`); err != nil {
		return err
	}
	png, err := chromedp.Run(page.Context, chromedp.FullScreenshot(100))
	if err != nil {
		return err
	}
	return os.WriteFile(path, png, 0o644)
}
