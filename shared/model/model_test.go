package model

import "testing"

func TestFitOf(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	for _, tt := range []struct {
		name   string
		need   uint64
		memory *uint64
		want   Fit
	}{
		{"need not known", 0, new(uint64(24 * gib)), FitUnknown},
		{"memory not known", 4 * gib, nil, FitUnknown},
		{"memory of zero", 4 * gib, new(uint64(0)), FitUnknown},
		{"too large", 24*gib + 1, new(uint64(24 * gib)), FitNot},
		{"exactly", 24 * gib, new(uint64(24 * gib)), FitTight},
		{"tight", 15 * gib, new(uint64(16 * gib)), FitTight},
		{"well", 8 * gib, new(uint64(16 * gib)), FitWell},
	} {
		if got := FitOf(tt.need, tt.memory); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}
