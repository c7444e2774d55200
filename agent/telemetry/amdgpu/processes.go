package amdgpu

import (
	"cmp"
	"context"
	"errors"
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

// obstacle is something that keeps the list of processes from being whole, and what to do about it.
type obstacle struct{ text, mend string }

// processes fills in who uses the card. The error is the context's.
func (c *card) processes(ctx context.Context, p *probe, d *gpu.Details) error {
	list, obstacles, err := c.listProcesses(ctx, p)
	if err != nil {
		return err
	}
	var hidden []string
	for _, o := range obstacles {
		hidden = append(hidden, strings.TrimSuffix(o.text+": "+o.mend, ": "))
	}
	d.Processes, d.ProcessesHidden = list, strings.Join(hidden, "; ")
	return nil
}

// listProcesses gives the card's processes, most memory first; nil when neither KFD nor /proc tells of any.
func (c *card) listProcesses(ctx context.Context, p *probe) ([]gpu.Process, []obstacle, error) {
	found := holders{}
	var obstacles []obstacle
	foreign, askedKFD := c.kfdHolders(p, found)
	if foreign > 0 {
		obstacles = append(obstacles, obstacle{"processes have the numbers that the machine gives them, which are not those of this container: they may be without names, or listed twice",
			"start the container with --pid=host"})
	}
	askedProc, unseen, err := c.fdinfoHolders(ctx, found)
	if err != nil {
		return nil, nil, err
	}
	if unseen != (obstacle{}) {
		obstacles = append(obstacles, unseen)
	}
	if !askedKFD && !askedProc {
		return nil, obstacles, nil
	}
	c.tellsProcesses.Store(true)
	list := make([]gpu.Process, 0, len(found))
	for _, process := range found {
		list = append(list, *process)
	}
	slices.SortFunc(list, func(a, b gpu.Process) int {
		return cmp.Or(cmp.Compare(memory(b), memory(a)), cmp.Compare(a.PID, b.PID), strings.Compare(a.Partition, b.Partition))
	})
	return list, obstacles, nil
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
			if !ok || used == 0 {
				continue // it has ended since, or does not use this card: a program that computes has a file for every card
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

// fdinfoHolders adds the processes that have one of the card's nodes open. asked says whether /proc shows any process; unseen is what it
// hides.
func (c *card) fdinfoHolders(ctx context.Context, found holders) (asked bool, unseen obstacle, err error) {
	groups := map[string][]string{"": c.nodes} // by partition
	for _, part := range c.parts {
		if part.id != "" && part.node != "" {
			groups[part.id] = []string{part.node}
		}
	}
	for partition, nodes := range groups {
		clients, err := c.scanner.Clients(ctx, nodes)
		if err != nil {
			return false, obstacle{}, err
		}
		if clients.Processes > 0 && len(nodes) > 0 {
			asked, unseen = true, hiddenBy(clients)
		}
		addClients(found, clients, partition)
	}
	return asked, unseen, nil
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

// hiddenBy says what fdinfo could not see; the zero obstacle for nothing.
func hiddenBy(clients fdinfo.Clients) obstacle {
	switch {
	case clients.HidesOthers:
		return obstacle{"other users' processes are hidden by the mount option hidepid of /proc", "run muster as root"}
	case clients.Hidden > 0:
		return obstacle{"other users' graphics programs are hidden", "run muster as root, or give it the capability CAP_SYS_PTRACE"}
	case clients.Cut:
		return obstacle{"there are more open files than muster looks at", ""}
	default:
		return obstacle{}
	}
}
