package comfyui

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"muster/agent/backend"
	"muster/agent/backend/backendtest"
	"muster/shared/gpu"
	"muster/shared/job"
)

// TestMain runs a fleet in place of the tests in a process that a test starts to kill it.
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "fleet" {
		runFleet(os.Args[2], os.Args[3], os.Args[4])
		return
	}
	os.Exit(m.Run())
}

// runFleet makes an image without end, and says when its child works.
func runFleet(folder, python, dir string) {
	f, err := newFleet(Config{Folder: folder, Python: python, Dir: dir}, quick())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go func() { _ = f.Run(context.Background()) }()
	req := backend.Request{Prompt: "x", Model: "model", Width: 64, Height: 64, Steps: 200}
	_, err = f.Backend().Generate(context.Background(), backendtest.Devices(backendtest.MI25x8(), gpu.AMD)[0], req, func(p job.Progress) {
		if p.Step >= 1 {
			fmt.Println("working")
		}
	})
	fmt.Println(err)
}

// A kill -9 of the agent leaves no ComfyUI behind.
func TestNoOrphan(t *testing.T) {
	t.Parallel()
	python, folder := backendtest.BuildFakeComfyUI(t, backendtest.ComfySettings{Settings: backendtest.MI25x8()})
	writeModels(t, folder, map[string]backendtest.Scenario{"model": {StepMilliseconds: 1000}}, nil)
	agent := exec.Command(os.Args[0], "fleet", folder, python, t.TempDir())
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	starts := backendtest.Serving(t, python)
	if strings.TrimSpace(line) != "working" || len(starts) != 1 || !exists(starts[0].PID) {
		t.Errorf("it said %q, %v, and started %d children", line, err, len(starts))
	}
	if err := agent.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	for _, start := range starts {
		await(t, "the child's end", func() bool { return !exists(start.PID) })
	}
}
