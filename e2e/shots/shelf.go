package main

import (
	"time"

	"muster/e2e/stage"
	"muster/shared/gpu"
	"muster/shared/model"
	"muster/shared/wire"
)

// shelves are pictures of models and generators, and of what can be done with them.
func shelves() []scene {
	const ready = connected + ` && document.querySelectorAll("[data-device]").length == 8 && document.querySelectorAll("[data-model].entry").length == 13`
	full := scene{name: "shelf", staged: true, machine: stage.Shelf, ready: ready}
	const look = `(() => { const d = document.querySelector("#adding"); d.open = true; return true })()`
	adding, mistake, removing, refused, offline, empty := full, full, full, full, full, full
	adding.name, adding.act, adding.done = "shelf-adding", look, `document.querySelectorAll("[data-offer].entry").length == 4`
	mistake.name, mistake.act = "shelf-mistake", look+` && `+enter("install-source", "nowhere")+` && `+enter("install-sha256", "abc")+` && `+submit("#install")
	mistake.done = `document.querySelector("#install-source-wrong").textContent != ""`
	removing.name, removing.act = "shelf-removing", `(document.querySelector('[data-model="sd_xl_turbo_1.0"] [data-act="remove"]').click(), true)`
	removing.done = `document.querySelector(".confirm") != null`
	refused.name, refused.refuse = "shelf-refused", "Device 5 has room for 7.2 GiB, chroma-unlocked-v37-Q8_0 needs about 12.8 GiB"
	refused.act = `(document.querySelector('[data-model="chroma-unlocked-v37-Q8_0"] [data-act="load"]').click(), true)`
	refused.done = `document.querySelector('[data-model="chroma-unlocked-v37-Q8_0"] .field-error').textContent != ""`
	offline.name, offline.leave = "shelf-offline", true
	offline.act = look
	offline.done = `document.querySelector("#connection").dataset.state == "offline" && document.querySelector("#install-send").disabled`
	empty.name, empty.machine, empty.act = "shelf-empty", nothing, look
	empty.ready = connected + ` && document.querySelector(".connect") != null`
	empty.done = `document.querySelectorAll("[data-offer].entry").length == 4`
	return []scene{full, adding, mistake, removing, refused, offline, empty, {name: "shelf-many", staged: true, machine: many, ready: connected + ` && document.querySelectorAll("[data-device]").length >= 8`}}
}

// nothing is a machine on which nobody has set anything up yet.
func nothing(now time.Time) []wire.Event {
	events := stage.Machine(now)
	return append(events,
		wire.Event{Capacity: &wire.Capacity{
			DefaultModel: "sketch", Models: []wire.Model{{Name: "sketch", Title: "built-in sketch renderer, no AI model"}}, Slots: []wire.Slot{{Device: gpu.CPU, Backend: "builtin", Models: []string{"sketch"}}},
			Generators: []wire.Generator{{ID: "builtin", Kind: "builtin", Title: "built-in sketch renderer, no AI model", Device: new(gpu.CPU), State: wire.GeneratorReady, Models: 1}},
		}},
		wire.Event{Library: &model.Library{Dir: "/home/ada/.local/share/muster/models", FreeBytes: new(uint64(812_000_000_000)), Models: []model.Model{}}})
}

// many is 64 devices with a generator each.
func many(now time.Time) []wire.Event {
	events := stage.Shelf(now)
	for _, e := range events {
		if e.Inventory != nil {
			for i := 8; i < 64; i++ {
				d := e.Inventory.Devices[0]
				d.Index = gpu.Ref(i)
				d.ID += "-" + d.Index.String()
				e.Inventory.Devices = append(e.Inventory.Devices, d)
			}
		}
		if e.Snapshot != nil {
			for i := 8; i < 64; i++ {
				r := e.Snapshot.GPUs[i%8]
				r.Index = gpu.Ref(i)
				e.Snapshot.GPUs = append(e.Snapshot.GPUs, r)
			}
		}
		if e.Details != nil {
			for len(e.Details.Devices) < 64 {
				e.Details.Devices = append(e.Details.Devices, e.Details.Devices[0])
			}
		}
		if e.Capacity != nil {
			for i := 8; i < 64; i++ {
				slot, g := e.Capacity.Slots[0], e.Capacity.Generators[0]
				slot.Device, g.Device, g.ID = gpu.Ref(i), new(gpu.Ref(i)), "sdserver "+gpu.Ref(i).String()
				if i%3 == 0 {
					slot.Loaded = "flux1-dev"
				}
				e.Capacity.Slots, e.Capacity.Generators = append(e.Capacity.Slots, slot), append(e.Capacity.Generators, g)
			}
		}
	}
	return events
}
