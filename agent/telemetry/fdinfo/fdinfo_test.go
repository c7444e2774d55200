package fdinfo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"muster/agent/telemetry/kernel"
)

func ptr[T any](v T) *T { return &v }

// As amdgpu of Linux 6.14, i915 and xe write them, and amdgpu before Linux 5.19.
const (
	amdgpuText = "pos:\t0\nflags:\t02100002\nmnt_id:\t27\nino:\t1069\ndrm-driver:\tamdgpu\ndrm-client-id:\t42\ndrm-pdev:\t0000:1a:00.0\npasid:\t32771\n" +
		"drm-total-cpu:\t0\ndrm-resident-cpu:\t0\ndrm-total-vram:\t1048576 KiB\ndrm-shared-vram:\t0\ndrm-resident-vram:\t524288 KiB\n" +
		"drm-memory-vram:\t524288 KiB\ndrm-memory-gtt: \t14 MiB\namd-requested-vram:\t1048576 KiB\ndrm-engine-gfx:\t1234567890 ns\ndrm-engine-compute:\t77 ns\n"
	i915Text = "drm-driver:\ti915\ndrm-pdev:\t0000:00:02.0\ndrm-client-id:\t7\ndrm-total-system0:\t4096 KiB\ndrm-resident-system0:\t4 MiB\n" +
		"drm-engine-render:\t9288864723 ns\ndrm-engine-video:\t100 ns\ndrm-engine-capacity-video:\t2\ndrm-maxfreq-render:\t1500 MHz\n"
	xeText = "drm-driver:\txe\ndrm-client-id:\t3\ndrm-pdev:\t0000:03:00.0\ndrm-resident-vram0:\t512 KiB\n" +
		"drm-cycles-rcs:\t28257900\ndrm-total-cycles-rcs:\t7655183225\ndrm-engine-capacity-vcs:\t2\ndrm-maxfreq-rcs:\t2400000 KHz\n"
	oldText = "pos:\t0\nflags:\t02100002\nmnt_id:\t22\npdev:\t0000:1A:00.0\npasid:\t32780\nvram mem:\t2048 kB\ngtt mem:\t16 kB\ncpu mem:\t0 kB\ngfx0:\t3.5%\n"
)

var amd, intel = kernel.Address{Bus: 0x1a}, kernel.Address{Device: 2}

func TestParse(t *testing.T) { // trap 37
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		id   identity
		want Client
	}{
		"amdgpu": {amdgpuText, identity{numbered: true, id: 42}, Client{ID: 42, Driver: "amdgpu", Address: amd, OnPCI: true,
			Regions: []Region{{"cpu", ptr[uint64](0), ptr[uint64](0)}, {"vram", ptr[uint64](512 << 20), ptr[uint64](1 << 30)}, {"gtt", ptr[uint64](14 << 20), nil}},
			Engines: []Engine{{Name: "gfx", Capacity: 1, BusyNanoseconds: ptr[uint64](1234567890)}, {Name: "compute", Capacity: 1, BusyNanoseconds: ptr[uint64](77)}}}},
		"i915": {i915Text, identity{numbered: true, id: 7}, Client{ID: 7, Driver: "i915", Address: intel, OnPCI: true,
			Regions: []Region{{"system0", ptr[uint64](4 << 20), ptr[uint64](4 << 20)}},
			Engines: []Engine{{Name: "render", Capacity: 1, BusyNanoseconds: ptr[uint64](9288864723), MaxMHz: 1500}, {Name: "video", Capacity: 2, BusyNanoseconds: ptr[uint64](100)}}}},
		"xe": {xeText, identity{numbered: true, id: 3}, Client{ID: 3, Driver: "xe", Address: kernel.Address{Bus: 3}, OnPCI: true,
			Regions: []Region{{"vram0", ptr[uint64](512 << 10), nil}},
			Engines: []Engine{{Name: "rcs", Capacity: 1, Cycles: ptr[uint64](28257900), TotalCycles: ptr[uint64](7655183225), MaxMHz: 2400}, {Name: "vcs", Capacity: 2}}}},
		"old amdgpu": {oldText, identity{numbered: true, id: 32780}, Client{ID: 32780, Driver: "amdgpu", Address: amd, OnPCI: true,
			Regions: []Region{{"vram", ptr[uint64](2 << 20), nil}, {"gtt", ptr[uint64](16 << 10), nil}, {"cpu", ptr[uint64](0), nil}}}},
		"no client id": {"drm-driver:\tamdgpu\n", identity{}, Client{Driver: "amdgpu"}},
		"nonsense size": {"drm-driver:\tv\ndrm-memory-vram:\t18446744073709551615 KiB\ndrm-total-vram:\t1 furlong\ndrm-engine-:\t1 ns\ndrm-engine-gfx:\t-1 ns\ndrm-engine-capacity-gfx:\t0\n",
			identity{}, Client{Driver: "v", Regions: []Region{{Name: "vram"}}, Engines: []Engine{{Name: "gfx", Capacity: 1}}}},
	} {
		got, id, ok := parse([]byte(c.text))
		if diff := cmp.Diff(c.want, got); !ok || id != c.id || diff != "" {
			t.Errorf("%s: ok %v, id %+v (-want +got):\n%s", name, ok, id, diff)
		}
	}
	for _, text := range []string{"", "pos:\t0\nflags:\t02\n", "drm-driver:\n", "pdev:\tnowhere\n", strings.Repeat("x", 1<<20), "\x00\x00\x00"} {
		if c, _, ok := parse([]byte(text)); ok {
			t.Errorf("%.20q: taken as %+v", text, c)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{amdgpuText, i915Text, xeText, oldText, "drm-driver:x\ndrm-total-cycles-:1", "pdev:\t0000:00:00.0\npasid:x"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, id, ok := parse(text)
		if !ok && (c.Driver != "" || id != (identity{}) || c.Regions != nil) {
			t.Errorf("refused, but gives %+v", c)
		}
		if ok && c.Driver == "" {
			t.Errorf("no driver: %+v", c)
		}
		for _, r := range c.Regions {
			if r.ResidentBytes != nil && *r.ResidentBytes > maxBytes || r.TotalBytes != nil && *r.TotalBytes > maxBytes {
				t.Errorf("region %+v", r)
			}
		}
		for _, e := range c.Engines {
			if e.Capacity == 0 || e.MaxMHz < 0 {
				t.Errorf("engine %+v", e)
			}
		}
		Busy(Clients{Time: time.Unix(0, 0), List: []Client{c}}, Clients{Time: time.Unix(1, 0), List: []Client{c}})
	})
}

// proc is a /proc that a test builds.
type proc struct {
	t    *testing.T
	root string
}

func newProc(t *testing.T) proc { return proc{t, t.TempDir()} }

func (p proc) path(inside string) string { return filepath.Join(p.root, "proc", inside) }

func (p proc) file(inside, content string) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(p.path(inside)), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(p.path(inside), []byte(content), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// open gives a process an open file, and its fdinfo when there is any.
func (p proc) open(pid, fd, target, info string) {
	p.t.Helper()
	dir := p.path(pid + "/fd")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(dir, fd)); err != nil {
		p.t.Fatal(err)
	}
	if info != "" {
		p.file(pid+"/fdinfo/"+fd, info)
	}
}

func (p proc) scanner(read kernel.ReadFunc, every time.Duration) *Scanner {
	p.t.Helper()
	tree, err := kernel.OpenWith(p.root, read)
	if err != nil {
		p.t.Fatal(err)
	}
	return New(tree, every)
}

func clients(t *testing.T, s *Scanner, nodes ...string) Clients {
	t.Helper()
	c, err := s.Clients(context.Background(), nodes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// brief gives "pid/id" of each client.
func brief(c Clients) string {
	var list []string
	for _, c := range c.List {
		list = append(list, fmt.Sprintf("%d/%d", c.PID, c.ID))
	}
	return strings.Join(list, " ")
}

func TestClients(t *testing.T) { // trap 37
	t.Parallel()
	p := newProc(t)
	client := func(id string) string { return strings.Replace(amdgpuText, "42", id, 1) }
	p.file("1/comm", "init\n")
	p.open("900", "3", "/dev/dri/renderD128", client("5"))
	p.open("900", "4", "/dev/dri/renderD128", client("5")) // the same client twice
	p.open("900", "5", "/dev/dri/card1", client("6"))
	p.open("77", "9", "/dev/dri/renderD128 (deleted)", client("5")) // and handed over to another process
	p.open("900", "6", "/dev/dri/renderD129", client("8"))          // another device's
	p.open("900", "7", "/dev/null", "drm-driver:\tx\n")
	p.open("900", "8", "/dev/dri/renderD128", "")                 // closed since
	p.open("901", "3", "/dev/dri/renderD128", "pos:\t0\n")        // no accounting in this driver
	p.open("901", "4", "/dev/dri/card1", "drm-driver:\tamdgpu\n") // no numbers
	p.open("901", "5", "/dev/dri/card1", "drm-driver:\tamdgpu\n")
	p.open("self", "3", "/dev/dri/renderD128", client("99"))
	if err := syscall.Mkfifo(p.path("901/fdinfo/6"), 0o644); err != nil { // trap 42
		t.Fatal(err)
	}
	p.open("901", "6", "/dev/dri/card1", "")
	got := clients(t, p.scanner(kernel.ReadFile, time.Minute), "card1", "renderD128")
	if want := "77/5 900/6 901/0 901/0"; brief(got) != want || got.Hidden != 0 || got.HidesOthers || got.Cut || got.Time.IsZero() {
		t.Errorf("got %s of %+v, want %s", brief(got), got, want)
	}
	if r, ok := got.List[0].Region("vram"); !ok || *r.ResidentBytes != 512<<20 {
		t.Errorf("got region %+v, %v", r, ok)
	}
	if _, ok := got.List[0].Region("stolen"); ok {
		t.Error("a region that is not there was found")
	}
	if got := clients(t, p.scanner(kernel.ReadFile, time.Minute)); len(got.List) != 0 {
		t.Errorf("no nodes: got %s", brief(got))
	}
}

// Only files of the device are read: one that hangs in its driver keeps nobody else from theirs.
func TestOtherDevicesAreNotRead(t *testing.T) {
	t.Parallel()
	p := newProc(t)
	p.open("9", "3", "/dev/dri/renderD128", amdgpuText)
	p.open("9", "4", "/dev/dri/renderD129", amdgpuText)
	hung := make(chan struct{})
	defer close(hung)
	s := p.scanner(func(path string, buf []byte) (int, error) {
		if strings.HasSuffix(path, "fdinfo/3") {
			<-hung
		}
		return kernel.ReadFile(path, buf)
	}, time.Minute)
	go s.Clients(context.Background(), []string{"renderD128"})
	if got := clients(t, s, "renderD129"); len(got.List) != 1 {
		t.Errorf("got %s", brief(got))
	}
}

func TestHiddenProcesses(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 && !canHide(t) {
		asNobody(t, "TestHiddenProcesses") // root looks into every folder
		return
	}
	p := newProc(t)
	p.open("2", "3", "/dev/null", "")
	p.file("3/stat", "3 (some) thing) R 1 3 3 0 -1 4194304 0 0\n")
	p.file("4/stat", "4 (kworker/0:1) I 2 0 0 0 -1 69238880 0 0\n") // 0x04208060 holds PF_KTHREAD
	for _, pid := range []string{"3", "4", "5"} {
		if err := os.MkdirAll(p.path(pid+"/fd"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p.path(pid+"/fd"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if got := clients(t, p.scanner(kernel.ReadFile, 0)); got.Hidden != 2 || !got.HidesOthers {
		t.Errorf("got %+v, want 2 hidden, no kernel thread, and no process 1", got)
	}
}

// asNobody runs one test of this package as a user without privileges.
func asNobody(t *testing.T, name string) {
	t.Helper()
	const nobody = 65534
	again := exec.Command("/proc/self/exe", "-test.run=^"+name+"$", "-test.v")
	again.Dir, again.Env = "/", append(os.Environ(), "TMPDIR=/tmp")
	again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := again.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+name) {
		t.Errorf("%s as another user: %v\n%s", name, err, out)
	}
}

// canHide says whether a folder without permissions stops this user.
func canHide(t *testing.T) bool {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(dir)
	if err == nil {
		f.Close()
	}
	return err != nil
}

func TestKernelThread(t *testing.T) {
	t.Parallel()
	p := newProc(t)
	tree, err := kernel.Open(p.root)
	if err != nil {
		t.Fatal(err)
	}
	for stat, want := range map[string]bool{
		"4 (kworker/0:1) I 2 0 0 0 -1 69238880 0 0\n": true, "3 (some) thing) R 1 3 3 0 -1 4194304 0 0\n": false,
		"5 () 9) I 2 0 0 0 -1 2129984 0\n": true, "": false, "7 (cut": false, "8 (x) R 1 2 3 4 5 nonsense": false,
	} {
		p.file("4/stat", stat)
		if got := kernelThread(tree, p.path("4")); got != want {
			t.Errorf("%q: got %v", stat, got)
		}
	}
}

// Between walks only the known files are read again; those that are gone are left out.
func TestWalksAreRare(t *testing.T) {
	t.Parallel()
	p := newProc(t)
	p.open("9", "3", "/dev/dri/renderD128", amdgpuText)
	synctest.Test(t, func(t *testing.T) {
		s := p.scanner(kernel.ReadFile, 10*time.Second)
		for _, step := range []struct {
			after time.Duration
			do    func()
			want  string
		}{
			{0, func() {}, "9/42"},
			{5 * time.Second, func() { p.open("10", "3", "/dev/dri/renderD128", strings.Replace(amdgpuText, "42", "43", 1)) }, "9/42"},
			{6 * time.Second, func() {}, "9/42 10/43"},
			{time.Second, func() {
				if err := os.RemoveAll(p.path("9")); err != nil {
					t.Fatal(err)
				}
			}, "10/43"},
		} {
			time.Sleep(step.after)
			step.do()
			if got := clients(t, s, "renderD128"); brief(got) != step.want {
				t.Errorf("%v later: got %s, want %s", step.after, brief(got), step.want)
			}
		}
	})
}

func TestBounds(t *testing.T) {
	t.Parallel()
	p := newProc(t)
	for fd := range maxOpen + 1 {
		p.open("9", fmt.Sprint(fd), "/dev/dri/renderD128", "")
	}
	p.file("9/fdinfo/none", "")
	p.open("8", "3", "/dev/dri/renderD128", amdgpuText+strings.Repeat("x", 1<<20)) // trap 42: what is too long is cut
	if got := clients(t, p.scanner(kernel.ReadFile, 0), "renderD128"); brief(got) != "8/42" || !got.Cut {
		t.Errorf("got %s, cut %v", brief(got), got.Cut)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.scanner(kernel.ReadFile, 0).Clients(ctx, []string{"renderD128"}); err == nil {
		t.Error("cancelled: got no error")
	}
	empty := proc{t, t.TempDir()}
	if got := clients(t, empty.scanner(kernel.ReadFile, 0), "renderD128"); len(got.List) != 0 || got.HidesOthers {
		t.Errorf("without /proc: got %+v", got)
	}
}

// A captured /proc whose folders are links leads nowhere outside.
func TestLinksThatLeadOut(t *testing.T) {
	t.Parallel()
	other := newProc(t)
	other.open("9", "3", "/dev/dri/renderD128", amdgpuText)
	p := newProc(t)
	p.open("8", "3", "/dev/dri/renderD128", "")
	for inside, target := range map[string]string{"9": other.path("9"), "8/fdinfo": other.path("9/fdinfo")} {
		if err := os.Symlink(target, p.path(inside)); err != nil {
			t.Fatal(err)
		}
	}
	if got := clients(t, p.scanner(kernel.ReadFile, 0), "renderD128"); len(got.List) != 0 {
		t.Errorf("got %s from outside the root", brief(got))
	}
}

func TestNodes(t *testing.T) {
	t.Parallel()
	p := newProc(t)
	for _, name := range []string{"card1/card1-DP-1", "renderD128", "controlD64", "card1-DP-2"} {
		p.file("../dev/drm/"+name+"/dev", "226:1\n")
	}
	tree, err := kernel.Open(p.root)
	if err != nil {
		t.Fatal(err)
	}
	if got := Nodes(tree, tree.Path("dev")); !cmp.Equal(got, []string{"card1", "renderD128"}) {
		t.Errorf("got %q", got)
	}
	if got := Nodes(tree, tree.Path("none")); got != nil {
		t.Errorf("got %q", got)
	}
}

func TestBusy(t *testing.T) {
	t.Parallel()
	second := func(n int64, list ...Client) Clients { return Clients{Time: time.Unix(n, 0), List: list} }
	ns := func(id uint64, pid int, capacity, gfx uint64) Client {
		return Client{ID: id, PID: pid, Engines: []Engine{{Name: "gfx", Capacity: capacity, BusyNanoseconds: &gfx}}}
	}
	cycles := func(worked, passed uint64) Client {
		return Client{ID: 3, Engines: []Engine{{Name: "rcs", Capacity: 1, Cycles: &worked, TotalCycles: &passed}}}
	}
	for name, c := range map[string]struct {
		before, after Clients
		want          map[string]float64
		moved         bool
	}{
		"half":              {second(0, ns(1, 9, 1, 100)), second(2, ns(1, 9, 1, 100+1e9)), map[string]float64{"gfx": 50}, true},
		"two engines":       {second(0, ns(1, 9, 2, 0)), second(1, ns(1, 9, 2, 1e9)), map[string]float64{"gfx": 50}, true},
		"two clients":       {second(0, ns(1, 9, 1, 0), ns(2, 8, 1, 0)), second(1, ns(1, 9, 1, 3e8), ns(2, 8, 1, 4e8)), map[string]float64{"gfx": 70}, true},
		"never above 100":   {second(0, ns(1, 9, 1, 0)), second(1, ns(1, 9, 1, 2e9)), map[string]float64{"gfx": 100}, true},
		"frozen":            {second(0, ns(1, 9, 1, 7)), second(1, ns(1, 9, 1, 7)), map[string]float64{"gfx": 0}, false},
		"new client":        {second(0), second(1, ns(1, 9, 1, 7)), map[string]float64{}, true},
		"new, never worked": {second(0), second(1, ns(1, 9, 1, 0)), map[string]float64{}, false},
		"number used again": {second(0, ns(1, 9, 1, 5)), second(1, ns(1, 10, 1, 7)), map[string]float64{}, true},
		"went back":         {second(0, ns(1, 9, 1, 5)), second(1, ns(1, 9, 1, 4)), map[string]float64{}, true},
		"no time passed":    {second(1, ns(1, 9, 1, 5)), second(1, ns(1, 9, 1, 7)), map[string]float64{}, true},
		"nobody":            {second(0), second(1), map[string]float64{}, false},
		"cycles":            {second(0, cycles(10, 1000)), second(1, cycles(60, 1200)), map[string]float64{"rcs": 25}, true},
		"no cycles passed":  {second(0, cycles(10, 1000)), second(1, cycles(10, 1000)), map[string]float64{}, true},
	} {
		if diff := cmp.Diff(c.want, Busy(c.before, c.after)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if got := Moved(c.before, c.after); got != c.moved {
			t.Errorf("%s: moved %v", name, got)
		}
	}
}

// BenchmarkWalk looks through this machine's own processes.
func BenchmarkWalk(b *testing.B) {
	tree, err := kernel.Open("/")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := New(tree, 0).Clients(context.Background(), []string{"renderD128"}); err != nil {
			b.Fatal(err)
		}
	}
}
