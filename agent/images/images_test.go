package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func store(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	check(t, err)
	t.Cleanup(func() { s.root.Close() })
	return s
}

// picture is a PNG whose left half is red and whose right half is blue; shade makes different ones of a size.
func picture(t testing.TB, width, height int, shade uint8) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			c := color.RGBA{R: 255, G: shade, A: 255}
			if x >= width/2 {
				c = color.RGBA{B: 255, G: shade, A: 255}
			}
			img.SetRGBA(x, y, c)
		}
	}
	var b bytes.Buffer
	check(t, png.Encode(&b, img))
	return b.Bytes()
}

// names lists every file below dir.
func names(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	check(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			found = append(found, rel)
		}
		return err
	}))
	return found
}

func TestPutAndOpen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "images")
	s := store(t, dir)
	want := picture(t, 30, 20, 7)
	id, err := s.Put(t.Context(), want)
	check(t, err)
	sum := sha256.Sum256(want)
	if id != hex.EncodeToString(sum[:]) {
		t.Errorf("id %s is not the hash", id)
	}
	again, err := store(t, dir).Put(t.Context(), want)
	if err != nil || again != id {
		t.Errorf("the same bytes: %s, %v", again, err)
	}
	f, err := store(t, dir).Open(id)
	check(t, err)
	defer f.Close()
	got, err := io.ReadAll(f)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d, %v", len(got), len(want), err)
	}
	if found := names(t, dir); len(found) != 1 || found[0] != filepath.Join(id[:2], id+".png") {
		t.Errorf("files: %v", found)
	}
}

func TestPutReplacesAFileOfAnotherSize(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := store(t, dir)
	want := picture(t, 8, 8, 1)
	id, err := s.Put(t.Context(), want)
	check(t, err)
	check(t, os.Truncate(filepath.Join(dir, id[:2], id+".png"), 3))
	_, err = s.Put(t.Context(), want)
	check(t, err)
	if got, err := os.ReadFile(filepath.Join(dir, id[:2], id+".png")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestConcurrentPuts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := store(t, dir)
	pictures := [][]byte{picture(t, 40, 40, 1), picture(t, 40, 40, 2)}
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			if _, err := s.Put(t.Context(), pictures[i%2]); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if found := names(t, dir); len(found) != 2 {
		t.Errorf("files: %v", found)
	}
}

func TestPutAfterTheContextEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store(t, dir).Put(ctx, picture(t, 4, 4, 0)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if found := names(t, dir); len(found) != 0 {
		t.Errorf("files: %v", found)
	}
}

func TestOpenOfWhatIsNoImage(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "images")
	s := store(t, dir)
	id, err := s.Put(t.Context(), picture(t, 4, 4, 0))
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "..", "secret.png"), []byte("secret"), 0o600))
	pipe, folder, link := strings.Repeat("0a", 32), strings.Repeat("0b", 32), strings.Repeat("0c", 32)
	for _, name := range []string{"0a", "0b", "0c"} {
		check(t, os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	check(t, syscall.Mkfifo(filepath.Join(dir, "0a", pipe+".png"), 0o600))
	check(t, os.Mkdir(filepath.Join(dir, "0b", folder+".png"), 0o700))
	check(t, os.Symlink("../../secret.png", filepath.Join(dir, "0c", link+".png")))
	for _, in := range []string{
		"", "x", "../x", "../secret", "..", id[:63], id + "0", strings.ToUpper(id), "/" + id[1:], id[:62] + "..", id[:2] + "/" + id[3:],
		strings.Repeat("f", 64), strings.Repeat("é", 32), strings.Repeat("../", 21) + "x", "\x00" + id[1:], pipe, folder, link,
	} {
		if f, err := s.Open(in); !errors.Is(err, ErrNotFound) {
			t.Errorf("Open(%q): %v, %v", in, f, err)
		}
		if _, err := s.Thumb(t.Context(), in); !errors.Is(err, ErrNotFound) {
			t.Errorf("Thumb(%q): %v", in, err)
		}
	}
}

func TestThumb(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		width, height int
		want          image.Point
	}{
		{"landscape", 800, 400, image.Pt(320, 160)},
		{"portrait", 384, 768, image.Pt(160, 320)},
		{"small ones keep their size", 100, 60, image.Pt(100, 60)},
		{"at the bound", 320, 320, image.Pt(320, 320)},
		{"very long", 4000, 2, image.Pt(320, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := store(t, dir)
			id, err := s.Put(t.Context(), picture(t, c.width, c.height, 0))
			check(t, err)
			thumb, err := s.Thumb(t.Context(), id)
			check(t, err)
			img, err := jpeg.Decode(bytes.NewReader(thumb))
			check(t, err)
			if img.Bounds().Size() != c.want {
				t.Fatalf("size %v, want %v", img.Bounds().Size(), c.want)
			}
			left, _, _, _ := img.At(0, 0).RGBA()
			_, _, right, _ := img.At(c.want.X-1, c.want.Y-1).RGBA()
			if left>>8 < 200 || right>>8 < 200 {
				t.Errorf("red %d on the left, blue %d on the right", left>>8, right>>8)
			}
			// The second comes from disk: a mark left there shows it.
			kept := filepath.Join(dir, id[:2], id+".thumb.jpg")
			check(t, os.WriteFile(kept, []byte("mark"), 0o600))
			if again, err := s.Thumb(t.Context(), id); err != nil || string(again) != "mark" {
				t.Errorf("not kept: %d bytes, %v", len(again), err)
			}
		})
	}
}

func TestThumbShowsTransparencyAsWhite(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	check(t, png.Encode(&b, image.NewNRGBA(image.Rect(0, 0, 9, 9))))
	s := store(t, t.TempDir())
	id, err := s.Put(t.Context(), b.Bytes())
	check(t, err)
	thumb, err := s.Thumb(t.Context(), id)
	check(t, err)
	img, err := jpeg.Decode(bytes.NewReader(thumb))
	check(t, err)
	if r, g, b, _ := img.At(4, 4).RGBA(); min(r, g, b)>>8 < 250 {
		t.Errorf("colour %v", img.At(4, 4))
	}
}

func TestThumbRefuses(t *testing.T) {
	t.Parallel()
	s := store(t, t.TempDir())
	for _, c := range []struct {
		name string
		in   []byte
		want error
	}{
		{"more pixels than are unpacked here", bomb(5000, 5000), ErrTooLarge},
		{"pixels that are none", bomb(64, 64), ErrInvalid},
	} {
		id, err := s.Put(t.Context(), c.in)
		check(t, err)
		if _, err := s.Thumb(t.Context(), id); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	id, err := s.Put(t.Context(), picture(t, 400, 400, 0))
	check(t, err)
	s.decode <- struct{}{} // another one is being made
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Thumb(ctx, id); !errors.Is(err, context.Canceled) {
		t.Errorf("while another is made: %v", err)
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := store(t, dir)
	old := time.Now().Add(-3 * time.Hour)
	put := func(shade uint8, at time.Time) string {
		id, err := s.Put(t.Context(), picture(t, 400, 40, shade))
		check(t, err)
		_, err = s.Thumb(t.Context(), id)
		check(t, err)
		check(t, os.Chtimes(filepath.Join(dir, id[:2], id+".png"), at, at))
		return id
	}
	wanted, unwanted, young, again := put(1, old), put(2, old), put(3, time.Now()), put(4, old)
	_, err := s.Put(t.Context(), picture(t, 400, 40, 4))
	check(t, err)
	orphan := strings.Repeat("ef", 32)
	check(t, os.MkdirAll(filepath.Join(dir, "ef"), 0o700))
	check(t, os.WriteFile(filepath.Join(dir, "ef", orphan+".thumb.jpg"), nil, 0o600))
	check(t, os.WriteFile(filepath.Join(dir, "ef", "notes.txt"), nil, 0o600))
	size := s.Size(wanted)
	swept, err := s.Sweep(t.Context(), func(id string) bool { return id == wanted }, time.Hour)
	if err != nil || swept.Removed != 1 || swept.Kept != size {
		t.Errorf("swept %+v, %v; want 1, and %d bytes kept", swept, err, size)
	}
	for id, want := range map[string]bool{wanted: true, unwanted: false, young: true, again: true} {
		f, err := s.Open(id)
		if (err == nil) != want {
			t.Errorf("image kept=%v, want %v: %v", err == nil, want, err)
		}
		f.Close()
		if _, err := os.Stat(filepath.Join(dir, id[:2], id+".thumb.jpg")); (err == nil) != want {
			t.Errorf("thumbnail kept=%v, want %v", err == nil, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "ef", orphan+".thumb.jpg")); err == nil {
		t.Error("a thumbnail without an image was kept")
	}
	if _, err := os.Stat(filepath.Join(dir, "ef", "notes.txt")); err != nil {
		t.Error("a file of somebody else was removed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Sweep(ctx, func(string) bool { return false }, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}

func TestSizeAndRemove(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := store(t, dir)
	picture := picture(t, 400, 40, 1)
	id, err := s.Put(t.Context(), picture)
	check(t, err)
	if size := s.Size(id); size != int64(len(picture)) {
		t.Errorf("size %d, want %d", size, len(picture))
	}
	thumb, err := s.Thumb(t.Context(), id)
	check(t, err)
	if size := s.Size(id); size != int64(len(picture)+len(thumb)) {
		t.Errorf("with its thumbnail %d, want %d", size, len(picture)+len(thumb))
	}
	if gone, err := s.Remove(id, time.Hour); gone || err != nil {
		t.Errorf("one that was just put: removed=%v, %v", gone, err)
	}
	old := time.Now().Add(-2 * time.Hour)
	check(t, os.Chtimes(filepath.Join(dir, id[:2], id+".png"), old, old))
	if gone, err := s.Remove(id, time.Hour); !gone || err != nil || len(names(t, dir)) != 0 || s.Size(id) != 0 {
		t.Errorf("removed=%v, %v, left %v", gone, err, names(t, dir))
	}
	for _, id := range []string{id, "", "../x"} {
		if gone, err := s.Remove(id, 0); gone || err != nil || s.Size(id) != 0 {
			t.Errorf("Remove(%q): %v, %v", id, gone, err)
		}
	}
}

func TestOpenRemovesWhatACrashLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := time.Now().Add(-2 * tmpAge)
	for _, name := range []string{"tmp-old", "tmp-young", "theirs"} {
		check(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		if name != "tmp-young" {
			check(t, os.Chtimes(filepath.Join(dir, name), old, old))
		}
	}
	s := store(t, dir)
	if found := names(t, dir); len(found) != 2 || found[0] != "theirs" || found[1] != "tmp-young" {
		t.Errorf("left: %v", found)
	}
	if _, err := s.Sweep(t.Context(), func(string) bool { return true }, 0); err != nil {
		t.Error(err)
	}
	if found := names(t, dir); len(found) != 1 {
		t.Errorf("left after Sweep: %v", found)
	}
}

func TestOpenOfAFolderThatCannotBe(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, nil, 0o600))
	if _, err := Open(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Error(err)
	}
}

// limitedDir names to a child process the folder in which it puts images under a limit of file size.
const limitedDir = "MUSTER_TEST_LIMITED_IMAGES"

func TestDiskFull(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv(limitedDir); dir != "" {
		putLimited(t, dir)
		return
	}
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDiskFull$")
	child.Env = append(os.Environ(), limitedDir+"="+dir)
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// putLimited makes real writes fail half way, then succeed again.
func putLimited(t *testing.T, dir string) {
	signal.Ignore(syscall.SIGXFSZ)
	s := store(t, dir)
	noise := bomb(64, 64)
	var limit syscall.Rlimit
	check(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	small := limit
	small.Cur = uint64(len(noise) / 2)
	check(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small))
	_, err := s.Put(t.Context(), noise)
	check(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	if !errors.Is(err, ErrDiskFull) {
		t.Errorf("full disk: %v", err)
	}
	if found := names(t, dir); len(found) != 0 {
		t.Errorf("left behind: %v", found)
	}
	if _, err := s.Put(t.Context(), noise); err != nil {
		t.Errorf("after the disk recovered: %v", err)
	}
}

func TestExplainDisk(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   error
		full bool
	}{{syscall.ENOSPC, true}, {syscall.EDQUOT, true}, {syscall.EFBIG, true}, {syscall.EIO, false}, {syscall.EROFS, false}} {
		err := explainDisk(&fs.PathError{Op: "write", Path: "tmp", Err: c.in})
		if errors.Is(err, ErrDiskFull) != c.full || !errors.Is(err, c.in) {
			t.Errorf("%v: %v", c.in, err)
		}
	}
}
