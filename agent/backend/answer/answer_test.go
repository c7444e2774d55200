package answer

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"image"
	"image/jpeg"
	"image/png"
	"testing"

	"muster/agent/backend/backendtest"
	"muster/agent/imagefile"
)

func painted() []byte {
	return backendtest.Paint(backendtest.Picture{Prompt: "p", Width: 16, Height: 8})
}

func packed(t testing.TB, file []byte) []byte {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, img, nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestPicture(t *testing.T) {
	t.Parallel()
	whole := base64.StdEncoding.EncodeToString([]byte("file?"))
	for text, want := range map[string]string{
		`"` + whole + `"`: "file?", `"data:image/png;base64,` + whole + `"`: "file?", `"\u005aml\u0073ZT8="`: "file?", `""`: "", `null`: "",
		`"%"`: "error", `7`: "error", `{}`: "error", `"data:"`: "",
	} {
		var p Picture
		err := json.Unmarshal([]byte(text), &p)
		if got := string(p); (err != nil) != (want == "error") || err == nil && got != want {
			t.Errorf("%s gives %q, %v; want %s", text, got, err, want)
		}
	}
}

func TestPNG(t *testing.T) {
	t.Parallel()
	file := painted()
	for _, tt := range []struct {
		name          string
		file          []byte
		width, height int
		want          error // nil: it is well
		damaged       bool
	}{
		{"PNG", file, 16, 8, nil, false},
		{"PNG of another size", file, 8, 16, ErrSize, false},
		{"half a PNG", backendtest.SpoilPNG(file, backendtest.CutPNG), 16, 8, nil, true},
		{"damaged PNG", backendtest.SpoilPNG(file, backendtest.DamagedPNG), 16, 8, nil, true},
		{"PNG that unpacks to gigabytes", backendtest.SpoilPNG(file, backendtest.Bomb), 16, 8, ErrSize, false},
		{"JPEG", packed(t, file), 16, 8, nil, false},
		{"JPEG of another size", packed(t, file), 8, 8, ErrSize, false},
		{"half a JPEG", packed(t, file)[:300], 16, 8, nil, true},
		{"WebP", []byte("RIFF\x24\x00\x00\x00WEBPVP8L"), 16, 8, ErrForm, false},
		{"nothing", nil, 16, 8, nil, true},
		{"text", []byte("<html>"), 16, 8, nil, true},
	} {
		out, err := PNG(tt.file, tt.width, tt.height)
		if tt.want != nil && !errors.Is(err, tt.want) || (err != nil) != (tt.want != nil || tt.damaged) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err == nil {
			if config, err := png.DecodeConfig(bytes.NewReader(out)); err != nil || config.Width != 16 || config.Height != 8 {
				t.Errorf("%s: became %v, %v", tt.name, config, err)
			}
		}
	}
}

func TestTellsOfMemory(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"CUDA out of memory. Tried to allocate 2.00 GiB": true, "OutOfMemoryError": true, "HIP out of memory": true, "std::bad_alloc": true,
		"ggml_vulkan: Device memory allocation failed: ErrorOutOfDeviceMemory": true, "A tensor with all NaNs was produced": false, "": false,
	} {
		if got := TellsOfMemory(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func FuzzPNG(f *testing.F) {
	f.Add(painted())
	f.Add(packed(f, painted()))
	f.Add([]byte("\xff\xd8\xff\xe0"))
	f.Fuzz(func(t *testing.T, file []byte) {
		out, err := PNG(file, 16, 8)
		if err != nil {
			return
		}
		if w, h, err := imagefile.PNG(out); err != nil || w != 16 || h != 8 {
			t.Errorf("%dx%d, %v was taken for 16x8", w, h, err)
		}
		if bytes.HasPrefix(file, []byte("\xff\xd8")) {
			if _, format, err := image.Decode(bytes.NewReader(out)); err != nil || format != "png" {
				t.Errorf("a JPEG became %s, %v", format, err)
			}
		}
	})
}
