package server

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"muster/agent/server/openapi"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
	"muster/shared/wire"
)

// described is the description that the server gives, for a test to judge answers by.
type described struct {
	t        testing.TB
	doc      openapi.Document
	schemas  *jsonschema.Compiler
	answered map[string]bool // "GET /path" of what was answered well
}

const describedAt = "http://muster.test/openapi.json"

// describedBy asks for the description. What it says of objects is taken strictly: a field that it does not name is a fault.
func describedBy(t testing.TB, a *testAgent) *described {
	t.Helper()
	r := a.ask("GET", "/api/v1/openapi.json", "")
	if r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	d := &described{t: t, schemas: jsonschema.NewCompiler(), answered: map[string]bool{}}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	closeAllObjects(whole)
	d.schemas.DefaultDraft(jsonschema.Draft2020)
	d.schemas.AssertFormat()
	if err := d.schemas.AddResource(describedAt, whole); err != nil {
		t.Fatal(err)
	}
	d.doc = describe(a.server.routes(), "test")
	return d
}

// closeAllObjects forbids other properties wherever some are named.
func closeAllObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, names := v["properties"].(map[string]any); names && v["additionalProperties"] == nil {
			v["additionalProperties"] = false
		}
		for _, inner := range v {
			closeAllObjects(inner)
		}
	case []any:
		for _, inner := range v {
			closeAllObjects(inner)
		}
	}
}

// pathOf finds the path of the description that a request goes to: the one with the fewest parameters.
func (d *described) pathOf(method, target string) (found string) {
	target, _, _ = strings.Cut(target, "?")
	best := 100
	for path, item := range d.doc.Paths {
		form := regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(regexp.QuoteMeta(path), `[^/]+`)
		if n := strings.Count(path, "{"); n < best && item[strings.ToLower(method)] != nil && regexp.MustCompile("^"+form+"$").MatchString(target) {
			found, best = path, n
		}
	}
	return found
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// fits fails unless an answer is what the description says, and notes it when it is a good one.
func (d *described) fits(method, target string, r answer) {
	d.t.Helper()
	path := d.pathOf(method, target)
	if path == "" {
		d.t.Errorf("%s %s is not described", method, target)
		return
	}
	status := strconv.Itoa(r.status)
	said, known := d.doc.Paths[path][strings.ToLower(method)].Responses[status]
	if !known {
		if r.status < 400 {
			d.t.Errorf("%s %s: status %d is not described", method, target, r.status)
			return
		}
		status = "default"
		said = d.doc.Paths[path][strings.ToLower(method)].Responses[status]
	}
	media, _, _ := strings.Cut(r.header.Get("Content-Type"), ";")
	general, _, _ := strings.Cut(media, "/")
	content, is := said.Content[media]
	if _, general := said.Content[general+"/*"]; !is && !general && (len(r.body) > 0 || len(said.Content) > 0) {
		d.t.Errorf("%s %s: %d is %q, described are %v", method, target, r.status, media, slices.Sorted(maps.Keys(said.Content)))
		return
	}
	if content.Schema != nil {
		at := describedAt + "#/paths/" + pointerEscapes.Replace(path) + "/" + strings.ToLower(method) + "/responses/" + status + "/content/" + pointerEscapes.Replace(media) + "/schema"
		schema, err := d.schemas.Compile(at)
		if err != nil {
			d.t.Errorf("%s: %v", at, err)
			return
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(r.body))
		if err == nil {
			err = schema.Validate(value)
		}
		if err != nil {
			d.t.Errorf("%s %s: %d %.400s\n%v", method, target, r.status, r.body, err)
		}
	}
	if r.status < 300 {
		d.answered[method+" "+path] = true
	}
}

// Every route is described, and what is described is a route.
func TestEveryRouteIsDescribed(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	doc := describe(a.server.routes(), "test") // panics at a route of which nothing is said, and the reverse
	mux, resources := a.server.table(a.server.routes())
	described := map[string]bool{}
	for path, item := range doc.Paths {
		for method := range item {
			r, _ := http.NewRequest(strings.ToUpper(method), concrete(path), nil)
			_, pattern := mux.Handler(r)
			found, ok := resources[pattern].route(r.Method)
			if !ok || found.method == "" || found.path == "/" {
				t.Errorf("%s %s is described and leads to %q", method, path, pattern)
			}
			described[found.method+" "+found.path] = true
		}
	}
	for _, r := range a.server.routes() {
		if r.method != "" && r.path != "/" && !described[r.method+" "+r.path] {
			t.Errorf("%s %s is not described", r.method, r.path)
		}
	}
}

// The description keeps the rules of OpenAPI 3.1 that its types do not keep by themselves, and says enough.
func TestDescriptionIsSound(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	d := describedBy(t, a)
	tags, ids := map[string]bool{}, map[string]string{}
	for _, tag := range d.doc.Tags {
		tags[tag.Name] = tag.Description != ""
	}
	for path, item := range d.doc.Paths {
		for method, op := range item {
			name := method + " " + path
			if other, twice := ids[op.ID]; twice {
				t.Errorf("%s and %s are both called %s", other, name, op.ID)
			}
			ids[op.ID] = name
			if op.Summary == "" || len(op.Summary) > 140 || strings.HasSuffix(op.Summary, ".") {
				t.Errorf("%s: summary %q", name, op.Summary)
			}
			if len(op.Tags) != 1 || !tags[op.Tags[0]] {
				t.Errorf("%s: tags %v", name, op.Tags)
			}
			for status, response := range op.Responses {
				if n, err := strconv.Atoi(status); status != "default" && (err != nil || n < 100 || n > 599) || response.Description == "" {
					t.Errorf("%s: answer %q, %q", name, status, response.Description)
				}
			}
			if len(op.Responses) < 2 && !strings.HasPrefix(op.Summary, "Not supported") {
				t.Errorf("%s: nothing is said of what it answers", name)
			}
			if op.RequestBody != nil && (method == "get" || len(op.RequestBody.Content) == 0) {
				t.Errorf("%s: body %+v", name, op.RequestBody)
			}
			for _, way := range op.Security {
				for scheme := range way {
					if d.doc.Components.SecuritySchemes[scheme].Type == "" {
						t.Errorf("%s: no security scheme %s", name, scheme)
					}
				}
			}
			checkParameters(t, name, path, op)
		}
	}
	for name := range d.doc.Components.Schemas {
		if !regexp.MustCompile(`^[a-zA-Z0-9._-]+$`).MatchString(name) {
			t.Errorf("component %q", name)
		}
		if _, err := d.schemas.Compile(describedAt + "#/components/schemas/" + name); err != nil { // against the metaschema, with all it refers to
			t.Errorf("%s: %v", name, err)
		}
	}
	raw, err := json.Marshal(d.doc)
	if err != nil || len(raw) > 512<<10 {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	if r := a.send("GET", "/api/v1/openapi.json", ""); r.status != http.StatusUnauthorized {
		t.Errorf("without the token: %d", r.status)
	}
}

func checkParameters(t *testing.T, name, path string, op *openapi.Operation) {
	t.Helper()
	inPath := map[string]bool{}
	seen := map[string]bool{}
	for _, p := range op.Parameters {
		if key := p.In + " " + p.Name; seen[key] || p.Schema == nil || !slices.Contains([]string{"path", "query", "header"}, p.In) {
			t.Errorf("%s: parameter %+v", name, p)
		} else {
			seen[key] = true
		}
		if p.In == "path" {
			inPath[p.Name] = p.Required && p.Description != ""
		}
	}
	for _, found := range pathParam.FindAllStringSubmatch(path, -1) {
		if !inPath[found[1]] {
			t.Errorf("%s: %s is not described", name, found[1])
		}
		delete(inPath, found[1])
	}
	if len(inPath) > 0 {
		t.Errorf("%s: %v are not in the path", name, inPath)
	}
}

var allowedParameters = regexp.MustCompile(`is not a parameter here; (?:there are none|allowed are (.*))$`)

// A route that refuses parameters which it does not know takes just those that are described.
func TestParametersAreDescribed(t *testing.T) {
	t.Parallel()
	a := newAgent(t, func(c *Config) {
		c.Query = func(HistoryQuery) (HistorySeries, error) { return HistorySeries{}, nil }
	})
	strict := 0
	for path, item := range describe(a.server.routes(), "test").Paths {
		for method, op := range item {
			var want []string
			for _, p := range op.Parameters {
				if p.In == "query" {
					want = append(want, p.Name)
				}
			}
			r := a.ask(strings.ToUpper(method), concrete(path)+"?nonsense=1", "")
			found := allowedParameters.FindStringSubmatch(r.message())
			if found == nil {
				continue
			}
			strict++
			got := strings.FieldsFunc(found[1], func(r rune) bool { return r == ',' || r == ' ' })
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s %s takes %q, described are %q", method, path, got, want)
			}
		}
	}
	if strict < 10 {
		t.Errorf("only %d routes said what they take", strict)
	}
}

// What is read by name, not into a struct, is described by a struct of the same names.
func TestDoorsReadWhatIsDescribed(t *testing.T) {
	t.Parallel()
	for _, door := range []struct {
		file, function string
		body           any
	}{{"openai_ask.go", "", openAIBody{}}, {"sdapi_ask.go", "", sdapiBody{}}} {
		file, err := parser.ParseFile(token.NewFileSet(), door.file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		read := map[string]bool{}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				call, ok := n.Fun.(*ast.SelectorExpr)
				if !ok || len(n.Args) == 0 {
					return true
				}
				if on, ok := call.X.(*ast.Ident); !ok || on.Name != "f" || call.Sel.Name == "fail" {
					return true
				}
				if name, ok := n.Args[0].(*ast.BasicLit); ok {
					unquoted, _ := strconv.Unquote(name.Value)
					read[unquoted] = true
				}
			case *ast.RangeStmt: // for _, name := range []string{…} { … f.number(name) … }
				if list, ok := n.X.(*ast.CompositeLit); ok && len(list.Elts) <= 3 {
					for _, e := range list.Elts {
						if name, ok := e.(*ast.BasicLit); ok && strings.Contains(name.Value, "_") || ok && strings.Contains(name.Value, "step") {
							unquoted, _ := strconv.Unquote(name.Value)
							read[unquoted] = true
						}
					}
				}
			}
			return true
		})
		if len(read) < 10 {
			t.Fatalf("%s reads only %v", door.file, read)
		}
		read["device_id"] = true // fields.device reads it
		described := fieldNames(door.body)
		for _, name := range described {
			if !read[name] {
				t.Errorf("%s does not read %s, which is described", door.file, name)
			}
		}
		for name := range read {
			if !slices.Contains(described, name) && !slices.Contains(passedOver, name) {
				t.Errorf("%s reads %s, which is not described", door.file, name)
			}
		}
	}
}

// passedOver are fields that are looked at only to say that they have no effect here.
var passedOver = []string{"restore_faces", "tiling", "subseed_strength", "styles", "refiner_checkpoint", "distilled_cfg_scale", "clip_skip"}

// The words that a type may have are all of its constants.
func TestWordsOfTypesAreComplete(t *testing.T) {
	t.Parallel()
	catalogue := newCatalogue()
	for _, tt := range []struct {
		of     reflect.Type
		folder string
	}{
		{reflect.TypeFor[wire.Phase](), "wire"}, {reflect.TypeFor[wire.GeneratorState](), "wire"}, {reflect.TypeFor[model.InstallState](), "model"},
		{reflect.TypeFor[model.LoadState](), "model"}, {reflect.TypeFor[gpu.State](), "gpu"}, {reflect.TypeFor[job.State](), "job"},
	} {
		want := constantsOf(t, "../../shared/"+tt.folder, tt.of.Name())
		got := slices.Sorted(slices.Values(catalogue.Known[tt.of].Enum))
		if len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("%s: %q, its constants are %q", tt.of, got, want)
		}
	}
}

// constantsOf gives the values of all constants of a type.
func constantsOf(t *testing.T, folder, name string) (values []string) {
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == name {
				if value, ok := spec.Values[0].(*ast.BasicLit); ok {
					unquoted, _ := strconv.Unquote(value.Value)
					values = append(values, unquoted)
				}
			}
			return true
		})
	}
	slices.Sort(values)
	return values
}
