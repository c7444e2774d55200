package prompt

import (
	"strings"
	"testing"
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
	} {
		if got := Scrub(tt.words, tt.sent...); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.words, got, tt.want)
		}
	}
}
