package main

import "fmt"

// open clicks the head of a card unless its details are open.
func open(device int) string {
	return fmt.Sprintf(`(() => { const b = document.querySelector("#open-%d"); if (b.getAttribute("aria-expanded") == "false") b.click(); return true })()`, device)
}

// press clicks the button of an open panel that has the attribute.
func press(attribute string) string {
	return fmt.Sprintf(`(() => { document.querySelector('.details [%s]').click(); return true })()`, attribute)
}

// drawn is true when the history of the open panel is there.
const drawn = `document.querySelector(".details .past-plot")?.dataset.status == "ready"`

// details are pictures of open cards: each is opened alone, on a made-up machine, so that the pictures stay comparable.
func details() []scene {
	const ready = connected + ` && document.querySelectorAll("[data-device]").length == 8`
	list := []scene{{name: "stage", staged: true, ready: ready}}
	for device, name := range []string{"full", "divided", "suspect", "apu", "asleep", "stuck", "unified", "mismatch"} {
		list = append(list, scene{name: "details-" + name, staged: true, ready: ready, act: open(device), done: drawn})
	}
	for metric, name := range map[int]string{2: "temperature", 3: "power"} {
		for span, length := range map[int]string{1: "day", 2: "month"} {
			list = append(list, scene{
				name: "history-" + name + "-" + length, staged: true, ready: ready,
				act:  open(0) + ` && ` + press(fmt.Sprintf(`data-metric="%d"`, metric)) + ` && ` + press(fmt.Sprintf(`data-span="%d"`, span)),
				done: drawn + fmt.Sprintf(` && document.querySelector('.details [data-span="%d"]').getAttribute("aria-pressed") == "true"`, span),
			})
		}
	}
	return append(list,
		scene{name: "details-origins", staged: true, ready: ready, act: open(0), done: `document.querySelector(".details[data-origins]") != null || (document.querySelector(".origins")?.click(), false)`},
		scene{name: "details-many", flags: []string{"--simulate", "64x H100"}, paired: true, ready: connected + ` && document.querySelectorAll("[data-device]").length >= 8`, act: open(9), done: `document.querySelector(".details") != null`},
	)
}
