package images

import (
	"bytes"
	"image"
	"image/jpeg"
	"image/png"
	"strconv"
	"testing"
)

// unfinished makes a file of that type.
func unfinished(t *testing.T, kind string, width, height int) Preview {
	t.Helper()
	var file bytes.Buffer
	img := image.NewGray(image.Rect(0, 0, width, height))
	err := png.Encode(&file, img)
	if kind == "image/jpeg" {
		file.Reset()
		err = jpeg.Encode(&file, img, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return Preview{Data: file.Bytes(), Type: kind}
}

func TestPreviewsKeepTheNewestAndForget(t *testing.T) {
	t.Parallel()
	var p Previews
	if _, ok := p.Get("a"); ok {
		t.Error("an empty store has a picture")
	}
	p.Put("a", unfinished(t, "image/jpeg", 8, 8))
	newest := unfinished(t, "image/png", 16, 8)
	p.Put("a", newest)
	if got, ok := p.Get("a"); !ok || !bytes.Equal(got.Data, newest.Data) || got.Type != "image/png" {
		t.Errorf("%+v, %t", got, ok)
	}
	p.Put("a", Preview{})
	if _, ok := p.Get("a"); ok {
		t.Error("a dropped picture is still there")
	}
}

func TestPreviewsAreBounded(t *testing.T) {
	t.Parallel()
	var p Previews
	one := unfinished(t, "image/png", 1, 1)
	for i := range 2 * maxPreviews {
		p.Put(strconv.Itoa(i), one)
	}
	if len(p.byJob) != maxPreviews {
		t.Errorf("%d pictures", len(p.byJob))
	}
	p.Put("0", unfinished(t, "image/png", 2, 2))
	if got, _ := p.Get("0"); bytes.Equal(got.Data, one.Data) {
		t.Error("a known job's picture was not renewed")
	}
}

func TestPreviewsThatAreNone(t *testing.T) {
	t.Parallel()
	script := Preview{Data: []byte("<svg onload=alert(1)>"), Type: "image/svg+xml"}
	mislabelled := unfinished(t, "image/png", 8, 8)
	mislabelled.Type = "text/html"
	for name, preview := range map[string]Preview{
		"garbage": {Data: []byte("garbage"), Type: "image/jpeg"}, "a script": script, "another type than it says": mislabelled,
		"a bomb": unfinished(t, "image/png", maxPreviewSide+1, 1),
	} {
		var p Previews
		p.Put("a", preview)
		if _, ok := p.Get("a"); ok {
			t.Errorf("%s was kept", name)
		}
	}
}
