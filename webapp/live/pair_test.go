package live

import (
	"strings"
	"testing"
)

func TestPairCode(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, in, want string }{
		{"the printed link", "http://127.0.0.1:8000/#pair=ABC-123", "ABC-123"},
		{"with blanks around", "  http://localhost:9000/#pair=ABC \n", "ABC"},
		{"a fragment", "#pair=ABC", "ABC"},
		{"the code alone", "ABC_9", "ABC_9"},
		{"with more behind it", "#pair=ABC&x=1", "ABC"},
		{"a line of text with the link", "open http://h/#pair=ABC now", "ABC"},
		{"another link", "http://127.0.0.1:8000/", ""},
		{"empty", "", ""},
		{"empty code", "#pair=", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := PairCode(test.in); got != test.want {
				t.Errorf("PairCode(%q) = %q, want %q", test.in, got, test.want)
			}
		})
	}
}

func FuzzPairCode(f *testing.F) {
	for _, seed := range []string{"http://127.0.0.1:8000/#pair=ABC", "ABC", "#pair=A#pair=B", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if code := PairCode(text); strings.ContainsAny(code, "&# \t\r\n") {
			t.Errorf("PairCode(%q) = %q", text, code)
		}
	})
}
