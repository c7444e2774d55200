package static

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
)

// Sizes is what the app's wasm weighs over the wire.
type Sizes struct{ Gzip, Brotli int }

// Write replaces what is in dir (but .gitkeep) by the site, with .br and .gz siblings where they are smaller. quality is
// brotli's, 0 to 11; 11 takes half a minute. Assets that are there already are left as they are: their names hold their hash.
func (s *Site) Write(dir string, quality int) (Sizes, error) {
	if err := s.clean(dir); err != nil {
		return Sizes{}, err
	}
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		sizes Sizes
		fault error
	)
	for name, content := range s.Files {
		all.Go(func() {
			one, err := writeFile(filepath.Join(dir, filepath.FromSlash(name)), content, quality)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				fault = err
			}
			if strings.HasSuffix(name, ".wasm") {
				sizes = one
			}
		})
	}
	all.Wait()
	return sizes, fault
}

// clean removes what does not belong to this site.
func (s *Site) clean(dir string) error {
	assets := filepath.Join(dir, "assets")
	if err := os.MkdirAll(assets, 0o755); err != nil {
		return err
	}
	for _, folder := range []string{dir, assets} {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Name() == ".gitkeep" || e.Name() == "assets" && folder == dir || folder == assets && s.has("assets/"+e.Name()) {
				continue
			}
			if err := os.RemoveAll(filepath.Join(folder, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Site) has(name string) bool {
	_, ok := s.Files[strings.TrimSuffix(strings.TrimSuffix(name, ".br"), ".gz")]
	return ok
}

func writeFile(path string, content []byte, quality int) (Sizes, error) {
	if sizes, err := written(path); err == nil {
		return sizes, nil
	}
	if strings.HasSuffix(path, ".png") {
		return Sizes{}, os.WriteFile(path, content, 0o644) // compressed already
	}
	br, gz, err := compress(content, quality)
	if err != nil {
		return Sizes{}, fmt.Errorf("compress %s: %w", path, err)
	}
	for ext, b := range map[string][]byte{".br": br, ".gz": gz} {
		if len(b) >= len(content) {
			continue
		}
		if err := os.WriteFile(path+ext, b, 0o644); err != nil {
			return Sizes{}, err
		}
	}
	// Last, so that a file that is there has its siblings.
	return Sizes{Gzip: len(gz), Brotli: len(br)}, os.WriteFile(path, content, 0o644)
}

// written gives the sizes of an asset that an earlier run left complete.
func written(path string) (Sizes, error) {
	if _, err := os.Stat(path); err != nil {
		return Sizes{}, err
	}
	var sizes Sizes
	for ext, size := range map[string]*int{".br": &sizes.Brotli, ".gz": &sizes.Gzip} {
		if info, err := os.Stat(path + ext); err == nil {
			*size = int(info.Size())
		}
	}
	return sizes, nil
}

func compress(content []byte, quality int) (br, gz []byte, err error) {
	var b, g bytes.Buffer
	bw := brotli.NewWriterLevel(&b, quality)
	if _, err := bw.Write(content); err != nil {
		return nil, nil, err
	}
	if err := bw.Close(); err != nil {
		return nil, nil, err
	}
	gw, err := gzip.NewWriterLevel(&g, gzip.BestCompression)
	if err != nil {
		return nil, nil, err
	}
	if _, err := gw.Write(content); err != nil {
		return nil, nil, err
	}
	if err := gw.Close(); err != nil {
		return nil, nil, err
	}
	return b.Bytes(), g.Bytes(), nil
}
