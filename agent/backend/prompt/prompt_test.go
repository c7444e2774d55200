package prompt

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestPlain(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a cat": "a cat",
		`a <sd_cpp_extra_args>{"seed":1}</sd_cpp_extra_args>`: `a < sd_cpp_extra_args>{"seed":1}< /sd_cpp_extra_args>`,
		"<SD_CPP_Extra_Args>":                    "< SD_CPP_Extra_Args>",
		"<<sd_cpp_extra_args>sd_cpp_extra_args>": "<< sd_cpp_extra_args>sd_cpp_extra_args>",
		"1 < 2 <lora:x:1>":                       "1 < 2 <lora:x:1>",
	} {
		if got := Plain(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("a <sd_cpp_extra_args>{}</sd_cpp_extra_args>")
	f.Add("<<sd_cpp_extra_argssd_cpp_extra_args>")
	f.Fuzz(func(t *testing.T, text string) {
		got := strings.ToLower(Plain(text))
		if strings.Contains(got, "<sd_cpp_extra_args") || strings.Contains(got, "</sd_cpp_extra_args") {
			t.Errorf("%q", got)
		}
	})
}

func TestScrub(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		words string
		sent  []string
		want  string
	}{
		{"no room", []string{"a walrus on a roof"}, "no room"},
		{"can't parse 'a walrus on a roof' here", []string{"a walrus on a roof"}, "can't parse '…"},
		{"can't parse a walrus on a roof in the…", []string{"a walrus on a roof in the rain, oil on canvas"}, "can't parse…"},
		{"rain is bad", []string{"a walrus", "rain"}, "…"},
		{"to be", []string{"to"}, "to be"},
		{"", []string{""}, ""},
		{"can't parse 'a walrusin a hat'", []string{"a walrus\nin a hat"}, "can't parse '…"},
		{"can't parse 'a walrus\tin   a hat'", []string{"a walrus in a hat"}, "can't parse '…"},
		{"bad: a walrus here", []string{"  \u00a0a walrus"}, "bad:…"},
		{"bad: a walrus here", []string{"\xff\ufffda wal\x00rus"}, "bad:…"},
		{"no token 'a roof in the rain, oil on canv…", []string{"a walrus on a roof in the rain, oil on canvas"}, "no token '…"},
		{"no token 'ein Walroß auf dem Dach'", []string{"ein Bild: ein Walroß auf dem Dach im Regen"}, "no token '…"},
		{"on canvas: a walrus on a roof in the rain", []string{"a walrus on a roof in the rain, oil on canvas"}, "on canvas:…"},
		{"to b e", []string{" t o\n"}, "to b e"},
	} {
		if got := Scrub(tt.words, tt.sent...); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.words, got, tt.want)
		}
	}
}

// A long prompt is looked for everywhere in long words, in a time that nobody notices.
func TestScrubOfLongTexts(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range 1600 {
		text.WriteString(strconv.Itoa(i*7919) + " ")
	}
	sent := text.String()[:8<<10]
	same := strings.Repeat("a", 8<<10)
	begun := time.Now()
	if got := Scrub("it says "+sent[4000:4100], sent); got != "it says…" {
		t.Errorf("got %q", got)
	}
	if got := Scrub(same+"b", strings.Repeat("a", 23)+"c"+same[:8000]); got != "…" {
		t.Errorf("got %d bytes", len(got))
	}
	if got := Scrub(same, strings.Repeat("aaab", 2<<10)); got != same {
		t.Errorf("got %d bytes", len(got))
	}
	if took := time.Since(begun); took > time.Second { // about 10 ms; where every place is compared with every other it is minutes
		t.Errorf("it took %v", took)
	}
}

func FuzzScrub(f *testing.F) {
	f.Add("can't parse 'a walrus' here", "a walrus")
	f.Add("\xff\n", "a\x00\ufffd")
	f.Fuzz(func(t *testing.T, words, sent string) {
		got := Scrub(words, sent)
		bare, _ := reduce(sent)
		if shown, _ := reduce(strings.TrimSuffix(got, "…")); len(bare) >= 4 && strings.Contains(shown, bare) {
			t.Errorf("%q still holds %q", got, sent)
		}
	})
}
