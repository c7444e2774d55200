package amdgpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"muster/agent/telemetry/fdinfo"
	"muster/shared/gpu"
)

// Bounds of what KFD is asked about processes.
const (
	kfdProcesses = "sys/class/kfd/kfd/proc"
	maxProcesses = 1 << 12
)

// holder is a process on one part of a card.
type holder struct {
	pid       int
	partition string
}

// holders collects processes. KFD and fdinfo count the same memory on new kernels, so the larger of the two is taken, never the
// sum.
type holders map[holder]*gpu.Process

// of gives the process, adding it when it is new.
func (h holders) of(pid int, partition string) *gpu.Process {
	key := holder{pid, partition}
	if h[key] == nil {
		h[key] = &gpu.Process{PID: pid, Partition: partition}
	}
	return h[key]
}

// processes fills in who uses the card. The error is the context's.
func (c *card) processes(ctx context.Context, p *probe, d *gpu.Details) error {
	found := holders{}
	var hidden []string
	foreign, askedKFD := c.kfdHolders(p, found)
	if foreign > 0 {
		hidden = append(hidden, fmt.Sprintf("%d of the processes have the numbers that the machine gives them, which are not those of this container: start it with --pid=host to see their names", foreign))
	}
	askedProc, why, err := c.fdinfoHolders(ctx, found)
	if err != nil {
		return err
	}
	if why != "" {
		hidden = append(hidden, why)
	}
	d.ProcessesHidden = strings.Join(hidden, "; ")
	if !askedKFD && !askedProc {
		return nil
	}
	d.Processes = make([]gpu.Process, 0, len(found))
	for _, process := range found {
		d.Processes = append(d.Processes, *process)
	}
	slices.SortFunc(d.Processes, func(a, b gpu.Process) int {
		return cmp.Or(cmp.Compare(memory(b), memory(a)), cmp.Compare(a.PID, b.PID), strings.Compare(a.Partition, b.Partition))
	})
	return nil
}

func memory(p gpu.Process) uint64 {
	if p.MemoryBytes == nil {
		return 0
	}
	return *p.MemoryBytes
}

// hold notes that the process holds so much.
func hold(p *gpu.Process, bytes uint64) {
	if p.MemoryBytes == nil || *p.MemoryBytes < bytes {
		p.MemoryBytes = &bytes
	}
}

// kfdHolders adds the processes that compute, of all users. KFD names them by the numbers of the machine: foreign are those that
// this container doesn't have. asked says whether KFD tells at all.
func (c *card) kfdHolders(p *probe, found holders) (foreign int, asked bool) {
	dir, err := c.tree.Resolve(kfdProcesses)
	if err != nil {
		return 0, false
	}
	names, err := c.tree.Names(dir, maxProcesses)
	if err != nil {
		return 0, false
	}
	outside := c.outsidePIDs()
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid <= 0 {
			continue
		}
		on := false
		for _, part := range c.parts {
			if part.gpuID == "" || part.gpuID == "0" {
				continue
			}
			used, ok := p.number(filepath.Join(dir, name, "vram_"+part.gpuID), 1, 0, maxMemory)
			if !ok {
				continue // it has ended since, or does not use this card
			}
			process := found.of(pid, part.id)
			process.Type = gpu.ProcessCompute
			hold(process, uint64(used))
			on = true
		}
		if on && outside(pid) {
			foreign++
		}
	}
	return foreign, true
}

// outsidePIDs tells which numbers of processes are not those of this container: all of them in a namespace of its own, else those
// without a folder in /proc.
func (c *card) outsidePIDs() func(pid int) bool {
	const machineNamespace = "pid:[4026531836]" // PROC_PID_INIT_INO of include/uapi/linux/nsfs.h
	if c.tree.Machine() {
		if namespace, err := os.Readlink("/proc/self/ns/pid"); err == nil && namespace != machineNamespace {
			return func(int) bool { return true }
		}
	}
	return func(pid int) bool {
		_, err := os.Lstat(c.tree.Path(filepath.Join("proc", strconv.Itoa(pid))))
		return errors.Is(err, os.ErrNotExist)
	}
}

// fdinfoHolders adds the processes that have one of the card's nodes open. asked says whether /proc shows any process; why says for
// people what it hides.
func (c *card) fdinfoHolders(ctx context.Context, found holders) (asked bool, why string, err error) {
	groups := map[string][]string{"": c.nodes} // by partition
	for _, part := range c.parts {
		if part.id != "" && part.node != "" {
			groups[part.id] = []string{part.node}
		}
	}
	for partition, nodes := range groups {
		clients, err := c.scanner.Clients(ctx, nodes)
		if err != nil {
			return false, "", err
		}
		if clients.Processes > 0 && len(nodes) > 0 {
			asked, why = true, hiddenBy(clients)
		}
		addClients(found, clients, partition)
	}
	return asked, why, nil
}

// addClients adds up what each process has open: one may have several clients, which hold memory of their own.
func addClients(found holders, clients fdinfo.Clients, partition string) {
	sums := map[int]uint64{}
	for _, client := range clients.List {
		if client.Driver != "amdgpu" {
			continue
		}
		process := found.of(client.PID, partition)
		process.Type = typeOf(process.Type, client)
		if vram, ok := client.Region("vram"); ok && vram.ResidentBytes != nil {
			sums[client.PID] += *vram.ResidentBytes
			hold(process, sums[client.PID])
		}
	}
}

// typeOf says what a process does, by what it was known for and the engines that worked for its client. Fewer kinds are told apart
// than there are engines: video and copying are graphics.
func typeOf(known gpu.ProcessType, client fdinfo.Client) gpu.ProcessType {
	compute, graphics := known == gpu.ProcessCompute || known == gpu.ProcessBoth, known == gpu.ProcessGraphics || known == gpu.ProcessBoth
	for _, e := range client.Engines {
		if e.BusyNanoseconds == nil || *e.BusyNanoseconds == 0 {
			continue
		}
		switch {
		case e.Name == "compute":
			compute = true
		case e.Name != "dma":
			graphics = true
		}
	}
	switch {
	case compute && graphics:
		return gpu.ProcessBoth
	case compute:
		return gpu.ProcessCompute
	case graphics:
		return gpu.ProcessGraphics
	default:
		return ""
	}
}

// hiddenBy says what fdinfo could not see and what to do; "" for nothing.
func hiddenBy(clients fdinfo.Clients) string {
	switch {
	case clients.HidesOthers:
		return "the mount option hidepid of /proc hides other users' processes: run muster as root"
	case clients.Hidden > 0:
		return "graphics programs of other users are not seen: run muster as root, or give it the capability CAP_SYS_PTRACE"
	case clients.Cut:
		return "there are more open files than muster looks at"
	default:
		return ""
	}
}
