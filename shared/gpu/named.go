package gpu

import (
	"slices"
	"strings"
)

// Named names devices in order, runs of more than two as such: "Device 3", "devices 0 and 1", "devices 0–5, 9 and CPU". "" for none.
func Named(refs []Ref) string {
	refs = slices.Clone(refs)
	slices.Sort(refs)
	refs = slices.Compact(refs)
	if len(refs) == 1 {
		return refs[0].Label()
	}
	names, processor := runs(refs)
	switch {
	case processor && len(refs) == 2:
		return "Device " + names[0] + " and " + CPU.Label()
	case processor:
		names = append(names, CPU.Label())
	case len(names) == 0:
		return ""
	}
	return "devices " + Listed(names)
}

// runs gives sorted numbers as people list them, "0–5" for a run of more than two, and whether the processor, which is named last, is
// among them.
func runs(refs []Ref) (names []string, processor bool) {
	for i := 0; i < len(refs); i++ {
		if refs[i] == CPU {
			processor = true
			continue
		}
		end := i
		for end+1 < len(refs) && refs[end+1] == refs[end]+1 {
			end++
		}
		if end-i < 2 {
			names = append(names, refs[i].String())
			continue
		}
		names = append(names, refs[i].String()+"–"+refs[end].String())
		i = end
	}
	return names, processor
}

// Listed joins names as people do: "0, 1 and 4".
func Listed(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
