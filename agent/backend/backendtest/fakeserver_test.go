package backendtest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"muster/agent/fixture"
	"muster/shared/gpu"
)

// exchange is one captured request with its answer.
type exchange struct {
	name, method, path, body string
	sent                     bool // the request had a body
	answer                   string
}

var title = regexp.MustCompile(`(?m)^### (.*)\n`)

// exchanges reads a capture: "### name", "> METHOD path", "> body", the answer, "[http=…]".
func exchanges(t *testing.T, file string) []exchange {
	t.Helper()
	text, err := os.ReadFile(fixture.Path(t, "sd-server", file))
	if err != nil {
		t.Fatal(err)
	}
	parts := title.Split(strings.ReplaceAll(string(text), "\r", ""), -1)[1:]
	names := title.FindAllStringSubmatch(string(text), -1)
	var all []exchange
	for i, part := range parts {
		e := exchange{name: strings.TrimSpace(names[i][1])}
		for strings.HasPrefix(part, "> ") {
			line, rest, _ := strings.Cut(part, "\n")
			line, part = strings.TrimPrefix(line, "> "), rest
			if e.method == "" {
				e.method, e.path, _ = strings.Cut(line, " ")
			} else {
				e.body, e.sent = line, true
			}
		}
		e.answer, _, _ = strings.Cut(part, "\n[http=")
		all = append(all, e)
	}
	return all
}

// launch starts a fake as the captured server was started, and waits until it listens.
func launch(t *testing.T) (address, models string) {
	t.Helper()
	program := BuildFakeSDServer(t, Settings{})
	dir := t.TempDir()
	models = filepath.Join(dir, "models")
	if err := os.Mkdir(models, 0o700); err != nil {
		t.Fatal(err)
	}
	WriteModel(t, models, "sd1-mc64", Scenario{StepMilliseconds: 10})
	for _, name := range []string{"empty.safetensors", "garbage.gguf", "garbage.safetensors", "sd1-mc320.safetensors", "taesd.safetensors", "truncated.safetensors"} {
		if err := os.WriteFile(filepath.Join(models, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(program, "--listen-port", port, "-m", filepath.Join(models, "sd1-mc64.safetensors"), "-W", "128", "-H", "128", "--steps", "2", "--cfg-scale", "1")
	cmd.Dir, cmd.Env = dir, []string{}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(30 * time.Second); ; {
		c, err := net.Dial("tcp4", address)
		if err == nil {
			c.Close()
			return address, models
		}
		if time.Now().After(deadline) {
			t.Fatal("the fake does not listen")
		}
	}
}

// Everything that differs from run to run, or is cut or shortened.
var volatile = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`"(created|started|completed)":\d+`), `"$1":0`},
	{regexp.MustCompile(`job_[0-9a-f]+_[0-9a-f]{8}`), `job_ID`},
	{regexp.MustCompile(`"(iVBORw|/9j/|UklGR)[^"]*"`), `"IMAGE"`},
	{regexp.MustCompile(`SDCPP: .*?\}"\]`), `SDCPP"]`},
	{regexp.MustCompile(`SDCPP: .*?\}\\"\]`), `SDCPP"]`},
	{regexp.MustCompile(`(?i)(seed\\*"?: ?|Seed: |all_seeds\\*":\[)\d+`), `${1}N`},
	{regexp.MustCompile(`"status":"(queued|generating)"`), `"status":"PENDING"`}, // whichever the race gives
	{regexp.MustCompile(`"queue_position":\d+`), `"queue_position":N`},
}

func steady(body string) string {
	for _, v := range volatile {
		body = v.pattern.ReplaceAllString(body, v.with)
	}
	return body
}

// Every captured answer of the routes, replayed: status line, headers that matter, body.
func TestFakeAnswersAsCaptured(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"02-endpoints.txt", "03-requests-errors.txt"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			all := exchanges(t, file)
			address, models := launch(t)
			if len(all) < 20 {
				t.Fatalf("%d exchanges", len(all))
			}
			for _, e := range all {
				if e.method == "HEAD_" { // no HTTP method: refused by the parser, not by a route
					continue
				}
				compare(t, e, ask(t, address, e), models)
			}
		})
	}
}

// The life of jobs, in the captured order: the ids are those that the fake gives.
func TestFakeJobsAsCaptured(t *testing.T) {
	t.Parallel()
	all := exchanges(t, "04-sdcpp-jobs.txt")
	address, models := launch(t)
	ids := map[string]string{}
	captured := regexp.MustCompile(`job_[0-9a-f]{8}_[0-9a-f]{8}`)
	for _, e := range all {
		for from, to := range ids {
			e.path = strings.ReplaceAll(e.path, from, to)
		}
		if e.name == "poll completed" {
			await(t, address, e.path)
		}
		answer := ask(t, address, e)
		if id := captured.FindString(answer); id != "" && ids[captured.FindString(e.answer)] == "" {
			ids[captured.FindString(e.answer)] = id
		}
		compare(t, e, answer, models)
	}
}

func await(t *testing.T, address, path string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if strings.Contains(ask(t, address, exchange{method: "GET", path: path}), `"status":"completed"`) {
			return
		}
	}
	t.Fatal("the job does not end")
}

// ask sends a captured request byte for byte and gives the raw answer.
func ask(t *testing.T, address string, e exchange) string {
	t.Helper()
	c, err := net.Dial("tcp4", address)
	if err != nil {
		t.Fatalf("%s: %v", e.name, err)
	}
	defer c.Close()
	length := ""
	if e.sent {
		length = fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(e.body))
	}
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\n%sConnection: close\r\n\r\n%s", e.method, e.path, address, length, e.body)
	response, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: e.method})
	if err != nil {
		t.Fatalf("%s: %v", e.name, err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s: %v", e.name, err)
	}
	if got := response.Header.Get("Date"); got != "" {
		t.Errorf("%s: there is a Date, which cpp-httplib does not send", e.name)
	}
	return fmt.Sprintf("%s\n%s\n%s\n%s", response.Status, response.Header.Get("Content-Type"), response.Header.Get("Access-Control-Allow-Origin"), body)
}

func compare(t *testing.T, e exchange, got, models string) {
	t.Helper()
	want, err := http.ReadResponse(bufio.NewReader(strings.NewReader(strings.ReplaceAll(regexp.MustCompile(`(?m)^Content-Length: .*\n`).ReplaceAllString(e.answer, ""), "\n", "\r\n"))), &http.Request{Method: e.method})
	if err != nil {
		t.Fatalf("%s: the capture: %v", e.name, err)
	}
	body, _ := io.ReadAll(want.Body)
	expected := fmt.Sprintf("%s\n%s\n%s\n%s", want.Status, want.Header.Get("Content-Type"), want.Header.Get("Access-Control-Allow-Origin"), strings.TrimSpace(string(body)))
	got = strings.ReplaceAll(got, models+"/", "/models/")
	if a, b := steady(strings.TrimSpace(got)), steady(strings.TrimSpace(expected)); a != b {
		i := 0
		for i < min(len(a), len(b)) && a[i] == b[i] {
			i++
		}
		from := max(0, i-60)
		t.Errorf("%s differs\n got …%.200s\nwant …%.200s", e.name, a[from:], b[from:])
	}
}

// Starts that fail, and how: exit status, the last lines of stderr, in the captured words.
func TestFakeEndsAsCaptured(t *testing.T) {
	t.Parallel()
	program := BuildFakeSDServer(t)
	dir := t.TempDir()
	model := WriteModel(t, dir, "model", Scenario{})
	garbage := filepath.Join(dir, "garbage.gguf")
	if err := os.WriteFile(garbage, []byte("no model at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // after the parallel ones
	_, busy, _ := net.SplitHostPort(l.Addr().String())
	const mask = "ROCR_VISIBLE_DEVICES=GPU-c34f1a2b00000003"
	for _, tt := range []struct {
		name, args, env string
		code            int
		out, err        string
	}{
		{"version", "--version", "", 0, "stable-diffusion.cpp version master-827-97d2990+, commit 97d29908\n", ""},
		{"devices", "--list-devices", "", 0, "ROCm7\tAMD Radeon Instinct MI25\n", ""},
		{"masked devices", "--list-devices", mask, 0, "ROCm0\tAMD Radeon Instinct MI25\nCPU\t", ""},
		{"help", "-h", "", 0, "Svr Options:\n  -l, --listen-ip <string> ", ""},
		{"no arguments", "", "", 1, "Usage:", "[ERROR] common.cpp:742  - error: the following arguments are required: model_path/diffusion_model\n"},
		{"unknown flag", "--nope", "", 1, "Usage:", "[ERROR] common.cpp:325  - error: unknown argument: --nope\n"},
		{"bad port", "--listen-port 99999 -m " + model, "", 1, "Usage:", "[ERROR] runtime.cpp:225  - error: listen_port should be in the range [0, 65535]\n"},
		{"missing model", "-m /nope.safetensors", "", 1, "[WARN ] model_loader.cpp:254  - file /nope.safetensors not found\n",
			"[ERROR] stable-diffusion.cpp:715  - init model loader from file failed: '/nope.safetensors'\n[ERROR] stable-diffusion.cpp:905  - get sd version from file failed: '/nope.safetensors'\n[ERROR] main.cpp:92   - new_sd_ctx_t failed\n"},
		{"garbage", "-m " + garbage, "", 1, "[WARN ] model_loader.cpp:252  - unknown format " + garbage + "\n", "[ERROR] main.cpp:92   - new_sd_ctx_t failed\n"},
		{"bad backend", "--backend cuda0 -m " + model, mask, 1, "[INFO ] stable-diffusion.cpp:908  - Version: SD 1.x \n",
			"[ERROR] stable-diffusion.cpp:630  - backend config failed: backend 'cuda0' was not found\n[ERROR] main.cpp:92   - new_sd_ctx_t failed\n"},
		{"second device behind a mask", "--backend rocm1 -m " + model, mask, 1, "", "backend 'rocm1' was not found"},
		{"a mask of nobody", "--backend rocm0 -m " + model, "ROCR_VISIBLE_DEVICES=GPU-ffffffffffffffff", 1, "", "backend 'rocm0' was not found"},
		{"two masks", "--backend rocm0 -m " + model, "ROCR_VISIBLE_DEVICES=1 HIP_VISIBLE_DEVICES=0", 1, "", "2 device masks"},
		{"ROCR=1 and HIP=1 select nothing", "--backend rocm0 -m " + model, "ROCR_VISIBLE_DEVICES=1 HIP_VISIBLE_DEVICES=1", 1, "", "was not found"},
		{"no mask", "--backend rocm0 -m " + model, "", 1, "", "0 device masks"},
		{"busy port", "--listen-port " + busy + " --backend cpu -m " + model, "", 0, "listening on: http://127.0.0.1:" + busy, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, program, strings.Fields(tt.args)...)
			cmd.Env = append([]string{}, strings.Fields(tt.env)...)
			var out, complaints bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &complaints
			err := cmd.Run()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if code := cmd.ProcessState.ExitCode(); code != tt.code {
				t.Errorf("exit status %d; want %d", code, tt.code)
			}
			if !strings.Contains(out.String(), tt.out) || !strings.Contains(complaints.String(), tt.err) || tt.err == "" && complaints.Len() > 0 {
				t.Errorf("stdout %q\nstderr %q\nwant %q and %q", &out, &complaints, tt.out, tt.err)
			}
		})
	}
}

// The bars of a job, byte for byte as captured but for the speed.
func TestFakeDrawsBarsAsCaptured(t *testing.T) {
	t.Parallel()
	capture, err := os.ReadFile(fixture.Path(t, "sd-server", "11-progress-bytes.txt"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("\n", "", `\n`, "\n", `\r`, "\r", `\x1b`, "\x1b").Replace(string(capture))
	program := BuildFakeSDServer(t, Settings{})
	dir := t.TempDir()
	model := WriteModel(t, dir, "model", Scenario{StepMilliseconds: 5})
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	cmd := exec.Command(program, "--listen-port", port, "-m", model, "--eager-load", "--backend", "cpu")
	cmd.Env = []string{}
	r, w := io.Pipe()
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = r.Close()
		_ = cmd.Wait()
	}()
	output := bufio.NewReader(r)
	until := func(mark string) string {
		var all strings.Builder
		for !strings.Contains(all.String(), mark) {
			line, err := output.ReadString('\n')
			if err != nil {
				t.Fatalf("output ended before %q: %v", mark, err)
			}
			all.WriteString(line)
		}
		return all.String()
	}
	until("listening on")
	for deadline := time.Now().Add(30 * time.Second); ; {
		if c, err := net.Dial("tcp4", "127.0.0.1:"+port); err == nil {
			c.Close()
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	ask(t, "127.0.0.1:"+port, exchange{method: "POST", path: "/sdcpp/v1/img_gen", sent: true,
		body: `{"prompt":"cat","width":64,"height":64,"batch_count":3,"sample_params":{"sample_steps":2}}`})
	numbers := regexp.MustCompile(`\d+\.\d+`)
	got := numbers.ReplaceAllString(until("generate_image completed"), "N")
	_, want, _ := strings.Cut(numbers.ReplaceAllString(text, "N"), "[INFO ]")
	want, _, _ = strings.Cut("[INFO ]"+want, "'ready")
	if strings.Trim(got, "\n") != strings.Trim(want, "\n'") {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

// Two processes on one port both answer.
func TestFakesShareAPort(t *testing.T) {
	t.Parallel()
	address, models := launch(t)
	_, port, _ := net.SplitHostPort(address)
	program := BuildFakeSDServer(t, Settings{})
	cmd := exec.Command(program, "--listen-port", port, "-m", WriteModel(t, models, "other", Scenario{}))
	cmd.Env = []string{}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	seen := map[bool]bool{}
	for deadline := time.Now().Add(30 * time.Second); len(seen) < 2 && time.Now().Before(deadline); {
		seen[strings.Contains(ask(t, address, exchange{method: "GET", path: "/sdapi/v1/options"}), "other")] = true
	}
	if len(seen) != 2 {
		t.Error("one of two servers on a port answers everything")
	}
}

func TestFakeQueueIsFullAt64(t *testing.T) {
	t.Parallel()
	address, _ := launch(t)
	body := `{"prompt":"x","width":64,"height":64,"sample_params":{"sample_steps":100}}`
	statuses := map[string]int{}
	for range 70 {
		answer := ask(t, address, exchange{method: "POST", path: "/sdcpp/v1/img_gen", body: body, sent: true})
		status, _, _ := strings.Cut(answer, "\n")
		statuses[status]++
	}
	if statuses["202 Accepted"] < 64 || statuses["202 Accepted"] > 66 || statuses["429 Too Many Requests"] < 4 {
		t.Errorf("%v", statuses)
	}
}

func TestFakeDiesByItsSignals(t *testing.T) {
	t.Parallel()
	for _, mortal := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGKILL} {
		if signal.Ignored(mortal) {
			continue // children inherit that: nohup does so with SIGHUP
		}
		program := BuildFakeSDServer(t, Settings{})
		cmd := exec.Command(program, "--listen-port", "0", "--backend", "cpu", "-m", WriteModel(t, t.TempDir(), "model", Scenario{}))
		cmd.Env = []string{}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() && !strings.Contains(lines.Text(), "listening on") {
		}
		if err := cmd.Process.Signal(mortal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if status := cmd.ProcessState.String(); status != "signal: "+mortal.String() {
			t.Errorf("%s: %s", mortal, status)
		}
	}
}

func TestDevicesFollowTheSettings(t *testing.T) {
	t.Parallel()
	devices := Devices(MI25x8(), gpu.AMD)
	if len(devices) != 8 || devices[0].ID != "GPU-c34f1a2b00000004" || devices[7].Index != 7 || *devices[3].VendorIndex != 3 {
		t.Errorf("%+v", devices)
	}
	ids := map[string]bool{}
	for _, d := range devices {
		ids[d.ID] = true
	}
	if len(ids) != 8 {
		t.Error("ids are not unique: " + strconv.Itoa(len(ids)))
	}
}

func TestBuildIsSharedWhileItIsUsed(t *testing.T) {
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if info, err := os.Stat(BuildFakeSDServer(t)); err != nil || info.Mode()&0o100 == 0 {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
	both.Wait()
}
