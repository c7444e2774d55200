package images

import "testing"

// BenchmarkPut keeps a different image each time, durably.
func BenchmarkPut(b *testing.B) {
	s := store(b, b.TempDir())
	whole := picture(b, 512, 512, 1)
	n := 0
	for b.Loop() {
		n++
		text := makeChunk("tEXt", []byte{'n', 0, byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
		end := len(whole) - 12
		if _, err := s.Put(b.Context(), append(append(whole[:end:end], text...), whole[end:]...)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkThumb shrinks an image of a megapixel.
func BenchmarkThumb(b *testing.B) {
	s := store(b, b.TempDir())
	id, err := s.Put(b.Context(), picture(b, 1024, 1024, 1))
	check(b, err)
	b.ReportAllocs()
	for b.Loop() {
		f, err := s.Open(id)
		check(b, err)
		if _, err := shrink(f); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
