package gpu

import "testing"

func TestDevicesAreNamed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		refs []Ref
		want string
	}{
		{nil, ""}, {[]Ref{3}, "Device 3"}, {[]Ref{CPU}, "CPU"}, {[]Ref{1, 0}, "devices 0 and 1"}, {[]Ref{CPU, 0}, "Device 0 and CPU"}, {[]Ref{2, 2, 2}, "Device 2"},
		{[]Ref{0, 1, 2}, "devices 0–2"}, {[]Ref{7, 0, 1, 2, 3}, "devices 0–3 and 7"}, {[]Ref{9, 4, 5, 6, 0, 1}, "devices 0, 1, 4–6 and 9"}, {[]Ref{0, 1, 2, CPU}, "devices 0–2 and CPU"},
		{[]Ref{0, 1, CPU}, "devices 0, 1 and CPU"},
	} {
		before := len(test.refs)
		if got := Named(test.refs); got != test.want || len(test.refs) != before {
			t.Errorf("%v: %q, want %q", test.refs, got, test.want)
		}
	}
	if got := Listed(nil) + Listed([]string{"a"}) + Listed([]string{"a", "b", "c"}); got != "aa, b and c" {
		t.Error(got)
	}
}
