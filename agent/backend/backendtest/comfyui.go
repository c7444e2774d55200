package backendtest

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// ComfySettings are those of the fake ComfyUI, in PROGRAM.json.
type ComfySettings struct {
	Settings
	// Older is a server of 2025: it has no /api/jobs and takes any text as a prompt's id.
	Older bool `json:"older,omitempty"`
	// Ancient is a server of early 2025: besides, it makes its own ids of prompts, interrupts whatever runs, and has no /models.
	Ancient bool `json:"ancient,omitempty"`
	// NoSocket refuses /ws, as a proxy does that does not know WebSockets.
	NoSocket bool `json:"no_socket,omitempty"`
	// PreviewBytes is the size of a preview; 0 is that of a small picture.
	PreviewBytes int `json:"preview_bytes,omitempty"`
	// PreviewPNG has previews as PNG instead of JPEG.
	PreviewPNG bool `json:"preview_png,omitempty"`
	// Noise fills the images with noise, so that a PNG is as large as its pixels.
	Noise bool `json:"noise,omitempty"`
	// StartMilliseconds is how long it takes until it listens: importing torch.
	StartMilliseconds int `json:"start_ms,omitempty"`
	// NoTorch ends with status 1 for want of a module, as an interpreter without ComfyUI's requirements does.
	NoTorch bool `json:"no_torch,omitempty"`
}

// Actions of the fake ComfyUI, besides those of other fakes that make sense for it.
const (
	DropSocket    Action = "drop-socket"    // at a step: every socket is closed
	Forget        Action = "forget"         // at a step: queue and history are lost, as by a restart
	GarbageEvents Action = "garbage-events" // nonsense on the socket, text and binary
	ForeignEvents Action = "foreign-events" // on the socket: another prompt's progress, preview and success
	HugeEvent     Action = "huge-event"     // a text of 8 MB
	OtherImage    Action = "other-image"    // in history: another prompt's image
	PathName      Action = "path-name"      // in history: a file name that leads elsewhere
	ViewLost      Action = "view-lost"      // on /view: 404, the first time
	ViewGarbage   Action = "view-garbage"   // on /view: 200 with a page
	ViewHuge      Action = "view-huge"      // on /view: 10 GB
	ViewDrip      Action = "view-drip"      // on /view: a byte a second
	ViewOther     Action = "view-other"     // on /view: the bytes of another prompt's image
	ViewHalf      Action = "view-half"      // on /view: the connection drops in the middle
)

// BuildFakeComfyUI builds the fake ComfyUI (see its package comment) into a folder of the test's own, called as a Python interpreter
// is, and gives its path and a folder with main.py and an empty models folder.
func BuildFakeComfyUI(t testing.TB, settings ComfySettings) (python, dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, folder := range []string{"checkpoints", "diffusion_models", "text_encoders", "vae"} {
		if err := os.MkdirAll(filepath.Join(dir, "models", folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "main.py"), []byte("# the fake is the interpreter itself\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return programs.program(t, "fake-comfyui", "python3", settings), dir
}

// Running is a fake ComfyUI that somebody else than the agent runs.
type Running struct {
	Program, Dir string
	Port         int
	cmd          *exec.Cmd
}

// RunComfyUI starts the program on a free port, as a person does in a terminal, and waits until it listens. It ends with the test.
func RunComfyUI(t testing.TB, python, dir string, args ...string) *Running {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Running{Program: python, Dir: dir, Port: l.Addr().(*net.TCPAddr).Port}
	l.Close()
	r.Start(t, args...)
	t.Cleanup(r.Stop)
	return r
}

// Base is its address.
func (r *Running) Base() string { return "http://" + r.Address() }

// Address is host and port.
func (r *Running) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.Port)) }

// Start starts it, again when it was stopped, on the same port.
func (r *Running) Start(t testing.TB, args ...string) {
	t.Helper()
	r.cmd = exec.Command(r.Program, append([]string{filepath.Join(r.Dir, "main.py"), "--port", strconv.Itoa(r.Port), "--preview-method", "auto"}, args...)...)
	r.cmd.Stderr, r.cmd.Stdout = t.Output(), t.Output()
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.After(patience)
	for {
		conn, err := net.DialTimeout("tcp4", r.Address(), time.Second)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-late:
			t.Fatalf("the fake ComfyUI does not listen: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Stop kills it.
func (r *Running) Stop() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

// PID is its process number.
func (r *Running) PID() int { return r.cmd.Process.Pid }
