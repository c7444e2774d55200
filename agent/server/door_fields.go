package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"unicode/utf8"

	"muster/shared/gpu"
)

// fields reads one JSON object of a program that sends more than is known here: other names are passed over, null is as good as
// absent, and of a name that comes twice the last counts, as where these programs come from. Names are exact. The first mistake is
// kept, so that a reader asks for what it knows and looks at err once.
type fields struct {
	values map[string]json.RawMessage
	prefix string // of the names in errors: "override_settings."
	loose  bool   // numbers and truth may be written as strings, as FastAPI takes them
	err    error  // a *refusal; nil while nothing is wrong
}

// parseFields takes an empty body for an empty object: then what is required is what is missing.
func parseFields(body []byte, loose bool) (*fields, error) {
	f := &fields{loose: loose}
	if len(bytes.TrimSpace(body)) == 0 {
		return f, nil
	}
	if !utf8.Valid(body) {
		return nil, errNotUTF8
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(&f.values); err != nil {
		return nil, explainJSON(err, nil)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, &refusal{status: http.StatusBadRequest, code: "invalid_json", message: "something follows the JSON object: send exactly one"}
	}
	return f, nil
}

func (f *fields) fail(name, format string, args ...any) {
	if f.err == nil {
		f.err = invalid(f.prefix+name, format, args...)
	}
}

// raw gives a value as it was sent; nil when it is absent or null.
func (f *fields) raw(name string) json.RawMessage {
	value := f.values[name]
	if bytes.Equal(value, []byte("null")) {
		return nil
	}
	return value
}

// kind names what a JSON value is, for errors.
func kind(value json.RawMessage) string {
	switch value[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "true or false"
	}
	return cut(string(value))
}

// text gives a string; "" when it is absent.
func (f *fields) text(name string) string {
	value := f.raw(name)
	if value == nil {
		return ""
	}
	var text string
	if json.Unmarshal(value, &text) != nil {
		f.fail(name, "must be a string, not %s", kind(value))
	}
	return text
}

// literal gives a number or truth as it is written.
func (f *fields) literal(value json.RawMessage) string {
	var text string
	if f.loose && json.Unmarshal(value, &text) == nil {
		return text
	}
	return string(value)
}

// number gives a finite number; nil when it is absent.
func (f *fields) number(name string) *float64 {
	value := f.raw(name)
	if value == nil {
		return nil
	}
	n, err := strconv.ParseFloat(f.literal(value), 64)
	if err != nil || math.IsInf(n, 0) || math.IsNaN(n) {
		f.fail(name, "must be a number in range, not %s", kind(value))
		return nil
	}
	return &n
}

// whole gives a whole number, however it is written; nil when it is absent.
func (f *fields) whole(name string) *int64 {
	value := f.raw(name)
	if value == nil {
		return nil
	}
	literal := f.literal(value)
	if n, err := strconv.ParseInt(literal, 10, 64); err == nil {
		return &n
	}
	const exact = 1 << 53
	n, err := strconv.ParseFloat(literal, 64)
	switch {
	case errors.Is(err, strconv.ErrRange), err == nil && math.Abs(n) >= exact:
		f.fail(name, "is %s: out of range", cut(literal))
		return nil
	case err != nil || n != math.Trunc(n):
		f.fail(name, "must be a whole number, not %s", kind(value))
		return nil
	}
	return new(int64(n))
}

// within gives a whole number between two bounds; fallback when it is absent.
func (f *fields) within(name string, fallback, least, most int) int {
	n := f.whole(name)
	if n == nil {
		return fallback
	}
	if *n < int64(least) || *n > int64(most) {
		f.fail(name, "is %d; allowed is %d to %d", *n, least, most)
		return fallback
	}
	return int(*n)
}

// flag gives true or false; fallback when it is absent.
func (f *fields) flag(name string, fallback bool) bool {
	value := f.raw(name)
	if value == nil {
		return fallback
	}
	literal := f.literal(value)
	if truth, err := strconv.ParseBool(literal); err == nil && (f.loose || literal == "true" || literal == "false") {
		return truth
	}
	f.fail(name, "must be true or false, not %s", kind(value))
	return fallback
}

// object gives the fields of an object; without any when it is absent. Its mistakes are its own.
func (f *fields) object(name string) *fields {
	inner := &fields{prefix: f.prefix + name + ".", loose: f.loose}
	if value := f.raw(name); value != nil && json.Unmarshal(value, &inner.values) != nil {
		f.fail(name, "must be an object, not %s", kind(value))
	}
	return inner
}

// list gives the elements of an array; nil when it is absent.
func (f *fields) list(name string) []json.RawMessage {
	var list []json.RawMessage
	if value := f.raw(name); value != nil && json.Unmarshal(value, &list) != nil {
		f.fail(name, "must be an array, not %s", kind(value))
	}
	return list
}

// device reads device_id, which no other program knows: it pins the set to one device. nil when it is absent.
func (f *fields) device() *gpu.Ref {
	value := f.raw("device_id")
	if value == nil {
		return nil
	}
	var ref gpu.Ref
	if err := json.Unmarshal(value, &ref); err != nil {
		f.fail("device_id", `must be a device's number or "cpu", not %s`, kind(value))
		return nil
	}
	return &ref
}
