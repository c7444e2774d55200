package sdserver

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// owner says whose the listening sockets of a loopback port are.
type owner int

const (
	nobody  owner = iota // nothing listens
	ours                 // only processes of our group do
	foreign              // another program does, alone or beside ours: sd-server shares its port with any other (SO_REUSEPORT)
)

// portOwner looks up who listens on 127.0.0.1:port, by the sockets' inodes (proc(5)). pgid is the child's process group.
func portOwner(port, pgid int) (owner, error) {
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return nobody, err
	}
	defer f.Close()
	listening, err := parseListeners(f, port)
	if err != nil {
		return nobody, fmt.Errorf("/proc/net/tcp: %w", err)
	}
	if len(listening) == 0 {
		return nobody, nil
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
		return ours, nil
	}
	return foreign, nil
}

func subset(inodes []uint64, of map[uint64]bool) bool {
	for _, inode := range inodes {
		if !of[inode] {
			return false
		}
	}
	return true
}

// parseListeners gives the inodes of the sockets that listen on the port at 127.0.0.1 or at every address, from the text of
// /proc/net/tcp. Lines that it does not understand are an error: nothing may be overlooked.
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
		if raw, hexErr := hex.DecodeString(address); !ok || err != nil || hexErr != nil || len(raw) != 4 {
			return nil, fmt.Errorf("address %q", fields[1])
		}
		// 127.0.0.1 as little-endian and big-endian machines print it
		if fields[3] != listen || int(local) != port || address != "0100007F" && address != "7F000001" && address != "00000000" {
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

// groupOf gives the processes of a group, by the fifth field of /proc/PID/stat.
func groupOf(pgid int) []int {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	var pids []int
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		end := strings.LastIndexByte(string(text), ')') // the command's name may hold anything
		fields := strings.Fields(string(text[end+1:]))
		if len(fields) > 2 && fields[2] == strconv.Itoa(pgid) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
