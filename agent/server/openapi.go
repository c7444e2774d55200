package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"muster/agent/server/openapi"
)

// operation is what the description of the API says of a route beside what its line in the table does.
type operation struct {
	summary string
	path    string // where it differs from the route's: one of those that its pattern stands for
	params  []param
	asks    body            // what is sent; the zero value is nothing
	answers map[int]success // those that are no errors, by status
	errors  map[int]any     // errors that have another form than the others of the route: a value of the type
}

// param is a parameter of the query, or a header.
type param struct {
	name, words string
	schema      *openapi.Schema // nil is a string
	header      bool
	required    bool
}

// body is what a client sends.
type body struct {
	value any      // of the type that it is read into; nil for nothing, or for what is no JSON
	needs []string // the fields that must be there
	lax   bool     // other fields are passed over
	empty bool     // nothing at all is allowed too
	media string   // where it is no JSON of value
}

// success is what is answered with a status.
type success struct {
	value any    // of the type that is written; nil for no JSON
	media string // that it may be besides
	words string // "" is the status' own
}

// alternatives are the types of which an answer has one.
type alternatives []any

// ok is an answer with status 200.
func ok(value any) map[int]success { return map[int]success{http.StatusOK: {value: value}} }

// download is an answer with status 200 that is no JSON.
func download(media string) map[int]success { return map[int]success{http.StatusOK: {media: media}} }

// describe makes the description of the API of the routes and what is said of them. It panics where the two do not fit: a test
// calls it.
func describe(routes []route, build string) openapi.Document {
	types := newCatalogue()
	doc := openapi.Document{
		OpenAPI: openapi.Version, Info: openapi.Info{Title: "muster", Version: build, Description: "A machine with several GPUs: what they do, and images made on all of them."},
		Servers: []openapi.Server{{URL: "/"}}, Tags: apiTags, Paths: map[string]openapi.Path{},
		Components: openapi.Components{Schemas: types.Schemas(), SecuritySchemes: securitySchemes},
	}
	said := operations()
	for _, r := range routes {
		if r.method == "" || r.path == "/" { // what is left: errors, and the page
			continue
		}
		list := said[r.method+" "+r.path]
		if len(list) == 0 {
			panic("openapi: nothing is said of " + r.method + " " + r.path)
		}
		delete(said, r.method+" "+r.path)
		for _, op := range list {
			if op.path == "" {
				op.path = r.path
			}
			if doc.Paths[op.path] == nil {
				doc.Paths[op.path] = openapi.Path{}
			}
			doc.Paths[op.path][strings.ToLower(r.method)] = op.document(r, types)
		}
	}
	for left := range said {
		panic("openapi: there is no route " + left)
	}
	bound(doc.Components.Schemas)
	return doc
}

// openAPI answers GET /api/v1/openapi.json.
func (s *Server) openAPI(w http.ResponseWriter, _ *http.Request) error {
	s.described.Do(func() { s.description, s.descriptionErr = json.Marshal(describe(s.routes(), s.config.Build)) })
	if s.descriptionErr != nil {
		return fmt.Errorf("describe the API: %w", s.descriptionErr)
	}
	writeJSON(w, http.StatusOK, json.RawMessage(s.description))
	return nil
}

var pathParam = regexp.MustCompile(`\{([a-z]+)\}`)

func (op operation) document(r route, types *openapi.Catalogue) *openapi.Operation {
	out := &openapi.Operation{
		ID: operationID(r.method, op.path), Summary: op.summary, Tags: []string{tagOf(op.path)}, Security: securityOf(r),
		Responses: map[string]openapi.Response{"default": refusalOn(r, types)},
	}
	for _, found := range pathParam.FindAllStringSubmatch(op.path, -1) {
		out.Parameters = append(out.Parameters, openapi.Parameter{
			Name: found[1], In: "path", Required: true, Description: pathWords(op.path, found[1]), Schema: openapi.Is("string")})
	}
	for _, p := range op.params {
		shown := openapi.Parameter{Name: p.name, In: "query", Description: p.words, Required: p.required, Schema: p.schema}
		if p.header {
			shown.In = "header"
		}
		if p.schema == nil {
			shown.Schema = openapi.Is("string")
		}
		out.Parameters = append(out.Parameters, shown)
	}
	out.RequestBody = op.asks.document(types)
	for status, a := range op.answers {
		out.Responses[strconv.Itoa(status)] = a.document(status, types)
	}
	for status, value := range op.errors {
		out.Responses[strconv.Itoa(status)] = success{value: value}.document(status, types)
	}
	return out
}

func (b body) document(types *openapi.Catalogue) *openapi.RequestBody {
	switch {
	case b.media != "":
		return &openapi.RequestBody{Required: !b.empty, Content: map[string]openapi.MediaType{b.media: {}}}
	case b.value == nil:
		return nil
	}
	t := reflect.TypeOf(b.value)
	s := types.Ask(t)
	whole := types.Schemas()[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	if whole == nil {
		whole = s
	}
	if len(b.needs) > 0 { // of one type, everybody needs the same
		whole.Required = b.needs
	}
	whole.Closed = !b.lax
	return &openapi.RequestBody{Required: !b.empty, Content: map[string]openapi.MediaType{"application/json": {Schema: s}}}
}

func (a success) document(status int, types *openapi.Catalogue) openapi.Response {
	out := openapi.Response{Description: a.words}
	if out.Description == "" {
		out.Description = http.StatusText(status)
	}
	if a.value == nil && a.media == "" {
		return out
	}
	out.Content = map[string]openapi.MediaType{}
	if a.media != "" {
		out.Content[a.media] = openapi.MediaType{}
	}
	if a.value != nil {
		out.Content["application/json"] = openapi.MediaType{Schema: schemaOf(a.value, types)}
	}
	return out
}

func schemaOf(value any, types *openapi.Catalogue) *openapi.Schema {
	switch v := value.(type) {
	case *openapi.Schema:
		return v
	case alternatives:
		var all []*openapi.Schema
		for _, one := range v {
			all = append(all, schemaOf(one, types))
		}
		return openapi.Any(all...)
	}
	return types.Answer(reflect.TypeOf(value))
}

// refusalOn is what errors of a route look like.
func refusalOn(r route, types *openapi.Catalogue) openapi.Response {
	var value any = apiError{}
	switch {
	case doorOf(r.path) == openAIDoor:
		value = openAIRefusal{}
	case doorOf(r.path) == sdapiDoor:
		value = sdapiError{}
	case r.legacy:
		value = legacyError{}
	}
	return success{value: value, words: "What is wrong"}.document(0, types)
}

// operationID names an operation for programs: "getApiV1JobsId".
func operationID(method, path string) string {
	id := strings.ToLower(method)
	for _, word := range regexp.MustCompile(`[a-zA-Z0-9]+`).FindAllString(path, -1) {
		id += strings.ToUpper(word[:1]) + word[1:]
	}
	return id
}
