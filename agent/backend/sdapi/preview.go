package sdapi

import (
	"bytes"
	"encoding/base64"
	"image"
	_ "image/jpeg" // previews are JPEG or PNG
	_ "image/png"
	"strings"

	"muster/agent/backend"
	"muster/shared/job"
)

// preview reads a picture in base64, with or without "data:image/png;base64," before it; false when it is none that can be shown.
func preview(text string) (backend.Preview, bool) {
	if text == "" || len(text) > maxLook {
		return backend.Preview{}, false
	}
	if rest, ok := strings.CutPrefix(text, "data:"); ok {
		_, text, _ = strings.Cut(rest, ",")
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(data) > backend.MaxPreviewBytes {
		return backend.Preview{}, false
	}
	config, format, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || format != "jpeg" && format != "png" || max(config.Width, config.Height) > job.MaxSide {
		return backend.Preview{}, false
	}
	return backend.Preview{Data: data, Type: "image/" + format}, true
}
