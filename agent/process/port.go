package process

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// PortOwner says whose the listening sockets of a loopback port are.
type PortOwner int

// The owners of a port.
const (
	Nobody  PortOwner = iota // nothing listens
	Ours                     // only processes of the group do
	Foreign                  // another program does, alone or beside ours: programs may share a port (SO_REUSEPORT)
)

// OwnerOf looks up who listens on the port of 127.0.0.1, by the sockets' inodes (proc(5)). pgid is a child's process group. Sockets of
// IPv6 are not looked at: one that listens on 127.0.0.1 itself comes before them, and the kernel takes milliseconds to list them.
func OwnerOf(port, pgid int) (PortOwner, error) {
	listening, err := listenersOf("/proc/net/tcp", port)
	if err != nil || len(listening) == 0 {
		return Nobody, err
	}
	held := socketsOf(pgid)
	if !subset(listening, held) { // a script may have started the real one: look at the whole group
		for _, pid := range groupOf(pgid) {
			for inode := range socketsOf(pid) {
				held[inode] = true
			}
		}
	}
	if subset(listening, held) {
		return Ours, nil
	}
	return Foreign, nil
}

// Listener gives the process that listens on the loopback port; 0 when nobody does, or when it is another user's whose sockets may
// not be looked at. hint is looked at first; 0 for none. Of several processes, as those of a server that forks, the oldest is given.
func Listener(port, hint int) (pid int, err error) {
	listening, err := listeners(port)
	if err != nil || len(listening) == 0 {
		return 0, err
	}
	holds := func(pid int) bool {
		held := socketsOf(pid)
		return slices.ContainsFunc(listening, func(inode uint64) bool { return held[inode] })
	}
	if hint > 0 && holds(hint) {
		return hint, nil
	}
	for _, pid := range processes() {
		if holds(pid) {
			return pid, nil
		}
	}
	return 0, nil
}

// maxAncestors bounds the walk of Descends; trees of processes are not deeper.
const maxAncestors = 64

// Descends says whether a process is another one or was started by it, directly or not. A process that is gone descends from none.
func Descends(pid, from int) bool {
	for range maxAncestors {
		switch {
		case pid == from:
			return true
		case pid <= 1:
			return false
		}
		fields := statOf(pid)
		if len(fields) < 2 {
			return false
		}
		pid, _ = strconv.Atoi(fields[1])
	}
	return false
}

// listeners gives the inodes of the sockets that listen on the port, on IPv4 and on IPv6 where the machine has it.
func listeners(port int) (inodes []uint64, err error) {
	for _, path := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		found, err := listenersOf(path, port)
		if err != nil && !(path == "/proc/net/tcp6" && errors.Is(err, fs.ErrNotExist)) {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		inodes = append(inodes, found...)
	}
	return inodes, nil
}

func listenersOf(path string, port int) ([]uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseListeners(f, port)
}

func subset(inodes []uint64, of map[uint64]bool) bool {
	for _, inode := range inodes {
		if !of[inode] {
			return false
		}
	}
	return true
}

// reachedOnLoopback are the addresses at which a socket answers on loopback, as /proc/net/tcp and tcp6 print them: 127.0.0.1, ::1
// and 127.0.0.1 within IPv6, on little-endian and big-endian machines, and every address.
var reachedOnLoopback = []string{
	"0100007F", "7F000001", "00000000",
	"00000000000000000000000001000000", "00000000000000000000000000000001", "00000000000000000000000000000000",
	"0000000000000000FFFF00000100007F", "00000000000000000000FFFF7F000001",
}

// parseListeners gives the inodes of the sockets that listen on the port and are reached on loopback, from the text of /proc/net/tcp
// or tcp6. Lines that it does not understand are an error: nothing may be overlooked.
func parseListeners(r io.Reader, port int) ([]uint64, error) {
	const listen = "0A"
	var inodes []uint64
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || fields[0] == "sl" {
			continue
		}
		if len(fields) < 10 {
			return nil, fmt.Errorf("line with %d fields", len(fields))
		}
		address, at, ok := strings.Cut(fields[1], ":")
		local, err := strconv.ParseUint(at, 16, 16)
		if raw, hexErr := hex.DecodeString(address); !ok || err != nil || hexErr != nil || len(raw) != 4 && len(raw) != 16 {
			return nil, fmt.Errorf("address %q", fields[1])
		}
		if fields[3] != listen || int(local) != port || !slices.Contains(reachedOnLoopback, address) {
			continue
		}
		inode, err := strconv.ParseUint(fields[9], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("inode %q", fields[9])
		}
		inodes = append(inodes, inode)
	}
	return inodes, lines.Err()
}

// socketsOf gives the inodes of a process's sockets; none when it can't be read.
func socketsOf(pid int) map[uint64]bool {
	inodes := map[uint64]bool{}
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return inodes
	}
	for _, entry := range entries {
		target, err := os.Readlink(filepath.Join(dir, entry.Name()))
		if err != nil {
			continue
		}
		digits, isSocket := strings.CutPrefix(target, "socket:[")
		if inode, err := strconv.ParseUint(strings.TrimSuffix(digits, "]"), 10, 64); isSocket && err == nil {
			inodes[inode] = true
		}
	}
	return inodes
}

// processes gives the numbers of all processes, the oldest first as long as numbers have not begun again.
func processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// groupOf gives the processes of a group.
func groupOf(pgid int) []int {
	return slices.DeleteFunc(processes(), func(pid int) bool {
		fields := statOf(pid)
		return len(fields) < 3 || fields[2] != strconv.Itoa(pgid)
	})
}

// statOf gives the fields of /proc/PID/stat from the third on: state, parent, group; nil when the process is gone.
func statOf(pid int) []string {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	end := strings.LastIndexByte(string(text), ')') // the command's name may hold anything
	return strings.Fields(string(text[end+1:]))
}
