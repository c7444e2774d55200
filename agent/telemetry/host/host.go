// Package host reads the machine itself: processor, memory, kernel, and which ROCm, HIP and PyTorch are installed, without
// running Python or anything else. For telemetry.Sampler.
//
// Processor and memory are always the real machine's; with a system root other than "/" the installed versions are looked for
// only below it.
package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"muster/shared/gpu"
)

// Config says what to read.
type Config struct {
	// SysRoot is where installed software is; "" or "/" is the machine itself.
	SysRoot string
	// Python is the interpreter (or the folder of a virtual environment) whose PyTorch is meant, as seen below SysRoot; "" looks for
	// it as facts/api.md says.
	Python string
	// ProcessCommands asks for the command lines of processes. They can hold secrets.
	ProcessCommands bool
}

// Reader is a telemetry.HostReader.
type Reader struct {
	proc     tree // where /proc is: the real machine's
	files    tree // where installed software is
	python   string
	commands bool
	getenv   func(string) string

	// Read's, of which one call is in flight at a time.
	buffer []byte
	last   cpuTimes

	users users // DescribeProcesses's, likewise
}

// New makes a reader.
func New(c Config) *Reader {
	return &Reader{proc: tree{"/"}, files: newTree(c.SysRoot), python: c.Python, commands: c.ProcessCommands, getenv: os.Getenv, buffer: make([]byte, 4096)}
}

// Static describes the machine. What is not found stays empty; that is no error.
func (r *Reader) Static(context.Context) (gpu.Host, error) {
	h := gpu.Host{Platform: runtime.GOOS, CPUCount: runtime.NumCPU()}
	h.Name, _ = os.Hostname()
	var cpuErr, memErr error
	if data, err := r.proc.read("/proc/cpuinfo", 4<<20); err != nil {
		cpuErr = err
	} else {
		var count int
		h.CPUModel, count = parseCPUInfo(data)
		if count > 0 {
			h.CPUCount = count
		}
	}
	if data, err := r.proc.read("/proc/meminfo", 64<<10); err != nil {
		memErr = err
	} else if m, ok := parseMeminfo(data); ok {
		h.MemoryBytes = m.total
	}
	if data, err := r.proc.read("/proc/sys/kernel/osrelease", 256); err == nil {
		h.KernelVersion = printable(strings.TrimSpace(string(data)))
	}
	h.ROCmVersion, h.HIPVersion = r.rocm()
	h.Torch = r.torch()
	if cpuErr != nil && memErr != nil {
		return h, errors.Join(cpuErr, memErr)
	}
	return h, nil
}

// Read measures the load. CPUPercent is of the time since the last Read, so the first gives none.
func (r *Reader) Read(context.Context) (gpu.HostReading, error) {
	var reading gpu.HostReading
	data, cpuErr := r.proc.readInto("/proc/stat", r.buffer)
	if now, ok := parseStat(data); cpuErr == nil && ok {
		reading.CPUPercent = now.percentSince(r.last)
		r.last = now
	}
	data, memErr := r.proc.readInto("/proc/meminfo", r.buffer)
	if m, ok := parseMeminfo(data); memErr == nil && ok {
		reading.MemoryTotalBytes = &m.total
		if m.availableKnown {
			used := m.total - m.available
			reading.MemoryUsedBytes = &used
		}
	}
	if cpuErr != nil && memErr != nil {
		return reading, fmt.Errorf("is /proc mounted? %w", errors.Join(cpuErr, memErr))
	}
	return reading, nil
}
