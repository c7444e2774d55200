package main

import (
	"fmt"

	"muster/e2e/stage"
)

// steered are pictures of devices that people steer, and of orders that wait for them.
func steered() []scene {
	const ready = connected + ` && document.querySelectorAll("[data-device]").length == 8 && document.querySelectorAll("[data-job]").length == 10`
	pool := scene{name: "pool", staged: true, machine: stage.Pool, ready: ready}
	list := []scene{pool}
	for device, name := range map[int]string{0: "free", 3: "draining", 4: "reserved", 6: "limited"} {
		of := pool
		of.name, of.act, of.done = "pool-"+name, open(device), drawn
		list = append(list, of)
	}
	mistake, refused, offline := pool, pool, pool
	mistake.name = "pool-mistake"
	mistake.act = open(1) + ` && ` + enter("max-celsius-1", "20") + ` && ` + submit("#steering-1 form")
	mistake.done = `document.querySelector("#max-celsius-1-wrong").textContent != ""`
	refused.name, refused.refuse = "pool-refused", "the disk is full: free some space, then decide again"
	refused.act = open(1) + ` && (document.querySelector('#steering-1 [data-act="pause"]').click(), true)`
	refused.done = `document.querySelector("#steering-1 .field-error").textContent != ""`
	offline.name, offline.leave = "pool-offline", true
	offline.act = open(2)
	offline.done = `document.querySelector("#connection").dataset.state == "offline" && document.querySelector("#steering-2 [disabled]") != null`
	budget := pool
	budget.name = "pool-budget"
	budget.act = `(document.querySelector(".budget").open = true) && ` + enter("budget", "0") + ` && ` + submit(".budget-form")
	budget.done = `document.querySelector("#budget-wrong").textContent != ""`
	return append(list, mistake, refused, offline, budget)
}

func enter(id, text string) string {
	return fmt.Sprintf(`(() => { document.getElementById(%q).value = %q; return true })()`, id, text)
}

func submit(form string) string {
	return fmt.Sprintf(`(() => { document.querySelector(%q).requestSubmit(); return true })()`, form)
}
