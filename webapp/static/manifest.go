package static

import "encoding/json"

// manifest makes the web app manifest (https://www.w3.org/TR/appmanifest/).
func manifest(p page) ([]byte, error) {
	type icon struct {
		Src     string `json:"src"`
		Sizes   string `json:"sizes"`
		Type    string `json:"type"`
		Purpose string `json:"purpose,omitempty"`
	}
	return json.MarshalIndent(struct {
		ID         string `json:"id"`
		Name       string `json:"name"`
		ShortName  string `json:"short_name"`
		About      string `json:"description"`
		StartURL   string `json:"start_url"`
		Scope      string `json:"scope"`
		Display    string `json:"display"`
		Background string `json:"background_color"`
		Theme      string `json:"theme_color"`
		Icons      []icon `json:"icons"`
	}{
		ID: "/", Name: "muster", ShortName: "muster",
		About:    "Watch every GPU of this machine, and generate images on all of them.",
		StartURL: "/", Scope: "/", Display: "standalone",
		Background: "#111615", Theme: "#111615",
		Icons: []icon{
			{p.Icon192, "192x192", "image/png", "any"},
			{p.Icon512, "512x512", "image/png", "any"},
			{p.Maskable, "512x512", "image/png", "maskable"},
			{p.Icon, "any", "image/svg+xml", "any"},
		},
	}, "", "  ")
}
