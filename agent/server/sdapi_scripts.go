package server

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// sdapiRefused refuses what would make other images than those that are asked for, and nobody would be told.
func sdapiRefused(f *fields) error {
	notHere := func(name, what string) error {
		return &refusal{status: http.StatusUnprocessableEntity, code: "unsupported", field: name, message: what}
	}
	switch script := f.text("script_name"); {
	case f.flag("enable_hr", false):
		return notHere("enable_hr", "hires fix is not here: ask for the size that you want, with enable_hr false")
	case len(f.list("init_images")) > 0:
		return notHere("init_images", "images are only made from text here")
	case script != "" && !strings.EqualFold(script, "none"):
		return notHere("script_name", fmt.Sprintf("Script '%s' not found", cut(script)))
	}
	scripts := f.object("alwayson_scripts")
	for _, name := range slices.Sorted(maps.Keys(scripts.values)) { // so that the same request has the same answer
		if sdapiScript(name, scripts.raw(name)) {
			return notHere("alwayson_scripts", fmt.Sprintf("always on script %s not found", cut(name)))
		}
	}
	if f.err == nil {
		f.err = scripts.err
	}
	return f.err
}

// sdapiHarmless are scripts that say once more what other fields say, in lower case.
var sdapiHarmless = []string{"api payload", "comments", "extra options", "never oom integrated", "sampler", "seed"}

// sdapiScript says whether a script is asked to change the images: it has arguments, and is not switched off by them.
func sdapiScript(name string, value json.RawMessage) bool {
	if slices.Contains(sdapiHarmless, strings.ToLower(name)) {
		return false
	}
	var script struct {
		Args json.RawMessage `json:"args"`
	}
	if json.Unmarshal(value, &script) != nil {
		return false
	}
	var list []json.RawMessage
	if json.Unmarshal(script.Args, &list) != nil { // some take an object by name
		list = nil
		if len(script.Args) > 0 && script.Args[0] == '{' {
			list = []json.RawMessage{script.Args}
		}
	}
	return slices.ContainsFunc(list, func(arg json.RawMessage) bool { return sdapiSwitchedOn(arg) })
}

// sdapiSwitchedOn says whether an argument of a script asks for something.
func sdapiSwitchedOn(arg json.RawMessage) bool {
	switch string(arg) {
	case "false", "null", `""`, "{}", `"None"`, "0":
		return false
	}
	var unit struct {
		Enabled *bool   `json:"enabled"` // ControlNet
		Enable  *bool   `json:"enable"`  // AnimateDiff
		Model   *string `json:"ad_model"`
	}
	if arg[0] != '{' || json.Unmarshal(arg, &unit) != nil {
		return true
	}
	off := unit.Enabled != nil && !*unit.Enabled || unit.Enable != nil && !*unit.Enable || unit.Model != nil && *unit.Model == "None"
	return !off
}
