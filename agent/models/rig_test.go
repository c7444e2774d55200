package models

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"muster/shared/gpu"
	"muster/shared/model"
)

// world is a network of its own: hosts with public addresses, whose connections are pipes. It runs in a synctest bubble.
type world struct {
	t     *testing.T
	roots *x509.CertPool
	ca    *x509.Certificate
	key   *ecdsa.PrivateKey

	mu      sync.Mutex
	names   map[string]netip.Addr
	hosts   map[netip.Addr]pipes
	refused []netip.AddrPort // dialed, and nobody is there
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, names: map[string]netip.Addr{}, hosts: map[netip.Addr]pipes{}, roots: x509.NewCertPool()}
	// TLS says good-bye for up to 5 s to whom does not listen any more, and while it does, a lock of the server's may be held that
	// others wait for: bubbles take no time then. So time passes before a server is closed, and in the end.
	t.Cleanup(func() { time.Sleep(time.Minute) })
	w.key = must1(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	raw := must1(x509.CreateCertificate(rand.Reader, template, template, &w.key.PublicKey, w.key))
	w.ca = must1(x509.ParseCertificate(raw))
	w.roots.AddCert(w.ca)
	return w
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// pipes is a listener whose connections never leave the process.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// host serves a name over TLS until the test ends. Its address is public.
func (w *world) host(name string, serve http.HandlerFunc) {
	w.t.Helper()
	address := netip.AddrFrom4([4]byte{93, 184, 216, byte(len(w.hosts) + 1)})
	own := must1(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), DNSNames: []string{name}}
	raw := must1(x509.CreateCertificate(rand.Reader, template, w.ca, &own.PublicKey, w.key))
	listener := make(pipes)
	var serving sync.WaitGroup
	handler := http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		serving.Add(1)
		defer serving.Done()
		serve(out, r)
	})
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{raw}, PrivateKey: own}}}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(tls.NewListener(listener, config)) }()
	w.t.Cleanup(func() { time.Sleep(time.Minute); close(listener); _ = server.Close(); <-served; serving.Wait() })
	w.mu.Lock()
	w.names[name], w.hosts[address] = address, listener
	w.mu.Unlock()
}

func (w *world) network() Network {
	return Network{
		Roots: w.roots,
		Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if address, ok := w.names[host]; ok {
				return []netip.Addr{address}, nil
			}
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		},
		Dial: func(ctx context.Context, address netip.AddrPort) (net.Conn, error) {
			w.mu.Lock()
			listener, ok := w.hosts[address.Addr()]
			if !ok {
				w.refused = append(w.refused, address)
			}
			w.mu.Unlock()
			if !ok {
				return nil, errors.New("connection refused")
			}
			ours, theirs := net.Pipe()
			select {
			case listener <- theirs:
				return ours, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
	}
}

// shelf is a library in a bubble, with what it published.
type shelf struct {
	t          *testing.T
	dir, state string
	config     Config
	*Library
	told chan model.Library
	stop func()
}

func newShelf(t *testing.T, w *world, change ...func(*Config)) *shelf {
	t.Helper()
	data := t.TempDir()
	s := &shelf{t: t, dir: filepath.Join(data, "models"), state: filepath.Join(data, "models.json")}
	s.config = Config{
		Dir: s.dir, Make: true, State: s.state, Hub: must1(ParseHub("https://hub.test/base")),
		Free: func(string) (uint64, uint64, error) { return 1 << 40, 1 << 41, nil },
	}
	if w != nil {
		s.config.Network = w.network()
	}
	for _, c := range change {
		c(&s.config)
	}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

// start opens the library and runs it, until stop.
func (s *shelf) start() {
	s.t.Helper()
	told := make(chan model.Library, 1<<14)
	s.told = told
	s.config.Publish = func(l model.Library) { told <- l }
	var err error
	if s.Library, err = Open(s.config); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	library := s.Library
	go func() { defer close(done); _ = library.Run(ctx) }()
	s.stop = sync.OnceFunc(func() { cancel(); <-done })
}

// until waits for an installation to come to what is wanted, and gives it.
func (s *shelf) until(id string, wanted func(model.Install) bool) model.Install {
	s.t.Helper()
	late := time.After(24 * time.Hour)
	for {
		for _, in := range s.Library.Library().Installs {
			if in.ID == id && wanted(in) {
				return in
			}
		}
		select {
		case <-s.told:
		case <-late:
			s.t.Fatalf("%s did not come to it: %+v", id, s.Library.Library().Installs)
		}
	}
}

func (s *shelf) ended(id string) model.Install {
	s.t.Helper()
	return s.until(id, func(in model.Install) bool { return in.State.Ended() })
}

func (s *shelf) ask(q Request) model.Install {
	s.t.Helper()
	in, err := s.Install(s.t.Context(), q)
	if err != nil {
		s.t.Fatal(err)
	}
	return in
}

// parts lists what is left of downloads.
func (s *shelf) parts() (names []string) {
	entries, _ := os.ReadDir(filepath.Join(s.dir, partsDir))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// safetensors builds a file: names and shapes of F16 tensors, with the bytes that they need.
func safetensors(tensors ...tensor) []byte {
	header, at := map[string]any{"__metadata__": map[string]string{"format": "pt"}}, uint64(0)
	for _, one := range tensors {
		bytes, _ := product(2, one.shape)
		header[one.name] = map[string]any{"dtype": "F16", "shape": one.shape, "data_offsets": []uint64{at, at + bytes}}
		at += bytes
	}
	raw := must1(json.Marshal(header))
	file := binary.LittleEndian.AppendUint64(nil, uint64(len(raw)))
	file = append(append(file, raw...), make([]byte, at)...)
	for i := range file[uint64(len(file))-at:] {
		file[8+len(raw)+i] = byte(i * 7)
	}
	return file
}

// sd1 is the smallest whole model, padded to about so many bytes.
func sd1(bytes uint64) []byte {
	return safetensors(
		tensor{name: "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", shape: []uint64{1, 768}},
		tensor{name: "model.diffusion_model.input_blocks.0.0.weight", shape: []uint64{bytes/2 + 1}},
		tensor{name: "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight", shape: []uint64{1, 768}},
		tensor{name: "first_stage_model.decoder.conv_in.weight", shape: []uint64{4}},
	)
}

func sha(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// hubTree answers what the hub tells of the files of a folder.
func hubTree(files map[string][]byte) string {
	var entries []map[string]any
	for name, content := range files {
		entries = append(entries, map[string]any{"type": "file", "path": name, "oid": "0123", "size": len(content), "lfs": map[string]any{"oid": sha(content), "size": len(content), "pointerSize": 135}})
	}
	return string(must1(json.Marshal(entries)))
}

func device(n gpu.Ref) *gpu.Ref { return &n }

// wants fails unless an installation failed with words that hold all of these.
func wantFailed(t *testing.T, in model.Install, words ...string) {
	t.Helper()
	if in.State != model.Failed {
		t.Errorf("it is %s: %s", in.State, in.Error)
	}
	for _, word := range words {
		if !strings.Contains(in.Error, word) {
			t.Errorf("%q is not in %q", word, in.Error)
		}
	}
}

func wantInstalled(t *testing.T, s *shelf, in model.Install, fileName string, content []byte) {
	t.Helper()
	if in.State != model.Installed || in.Error != "" || in.SHA != sha(content) || in.Bytes != int64(len(content)) {
		t.Errorf("it is %s with %d bytes, %.8s: %s", in.State, in.Bytes, in.SHA, in.Error)
	}
	got, err := os.ReadFile(filepath.Join(s.dir, fileName))
	if err != nil || sha(got) != sha(content) {
		t.Errorf("the file is not what was sent: %d bytes, %v", len(got), err)
	}
	if left := s.parts(); len(left) > 0 {
		t.Errorf("parts are left: %v", left)
	}
	found := false
	for _, m := range s.Usable() {
		found = found || m.Path == filepath.Join(s.dir, fileName) && m.SHA256 == sha(content)
	}
	if !found {
		t.Errorf("it is not among those that can be used: %+v", s.Usable())
	}
}

// serveFile answers as a server of files does, Range and If-Range included.
func serveFile(content []byte, etag string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", etag)
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(content)))
	}
}
