package server

import "strings"

// style is a manner of drawing: the words around a person's description, and what it should not look like.
type style struct {
	name     string
	before   string
	after    string
	negative string
}

// blemishes are what no portrait should have, in any style.
const blemishes = "blurry, low quality, jpeg artifacts, deformed, extra limbs, extra fingers, cropped head, duplicate, watermark, signature, text"

// styles are the manners that clients may name; the first is the default.
var styles = []style{
	{"photorealistic", "photorealistic portrait photograph of", "natural skin texture, soft window light, 85mm lens, shallow depth of field, sharp focus on the eyes, highly detailed", "illustration, painting, cartoon, plastic skin, " + blemishes},
	{"anime", "anime character portrait of", "clean line art, expressive eyes, cel shading, vivid colours, detailed background", "photograph, 3d render, " + blemishes},
	{"cartoon", "cartoon character portrait of", "bold outlines, simple shapes, flat bright colours, friendly expression", "photograph, realistic skin, " + blemishes},
	{"artistic", "expressive painted portrait of", "visible brush strokes, rich palette, dramatic composition, fine art", "photograph, flat colours, " + blemishes},
	{"3d_render", "3d rendered character portrait of", "physically based materials, subsurface scattering, studio lighting, fine geometry", "photograph, sketch, flat shading, " + blemishes},
	{"fantasy", "fantasy character portrait of", "intricate costume, magical atmosphere, glowing light, epic background, concept art", "modern clothes, photograph, " + blemishes},
	{"cinematic", "cinematic film still of", "anamorphic lens, moody colour grading, rim light, film grain, atmospheric depth", "illustration, cartoon, overexposed, " + blemishes},
}

// styleOf finds a style by name; "" is the default one.
func styleOf(name string) (style, error) {
	if name == "" {
		return styles[0], nil
	}
	var names []string
	for _, known := range styles {
		if known.name == name {
			return known, nil
		}
		names = append(names, known.name)
	}
	return style{}, invalid("style", "is %q; allowed are %s", cut(name), strings.Join(names, ", "))
}

// prompt describes a person in this style: what is seen first, for generators weigh the beginning most, then what it expresses.
func (st style) prompt(appearance, personality string) string {
	var b strings.Builder
	b.WriteString(st.before + " " + strings.TrimRight(appearance, " .,;"))
	if personality != "" {
		b.WriteString(", with an expression and posture that show a personality which is " + strings.TrimRight(personality, " .,;"))
	}
	b.WriteString(", " + st.after)
	return b.String()
}
