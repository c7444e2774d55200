package openapi

import (
	"encoding/json"
	"slices"
)

// Schema is a JSON Schema. The zero value takes anything.
type Schema struct {
	Ref         string             `json:"$ref,omitempty"`
	Type        Types              `json:"type,omitzero"`
	Format      string             `json:"format,omitempty"`
	Description string             `json:"description,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Minimum     *float64           `json:"minimum,omitempty"`
	Maximum     *float64           `json:"maximum,omitempty"`
	Items       *Schema            `json:"items,omitempty"`
	Properties  map[string]*Schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	// Additional is the schema of what has none of the Properties; nil takes anything, Closed nothing.
	Additional *Schema   `json:"additionalProperties,omitempty"`
	AnyOf      []*Schema `json:"anyOf,omitempty"`
	Closed     bool      `json:"-"` // an object has no other properties
}

// MarshalJSON writes the schema.
func (s *Schema) MarshalJSON() ([]byte, error) {
	type plain Schema
	if !s.Closed {
		return json.Marshal((*plain)(s))
	}
	return json.Marshal(struct {
		*plain
		Additional bool `json:"additionalProperties"`
	}{(*plain)(s), false})
}

// Types are the JSON types that a value may have.
type Types []string

// MarshalJSON writes one type as such, several as a list.
func (t Types) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]string(t))
}

// Is gives the schema of a type: "string", "integer", "number", "boolean".
func Is(kind string) *Schema { return &Schema{Type: Types{kind}} }

// OneOfWords gives the schema of some words.
func OneOfWords[T ~string](words ...T) *Schema {
	s := Is("string")
	for _, w := range words {
		s.Enum = append(s.Enum, string(w))
	}
	return s
}

// List gives the schema of a list.
func List(of *Schema) *Schema { return &Schema{Type: Types{"array"}, Items: of} }

// Any gives the schema of what fits one of some.
func Any(of ...*Schema) *Schema { return &Schema{AnyOf: of} }

// orNull gives the schema that takes null too.
func (s *Schema) orNull() *Schema {
	null := Is("null")
	switch {
	case slices.Contains(s.Type, "null") || slices.ContainsFunc(s.AnyOf, func(one *Schema) bool { return slices.Contains(one.Type, "null") }):
		return s
	case s.Ref != "" || s.Enum != nil:
		return Any(s, null)
	case s.AnyOf != nil:
		return Any(append(append([]*Schema{}, s.AnyOf...), null)...)
	case len(s.Type) == 0:
		return s // it takes anything
	}
	other := *s
	other.Type = append(append(Types{}, s.Type...), "null")
	return &other
}
