package agent

import "testing"

func TestSize(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		want Size
		text string // "" is refused
	}{
		{"0", 0, "0"}, {"20GB", 20e9, "20GB"}, {"1.5 TB", 1.5e12, "1500GB"}, {"512mib", 512 << 20, "536870912"}, {" 7 B ", 7, "7"},
		{"2000000", 2e6, "2MB"}, {"", 0, ""}, {"GB", 0, ""}, {"-1GB", 0, ""}, {"1e3", 0, ""}, {"0x10", 0, ""}, {"NaN", 0, ""},
		{"Inf", 0, ""}, {"9999999TB", 0, ""}, {"1 GB of images", 0, ""}, {"1..5GB", 0, ""},
	} {
		var got Size
		err := got.Set(tt.in)
		if (err == nil) != (tt.text != "") || err == nil && (got != tt.want || got.String() != tt.text) {
			t.Errorf("%q: %d, %q, %v; want %d, %q", tt.in, got, got, err, tt.want, tt.text)
		}
	}
}

func FuzzSize(f *testing.F) {
	for _, seed := range []string{"0", "20GB", "1.5TiB", "99999999999999999999", ".", "1e9"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s, again Size
		if s.Set(text) != nil {
			return
		}
		if err := again.Set(s.String()); s < 0 || err != nil || again != s {
			t.Errorf("%q is %d, written %q, read as %d, %v", text, s, s, again, err)
		}
	})
}
