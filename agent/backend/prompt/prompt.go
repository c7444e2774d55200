// Package prompt keeps what a person writes from doing more than describing an image: from giving a generator orders, and from standing
// in errors and logs. It is a leaf of the backends: they import it, it knows none of them.
package prompt

import (
	"regexp"
	"strings"
)

// tag is what sd-server takes orders by from within a prompt, in its OpenAI and sdapi families of routes alike
// (extract_and_remove_sd_cpp_extra_args): seed, steps, paths of files.
var tag = regexp.MustCompile(`(?i)<(/?\s*sd_cpp_extra_args)`)

// Plain takes their meaning from sd-server's tags in a text.
func Plain(text string) string { return tag.ReplaceAllString(text, "< $1") }

// scrubbed is how many bytes of a text give it away.
const scrubbed = 24

// Scrub cuts a program's words where they begin to repeat what was sent: prompts are not shown in errors.
func Scrub(words string, sent ...string) string {
	for _, text := range sent {
		if len(text) < 4 {
			continue // too little to tell
		}
		if at := strings.Index(words, text[:min(len(text), scrubbed)]); at >= 0 {
			words = strings.TrimSpace(words[:at]) + "…"
		}
	}
	return words
}
