package builtin

import "testing"

func TestWordsBecomeTraits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		prompt, negative string
		want             func(traits) bool
	}{
		{"woman with red hair", "", func(t traits) bool { return t.hair == hairColours["red"] && t.feminine > 0.9 && t.beard == 0 }},
		{"man with blue eyes", "", func(t traits) bool { return t.eyes == eyeColours["blue"] && t.feminine < 0.2 }},
		{"a green dress", "", func(t traits) bool { return t.cloth == colours["green"] }},
		{"man with a long white beard", "", func(t traits) bool { return t.hair == hairColours["white"] && t.beard == 1 }},
		{"KING, by the sea!", "", func(t traits) bool { return t.hat == crown && t.place == sea }},
		{"ein alter Mann mit Brille", "", func(t traits) bool { return t.age == 1 && t.glasses && t.feminine < 0.2 }},
		{"woman with glasses and a hat", "glasses, hat", func(t traits) bool { return !t.glasses && t.hat == noHat }},
		{"viking with a beard", "beard", func(t traits) bool { return t.beard == 0 }},
		{"stars in the city", "", func(t traits) bool { return t.place == city }},
		{"ein Fuchs", "", func(t traits) bool { return t.animal && t.place == forest }},
	} {
		t.Run(tt.prompt, func(t *testing.T) {
			t.Parallel()
			for seed := range int64(40) {
				if got, _ := read(tt.prompt, tt.negative, seed); !tt.want(got) {
					t.Fatalf("seed %d: %+v", seed, got)
				}
			}
		})
	}
}
