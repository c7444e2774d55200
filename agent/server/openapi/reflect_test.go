package openapi

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

type inner struct {
	Depth int `json:"depth"`
}

type embedded struct {
	Name  string `json:"name"`
	Extra bool   `json:"extra"`
}

type list[T any] struct {
	Of []T `json:"of"`
}

type everything struct {
	embedded
	Name     string              `json:"name"` // counts before the embedded one
	Plain    float64             // by its own name
	Maybe    *int                `json:"maybe"`
	Left     *inner              `json:"left,omitempty"`
	Zero     time.Time           `json:"zero,omitzero"`
	Times    []time.Time         `json:"times"`
	By       map[string][]uint32 `json:"by"`
	Raw      json.RawMessage     `json:"raw"`
	Any      any                 `json:"any"`
	Bytes    []byte              `json:"bytes"`
	Unnamed  struct{ A bool }    `json:"unnamed"`
	Again    *everything         `json:"again"`
	Listed   list[inner]         `json:"listed"`
	Nil      []int               `json:"nil"`
	Hidden   string              `json:"-"`
	internal int
}

type writes struct{}

func (writes) MarshalText() ([]byte, error) { return nil, nil }

func catalogue() *Catalogue {
	c := NewCatalogue(reflect.TypeFor[everything]().PkgPath())
	c.Null = map[reflect.Type][]string{reflect.TypeFor[everything](): {"nil"}}
	return c
}

func text(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	_ = everything{internal: 1}
	c := catalogue()
	if got := text(t, c.Answer(reflect.TypeFor[everything]())); got != `{"$ref":"#/components/schemas/Everything"}` {
		t.Fatal(got)
	}
	want := `{"type":"object","properties":{` +
		`"Plain":{"type":"number"},"again":{"anyOf":[{"$ref":"#/components/schemas/Everything"},{"type":"null"}]},"any":{},` +
		`"by":{"type":"object","additionalProperties":{"type":"array","items":{"type":"integer","minimum":0}}},"bytes":{"type":"string"},"extra":{"type":"boolean"},` +
		`"left":{"$ref":"#/components/schemas/Inner"},"listed":{"$ref":"#/components/schemas/ListInner"},"maybe":{"type":["integer","null"]},"name":{"type":"string"},"nil":{"type":["array","null"],"items":{"type":"integer"}},` +
		`"raw":{},"times":{"type":"array","items":{"type":"string","format":"date-time"}},"unnamed":{"type":"object","properties":{"A":{"type":"boolean"}},"required":["A"]},` +
		`"zero":{"type":"string","format":"date-time"}},"required":["Plain","again","any","by","bytes","extra","listed","maybe","name","nil","raw","times","unnamed"]}`
	if got := text(t, c.Schemas()["Everything"]); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := text(t, c.Schemas()["ListInner"]); got != `{"type":"object","properties":{"of":{"type":"array","items":{"$ref":"#/components/schemas/Inner"}}},"required":["of"]}` {
		t.Error(got)
	}
}

// Of what is sent nothing must be there, everything may be null, and nothing else may be.
func TestAsk(t *testing.T) {
	t.Parallel()
	c := catalogue()
	c.Ask(reflect.TypeFor[list[inner]]())
	if got := text(t, c.Schemas()); got != `{"InnerAsk":{"type":"object","properties":{"depth":{"type":["integer","null"]}},"additionalProperties":false},`+
		`"ListInnerAsk":{"type":"object","properties":{"of":{"type":["array","null"],"items":{"$ref":"#/components/schemas/InnerAsk"}}},"additionalProperties":false}}` {
		t.Error(got)
	}
}

func TestWhatHasNoSchema(t *testing.T) {
	t.Parallel()
	type Inner struct{ Other bool }
	for _, tt := range []struct {
		of    []reflect.Type
		words string
	}{
		{[]reflect.Type{reflect.TypeFor[writes]()}, "writes itself"}, {[]reflect.Type{reflect.TypeFor[func()]()}, "is no JSON"},
		{[]reflect.Type{reflect.TypeFor[inner](), reflect.TypeFor[Inner]()}, "both called Inner"},
	} {
		func() {
			defer func() {
				if said, _ := recover().(string); !strings.Contains(said, tt.words) {
					t.Errorf("%v: %q, want %q", tt.of, said, tt.words)
				}
			}()
			c := catalogue()
			for _, of := range tt.of {
				c.Answer(of)
			}
		}()
	}
}

func TestOrNull(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]*Schema{
		`{"type":["string","null"]}`:                                       Is("string"),
		`{"anyOf":[{"type":"string","enum":["a"]},{"type":"null"}]}`:       OneOfWords("a"),
		`{"anyOf":[{"type":"string"},{"type":"integer"},{"type":"null"}]}`: Any(Is("string"), Is("integer")),
		`{}`: {},
	} {
		if got := text(t, s.orNull().orNull()); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
