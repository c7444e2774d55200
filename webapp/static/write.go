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

// Write replaces what is in dir (but .gitkeep) by the site, with .br and .gz siblings where they are smaller.
func (s *Site) Write(dir string) (Sizes, error) {
	if err := clean(dir); err != nil {
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
			one, err := writeFile(filepath.Join(dir, filepath.FromSlash(name)), content)
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

func clean(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "assets"), 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == ".gitkeep" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(dir, "assets"), 0o755)
}

func writeFile(path string, content []byte) (Sizes, error) {
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return Sizes{}, err
	}
	if strings.HasSuffix(path, ".png") {
		return Sizes{}, nil // compressed already
	}
	br, gz, err := compress(content)
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
	return Sizes{Gzip: len(gz), Brotli: len(br)}, nil
}

func compress(content []byte) (br, gz []byte, err error) {
	var b, g bytes.Buffer
	bw := brotli.NewWriterLevel(&b, brotli.BestCompression)
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
