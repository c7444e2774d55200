package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"muster/shared/job"
	"muster/shared/wire"
)

// Limits of what a client sends.
const (
	maxBodyBytes = 64 << 10
	bodyTimeout  = 10 * time.Second
	maxQuoted    = 60 // characters of a wrong value that an error repeats
)

// limitBody gives a request's body bodyTimeout to arrive, whether or not anybody reads it: net/http itself reads what a route or a
// refusal left of it before it answers, and would wait for ever.
func limitBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // recorders of tests know no deadlines
	}
}

// readBody reads a whole body, in the time that limitBody gave it. Errors: *http.MaxBytesError, a *refusal.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	return readLong(w, r, maxBodyBytes)
}

// readLong is readBody for a body of up to limit bytes.
func readLong(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var long *http.MaxBytesError
	if err != nil && !errors.As(err, &long) {
		return nil, &refusal{status: http.StatusBadRequest, code: "body", message: "the body did not arrive whole"}
	}
	if err == nil {
		// The deadline is the connection's, so it must be gone before the answer is waited for: net/http takes a read that times
		// out for a client that went away.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	}
	return body, err
}

// decodeBody reads the body into a struct, strictly: see decodeJSON.
func decodeBody(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	return decodeJSON(body, into)
}

var errNotUTF8 = &refusal{status: http.StatusBadRequest, code: "invalid_json", message: "the text is not valid UTF-8: JSON is UTF-8"}

// decodeJSON reads exactly one JSON object into a struct. Unknown fields, wrong types and anything after it are refused by a
// *refusal that names the field and what is allowed.
func decodeJSON(body []byte, into any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		return &refusal{status: http.StatusBadRequest, code: "invalid_json", message: "the body is empty: want a JSON object"}
	}
	if !utf8.Valid(body) { // encoding/json would put replacement characters into prompts
		return errNotUTF8
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return explainJSON(err, fieldNames(into))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return &refusal{status: http.StatusBadRequest, code: "invalid_json", message: "something follows the JSON object: send exactly one"}
	}
	return nil
}

// checkZeros refuses sizes, steps and counts of a command that are spelled out as 0. In a job.Spec, 0 stands for what was left out:
// it would become a default that nobody asked for. Other mistakes are left to who decodes and validates.
func checkZeros(spec []byte) error {
	var given struct {
		Width  *int `json:"width"`
		Height *int `json:"height"`
		Steps  *int `json:"steps"`
		Count  *int `json:"count"`
	}
	if json.Unmarshal(spec, &given) != nil {
		return nil
	}
	zeroed := job.Spec{Prompt: "any"}.WithDefaults()
	for into, value := range map[*int]*int{&zeroed.Width: given.Width, &zeroed.Height: given.Height, &zeroed.Steps: given.Steps, &zeroed.Count: given.Count} {
		if value != nil && *value == 0 {
			*into = 0
		}
	}
	return zeroed.Validate()
}

// explainJSON turns an error of encoding/json into words. known are the names that the object may have.
func explainJSON(err error, known []string) *refusal {
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	text := strings.TrimPrefix(err.Error(), wire.ErrMalformed.Error()+": ")
	switch {
	case errors.As(err, &kind):
		return explainType(kind)
	case errors.As(err, &syntax):
		return &refusal{status: http.StatusBadRequest, code: "invalid_json", message: fmt.Sprintf("not JSON: error at byte %d", syntax.Offset)}
	case errors.Is(err, io.EOF):
		return &refusal{status: http.StatusBadRequest, code: "invalid_json", message: "nothing was sent: want a JSON object"}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &refusal{status: http.StatusBadRequest, code: "invalid_json", message: "not JSON: it ends in the middle"}
	}
	// encoding/json has no type for this one.
	if _, quoted, found := strings.Cut(text, "unknown field "); found {
		name, err := strconv.Unquote(quoted)
		if err != nil {
			name = quoted
		}
		return invalid(cut(name), "is not a field here; allowed are %s", strings.Join(known, ", "))
	}
	if at := new(time.ParseError); errors.As(err, &at) || strings.Contains(text, "Time.UnmarshalJSON") {
		return invalid("until", "must be a time such as 2026-01-31T22:00:00Z")
	}
	if _, rest, found := strings.Cut(text, "device_id "); found { // gpu.Ref says so itself
		return invalid("device_id", "%s", cut(rest))
	}
	return &refusal{status: http.StatusBadRequest, code: "invalid_json", message: "not the JSON that is wanted here: " + cut(text)}
}

func explainType(e *json.UnmarshalTypeError) *refusal {
	path := strings.Split(e.Field, ".")
	field := path[len(path)-1]
	got, number, _ := strings.Cut(e.Value, " ")
	if number != "" {
		got = cut(number)
	}
	if field == "" {
		return &refusal{status: http.StatusBadRequest, code: "invalid_json", message: "want a JSON object, not " + article(got)}
	}
	whole := func() bool {
		_, err := strconv.ParseFloat(number, 64)
		return err == nil && !strings.ContainsAny(number, ".eE")
	}
	switch e.Type.Kind() {
	case reflect.Int, reflect.Int64, reflect.Uint64:
		if number != "" && whole() {
			return invalid(field, "is %s: out of range", got)
		}
		return invalid(field, "must be a whole number, not %s", article(got))
	case reflect.Float64:
		return invalid(field, "must be a number in range, not %s", article(got))
	case reflect.Bool:
		return invalid(field, "must be true or false, not %s", article(got))
	case reflect.String:
		return invalid(field, "must be a string, not %s", article(got))
	default:
		return invalid(field, "must be an object, not %s", article(got))
	}
}

// article gives "a string", "an array" and the like; numbers stay as they are.
func article(word string) string {
	switch word {
	case "array", "object":
		return "an " + word
	case "string", "number":
		return "a " + word
	case "bool":
		return "true or false"
	default:
		return word
	}
}

// fieldNames lists the JSON names of a struct's fields, for the message about one that is not among them.
func fieldNames(of any) []string {
	t := reflect.TypeOf(of)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var names []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// cut shortens what an error repeats of a request.
func cut(s string) string {
	if runes := []rune(s); len(runes) > maxQuoted {
		return string(runes[:maxQuoted]) + "…"
	}
	return s
}

// query reads the query of muster's own routes: names that are not among known, and names given twice, are refused.
func query(r *http.Request, known ...string) (url.Values, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &refusal{status: http.StatusBadRequest, code: "invalid", message: "the query is not well-formed: " + cut(err.Error())}
	}
	for name, given := range values {
		if !slices.Contains(known, name) {
			if len(known) == 0 {
				return nil, invalid(cut(name), "is not a parameter here; there are none")
			}
			return nil, invalid(cut(name), "is not a parameter here; allowed are %s", strings.Join(known, ", "))
		}
		if len(given) > 1 {
			return nil, invalid(name, "is given %d times: once is enough", len(given))
		}
	}
	return values, nil
}

// number reads a whole number of a query; fallback when it is not there.
func number(values url.Values, name string, fallback, least, most int) (int, error) {
	text := values.Get(name)
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, invalid(name, "is %q; allowed is a whole number from %d to %d", cut(text), least, most)
	}
	return n, nil
}
