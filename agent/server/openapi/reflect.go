package openapi

import (
	"encoding"
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Catalogue makes schemas of Go types, as encoding/json reads and writes them. Named structs become components that are referred to.
// Make it with NewCatalogue.
type Catalogue struct {
	// Known are the schemas of types that write themselves, or whose values are words. Set before the first use.
	Known map[reflect.Type]*Schema
	// Null are by struct the fields whose nil slice or map means something, and is written as null.
	Null map[reflect.Type][]string
	// Home is the package whose types are named without it.
	Home string

	schemas map[string]*Schema
	types   map[string]reflect.Type // by name of the component
}

// NewCatalogue knows times and raw JSON.
func NewCatalogue(home string) *Catalogue {
	instant := Is("string")
	instant.Format = "date-time"
	return &Catalogue{
		Home: home, schemas: map[string]*Schema{}, types: map[string]reflect.Type{},
		Known: map[reflect.Type]*Schema{reflect.TypeFor[time.Time](): instant, reflect.TypeFor[json.RawMessage](): {}},
	}
}

// Schemas are the components of everything that was asked for.
func (c *Catalogue) Schemas() map[string]*Schema { return c.schemas }

// Answer gives the schema of what encoding/json writes of a type.
func (c *Catalogue) Answer(t reflect.Type) *Schema { return c.schema(t, false) }

// Ask gives the schema of what encoding/json reads into a type: every field may be left out or null, and others are refused.
func (c *Catalogue) Ask(t reflect.Type) *Schema { return c.schema(t, true) }

// schema panics on what JSON does not know, and on a type that writes itself in a way that is not known: that is a fault of the program.
func (c *Catalogue) schema(t reflect.Type, ask bool) *Schema {
	if known, ok := c.Known[t]; ok {
		return known
	}
	if t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface && writesItself(t) {
		panic(fmt.Sprintf("openapi: %s writes itself, and nobody said how", t))
	}
	switch t.Kind() {
	case reflect.Bool:
		return Is("boolean")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return Is("integer")
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		s := Is("integer")
		s.Minimum = new(0.0)
		return s
	case reflect.Float32, reflect.Float64:
		return Is("number")
	case reflect.String:
		return Is("string")
	case reflect.Interface:
		return &Schema{}
	case reflect.Pointer:
		return c.schema(t.Elem(), ask).orNull()
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return Is("string") // base64
		}
		return List(c.schema(t.Elem(), ask))
	case reflect.Map:
		return &Schema{Type: Types{"object"}, Additional: c.schema(t.Elem(), ask)}
	case reflect.Struct:
		return c.component(t, ask)
	}
	panic(fmt.Sprintf("openapi: %s is no JSON", t))
}

func writesItself(t reflect.Type) bool {
	is := func(of reflect.Type) bool { return t.Implements(of) || reflect.PointerTo(t).Implements(of) }
	return is(reflect.TypeFor[json.Marshaler]()) || is(reflect.TypeFor[encoding.TextMarshaler]())
}

// component gives a reference to a struct's schema, or the schema of one without a name.
func (c *Catalogue) component(t reflect.Type, ask bool) *Schema {
	if t.Name() == "" {
		return c.object(t, ask)
	}
	name := c.name(t)
	if ask && !strings.HasSuffix(name, "Ask") {
		name += "Ask"
	}
	if other, taken := c.types[name]; taken && other != t {
		panic(fmt.Sprintf("openapi: %s and %s are both called %s", other, t, name))
	}
	if _, known := c.types[name]; !known {
		c.types[name] = t // before its fields, which may lead back to it
		c.schemas[name] = c.object(t, ask)
	}
	return &Schema{Ref: "#/components/schemas/" + name}
}

// name gives a type's name as a component: "Job" of job.Job, "WireSlot" of wire.Slot.
func (c *Catalogue) name(t reflect.Type) string {
	name, of, generic := strings.Cut(t.Name(), "[")
	if generic { // "muster/agent/server.statusOfGPU]"
		of = strings.TrimSuffix(of, "]")
		name += capital(of[strings.LastIndex(of, ".")+1:])
	}
	name = capital(name)
	if pkg := path.Base(t.PkgPath()); t.PkgPath() != c.Home && !strings.EqualFold(pkg, name) {
		name = capital(pkg) + name
	}
	return name
}

func capital(word string) string {
	r := []rune(word)
	return string(unicode.ToUpper(r[0])) + string(r[1:])
}

func (c *Catalogue) object(t reflect.Type, ask bool) *Schema {
	s := &Schema{Type: Types{"object"}, Properties: map[string]*Schema{}, Closed: ask}
	c.fields(t, s, ask)
	slices.Sort(s.Required)
	return s
}

// fields adds a struct's fields, those of embedded ones among them: the outer field of a name counts.
func (c *Catalogue) fields(t reflect.Type, s *Schema, ask bool) {
	var embedded []reflect.Type
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			embedded = append(embedded, f.Type)
			continue
		}
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		if _, outer := s.Properties[name]; outer {
			continue
		}
		left := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		kind := f.Type
		if left && !ask && kind.Kind() == reflect.Pointer { // it is there, or left out
			kind = kind.Elem()
		}
		s.Properties[name] = c.schema(kind, ask)
		if slices.Contains(c.Null[t], name) {
			s.Properties[name] = s.Properties[name].orNull()
		}
		switch {
		case ask:
			s.Properties[name] = s.Properties[name].orNull()
		case !left:
			s.Required = append(s.Required, name)
		}
	}
	for _, e := range embedded {
		c.fields(e, s, ask)
	}
}
