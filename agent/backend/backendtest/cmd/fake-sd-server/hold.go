package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// holdFor is how long a killed process is kept from disappearing: longer than anybody waits for it.
const holdFor = 15 * time.Second

// hold has this process kept from disappearing when it is killed, as one that hangs in a driver: a tracer outside its group stops
// it on its way out (PTRACE_O_TRACEEXIT, ptrace(2)).
func (p *program) hold() {
	_ = unix.Prctl(unix.PR_SET_PTRACER, ^uintptr(0), 0, 0, 0) // any; not known where Yama is not
	cmd := exec.Command(p.path, "--fake-hold", strconv.Itoa(os.Getpid()))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		_, err = out.Read(make([]byte, 1)) // it traces
	}
	if err != nil {
		fatal(fmt.Errorf("hold: %w", err))
	}
}

// runHold is the tracer. It ends when the process has gone.
func runHold(pid int) int {
	runtime.LockOSThread() // a tracer is a thread
	if err := trace(pid); err != nil {
		fatal(fmt.Errorf("trace %d: %w", pid, err))
	}
	fmt.Print("!")
	for {
		var status unix.WaitStatus
		if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil || status.Exited() || status.Signaled() {
			return 0
		}
		signal := 0
		switch {
		case status.TrapCause() == unix.PTRACE_EVENT_EXIT:
			time.Sleep(holdFor)
		case status.Stopped() && status.StopSignal() != unix.SIGTRAP:
			signal = int(status.StopSignal())
		}
		_ = unix.PtraceCont(pid, signal)
	}
}

// trace asks for the stop before the end.
func trace(pid int) error {
	if err := unix.PtraceSeize(pid); err != nil {
		return err
	}
	if err := unix.PtraceInterrupt(pid); err != nil {
		return err
	}
	if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != nil {
		return err
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACEEXIT); err != nil {
		return err
	}
	return unix.PtraceCont(pid, 0)
}
