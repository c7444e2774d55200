// Package openapi is as much of OpenAPI 3.1 as the agent describes its API with, and makes schemas of Go types.
//
// Facts are from the OpenAPI Specification 3.1.0 (2021-02-15) and JSON Schema 2020-12, whose dialect its schemas are.
package openapi

// Version is what Document.OpenAPI must be.
const Version = "3.1.0"

// Document describes an API.
type Document struct {
	OpenAPI    string          `json:"openapi"`
	Info       Info            `json:"info"`
	Servers    []Server        `json:"servers,omitempty"`
	Tags       []Tag           `json:"tags,omitempty"`
	Paths      map[string]Path `json:"paths"`
	Components Components      `json:"components"`
}

// Info names the API.
type Info struct {
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
	Version     string `json:"version"`
}

// Server is where the API is; "/" is where the document came from.
type Server struct {
	URL string `json:"url"`
}

// Tag names a group of operations.
type Tag struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// Path is the operations of a path by method, in lower case.
type Path map[string]*Operation

// Operation is what a method does.
type Operation struct {
	ID          string              `json:"operationId"`
	Summary     string              `json:"summary"`
	Tags        []string            `json:"tags,omitempty"`
	Parameters  []Parameter         `json:"parameters,omitempty"`
	RequestBody *RequestBody        `json:"requestBody,omitempty"`
	Responses   map[string]Response `json:"responses"` // by status, or "default"
	// Security are alternatives; an empty list asks for nothing.
	Security []map[string][]string `json:"security"`
}

// Parameter is a parameter in the path, the query or a header.
type Parameter struct {
	Name        string  `json:"name"`
	In          string  `json:"in"` // "path", "query" or "header"
	Description string  `json:"description,omitempty"`
	Required    bool    `json:"required,omitempty"` // always of one in the path
	Schema      *Schema `json:"schema"`
}

// RequestBody is what is sent.
type RequestBody struct {
	Required bool                 `json:"required,omitempty"`
	Content  map[string]MediaType `json:"content"` // by media type
}

// Response is what is answered.
type Response struct {
	Description string               `json:"description"`
	Content     map[string]MediaType `json:"content,omitempty"` // by media type; nil without a body
}

// MediaType is a body. Schema is nil for what is no JSON.
type MediaType struct {
	Schema *Schema `json:"schema,omitempty"`
}

// Components are what the operations refer to.
type Components struct {
	Schemas         map[string]*Schema        `json:"schemas"`
	SecuritySchemes map[string]SecurityScheme `json:"securitySchemes,omitempty"`
}

// SecurityScheme is a way to say who one is.
type SecurityScheme struct {
	Type        string `json:"type"` // "http" or "apiKey"
	Scheme      string `json:"scheme,omitempty"`
	Name        string `json:"name,omitempty"`
	In          string `json:"in,omitempty"`
	Description string `json:"description,omitempty"`
}
