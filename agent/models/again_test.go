package models

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"

	"muster/shared/model"
)

// One that failed is asked for once more as it was, query and all, which nobody is shown.
func TestAnInstallationIsAskedForAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, content, there := newWorld(t), sd1(1<<20), false
		w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
			if !there || r.URL.Query().Get("key") != "secret" {
				out.WriteHeader(http.StatusNotFound)
				return
			}
			serveFile(content, `"a"`)(out, r)
		})
		s := newShelf(t, w)
		failed := s.ended(s.ask(Request{URL: fileURL + "?key=secret", Name: "mine", SHA256: sha(content)}).ID)
		wantFailed(t, failed, "404")
		there = true
		again, err := s.Again(t.Context(), failed.ID)
		if err != nil || again.ID != failed.ID || again.Name != "mine" || again.State.Ended() {
			t.Fatalf("asked for again: %+v, %v", again, err)
		}
		wantInstalled(t, s, s.ended(failed.ID), "mine.safetensors", content)
		if done, err := s.Again(t.Context(), failed.ID); err != nil || done.State != model.Installed {
			t.Errorf("one that is done: %+v, %v", done, err)
		}
		if _, err := s.Again(t.Context(), "0123456789abcdef"); !errors.Is(err, ErrNotFound) {
			t.Errorf("one that is not there: %v", err)
		}
	})
}
