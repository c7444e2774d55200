package telemetry

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"muster/shared/gpu"
)

// fields gives the position of every field of a struct by its name in JSON.
type fields map[string]int

func fieldsOf[T any]() fields {
	f := fields{}
	t := reflect.TypeFor[T]()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		f[name] = i
	}
	return f
}

var (
	readingFields = fieldsOf[gpu.Reading]()
	detailFields  = fieldsOf[gpu.Details]()
	deviceFields  = fieldsOf[gpu.Device]()
)

// has says whether the field of that name has a value; false when there is no such field.
func (f fields) has(of any, name string) bool {
	at, ok := f[name]
	return ok && !reflect.ValueOf(of).Elem().Field(at).IsZero()
}

// fillHoles gives every field that has no value the other's. It is not for the tick: see combine.
func fillHoles[T any](to *T, from T) {
	target, source := reflect.ValueOf(to).Elem(), reflect.ValueOf(from)
	for i := range target.NumField() {
		if target.Field(i).IsZero() {
			target.Field(i).Set(source.Field(i))
		}
	}
}

// fillPointed is fillHoles for structs that may not be there at all. What it is given stays as it is.
func fillPointed[T any](to **T, from *T) {
	if from == nil {
		return
	}
	filled := *from
	if *to != nil {
		filled = **to
		fillHoles(&filled, *from)
	}
	*to = &filled
}

// unsuspected gives a without the values that contradict others of a while b has one that nothing speaks against, and names the
// suspect fields that are left once b has filled the holes. It takes copies: only what is suspect costs the tick.
func unsuspected(a, b gpu.Reading) gpu.Reading {
	var left []string
	for _, name := range a.Suspect {
		if readingFields.has(&b, name) && !b.IsSuspect(name) {
			reflect.ValueOf(&a).Elem().Field(readingFields[name]).SetZero()
			continue
		}
		left = append(left, name)
	}
	for _, name := range b.Suspect {
		if !readingFields.has(&a, name) && !slices.Contains(left, name) {
			left = append(left, name)
		}
	}
	slices.SortStableFunc(left, func(x, y string) int { return cmp.Compare(readingFields[x], readingFields[y]) })
	a.Suspect = left
	return a
}

// stillAbsent leaves of the reasons those whose values nobody reported.
func stillAbsent(absent map[string]gpu.Absence, reading *gpu.Reading, details *gpu.Details) map[string]gpu.Absence {
	var left map[string]gpu.Absence
	for name, why := range absent {
		if readingFields.has(reading, name) || detailFields.has(details, name) {
			continue
		}
		if left == nil {
			left = make(map[string]gpu.Absence, len(absent))
		}
		left[name] = why
	}
	return left
}

// mergeAbsent joins the reasons of two readers: the first's, unless only the other says what a person could change.
func mergeAbsent(a, b map[string]gpu.Absence) map[string]gpu.Absence {
	if len(a) == 0 {
		return b
	}
	merged := make(map[string]gpu.Absence, len(a)+len(b))
	for name, why := range b {
		merged[name] = why
	}
	for name, why := range a {
		if other, ok := b[name]; !ok || why != gpu.AbsentUnsupported {
			merged[name] = why
		} else {
			merged[name] = other
		}
	}
	return merged
}
