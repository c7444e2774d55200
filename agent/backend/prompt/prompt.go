// Package prompt keeps what a person writes from doing more than describing an image: from giving a generator orders, and from standing
// in errors and logs. It is a leaf of the backends: they import it, it knows none of them.
package prompt

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// tag is what sd-server takes orders by from within a prompt, in its OpenAI and sdapi families of routes alike
// (extract_and_remove_sd_cpp_extra_args): seed, steps, paths of files.
var tag = regexp.MustCompile(`(?i)<(/?\s*sd_cpp_extra_args)`)

// Plain takes their meaning from sd-server's tags in a text.
func Plain(text string) string { return tag.ReplaceAllString(text, "< $1") }

// scrubbed is how many bytes of a text give it away, wherever in it they stand: about 24 with the blank space between words.
const scrubbed = 18

// Scrub cuts a program's words where they begin to repeat what was sent: prompts are not shown in errors. Blank space and control
// characters count on neither side: programs quote without them, and what is shown to people has lost them. The cost grows with the sum of
// both lengths.
func Scrub(words string, sent ...string) string {
	for _, text := range sent {
		if at := quoted(words, text); at >= 0 {
			words = strings.TrimSpace(words[:at]) + "…"
		}
	}
	return words
}

// quoted gives where words begin to repeat a text; -1 when they don't, or when the text is too short to tell.
func quoted(words, text string) int {
	bare, _ := reduce(text)
	if len(bare) < 4 {
		return -1
	}
	shown, at := reduce(words)
	size := min(len(bare), scrubbed)
	first := map[string]int{} // where each piece of words stands for the first time
	for i := 0; i+size <= len(shown); i++ {
		if _, known := first[shown[i:i+size]]; !known {
			first[shown[i:i+size]] = i
		}
	}
	found := len(shown)
	for i := 0; len(first) > 0 && i+size <= len(bare); i++ {
		if where, ok := first[bare[i:i+size]]; ok {
			found = min(found, where)
		}
	}
	if found == len(shown) {
		return -1
	}
	return at[found]
}

// reduce leaves out what does not count, and tells for each byte that is left where in the text it stood.
func reduce(text string) (bare string, at []int) {
	var left strings.Builder
	left.Grow(len(text))
	at = make([]int, 0, len(text))
	for i, r := range text {
		if unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar {
			continue
		}
		for n := range utf8.RuneLen(r) {
			at = append(at, i+n)
		}
		left.WriteRune(r)
	}
	return left.String(), at
}
