package host

import (
	"bytes"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"muster/shared/gpu"
)

// Bounds of DescribeProcesses and of what it shows.
const (
	describeTime   = 400 * time.Millisecond
	maxDescribed   = 1024 // processes
	maxDescriptors = 4096 // of one process that are looked at
	maxName        = 64   // bytes
	maxCommand     = 256  // bytes
)

// DescribeProcesses fills Name, User and, where Config asks for it, Command of processes, as far as they are empty, from
// /proc/PID of the real machine (proc_pid_comm(5), proc_pid_status(5), proc_pid_cmdline(5)). What is gone, belongs to another
// PID namespace or comes too late stays as it is. It is never called twice at once.
func (r *Reader) DescribeProcesses(processes []gpu.Process) {
	end := time.Now().Add(describeTime)
	foreign := r.ForeignNumbers()
	known := map[int]gpu.Process{}
	for i := range processes {
		p := &processes[i]
		d, ok := known[p.PID]
		if !ok {
			if len(known) == maxDescribed || time.Now().After(end) {
				return
			}
			d = r.describe(p.PID, foreign)
			known[p.PID] = d
		}
		fillText(&p.Name, d.Name)
		fillText(&p.User, d.User)
		fillText(&p.Command, d.Command)
	}
}

func fillText(to *string, from string) {
	if *to == "" {
		*to = from
	}
}

// ForeignNumbers says whether drivers may number processes differently from this /proc: inside a PID namespace, as in a
// container, and when the devices are those of another root.
func (r *Reader) ForeignNumbers() bool {
	namespace, err := r.proc.readlink("/proc/self/ns/pid")
	return !r.files.machine() || err == nil && namespace != initialPIDNamespace
}

// describe gives what is known of a process. Where numbers may be another machine's, the one here counts only if it holds a
// device open: a number that is also some shell's here would name the wrong program.
func (r *Reader) describe(pid int, foreign bool) (p gpu.Process) {
	if pid <= 0 {
		return p
	}
	dir := "/proc/" + strconv.Itoa(pid)
	if foreign && !r.holdsDevice(dir) {
		return p
	}
	if data, err := r.proc.read(dir+"/comm", 256); err == nil {
		p.Name = shown(data, maxName)
	}
	if data, err := r.proc.read(dir+"/status", 16<<10); err == nil {
		if uid, ok := parseUID(data); ok {
			p.User = r.users.name(r.proc, uid)
		}
	}
	if r.commands {
		if data, err := r.proc.read(dir+"/cmdline", 4*maxCommand); err == nil {
			p.Command = shown(bytes.TrimRight(data, "\x00"), maxCommand)
		}
	}
	return p
}

// holdsDevice says whether the process has a graphics or compute device open, as far as this user may see.
func (r *Reader) holdsDevice(dir string) bool {
	descriptors, err := os.Open(r.proc.outside(dir + "/fd"))
	if err != nil {
		return false
	}
	defer descriptors.Close()
	names, _ := descriptors.Readdirnames(maxDescriptors)
	for _, name := range names {
		target, err := os.Readlink(r.proc.outside(path.Join(dir, "fd", name)))
		if err == nil && (strings.HasPrefix(target, "/dev/nvidia") || strings.HasPrefix(target, "/dev/dri/") || target == "/dev/kfd") {
			return true
		}
	}
	return false
}

// parseUID reads the effective user of "Uid: real effective saved file" in /proc/PID/status.
func parseUID(status []byte) (uint32, bool) {
	for line := range bytes.Lines(status) {
		rest, ok := bytes.CutPrefix(line, []byte("Uid:"))
		if !ok {
			continue
		}
		ids := bytes.Fields(rest)
		if len(ids) < 2 {
			return 0, false
		}
		uid, err := strconv.ParseUint(string(ids[1]), 10, 32)
		return uint32(uid), err == nil
	}
	return 0, false
}

// users are the names in /etc/passwd, read again when the file has changed.
type users struct {
	changed time.Time
	size    int64
	names   map[uint32]string
}

// name gives the user's name; the number where the file has none (users of a directory service).
func (u *users) name(files tree, uid uint32) string {
	info, err := files.stat("/etc/passwd")
	if err == nil && (u.names == nil || !info.ModTime().Equal(u.changed) || info.Size() != u.size) {
		if data, err := files.read("/etc/passwd", 4<<20); err == nil {
			u.changed, u.size, u.names = info.ModTime(), info.Size(), parsePasswd(data)
		}
	}
	if name, ok := u.names[uid]; ok {
		return name
	}
	return strconv.FormatUint(uint64(uid), 10)
}

// parsePasswd reads passwd(5): the first name of each number.
func parsePasswd(data []byte) map[uint32]string {
	names := map[uint32]string{}
	for line := range bytes.Lines(data) {
		fields := bytes.Split(bytes.TrimRight(line, "\r\n"), []byte(":"))
		if len(fields) < 4 {
			continue
		}
		uid, err := strconv.ParseUint(string(fields[2]), 10, 32)
		name := shown(fields[0], maxName)
		if _, taken := names[uint32(uid)]; err != nil || taken || name == "" {
			continue
		}
		names[uint32(uid)] = name
	}
	return names
}

// shown gives at most limit bytes of what any program may have written, whole characters that print; NUL becomes a space.
func shown(data []byte, limit int) string {
	var b strings.Builder
	for len(data) > 0 {
		c, size := utf8.DecodeRune(data)
		data = data[size:]
		switch {
		case c == 0:
			c = ' '
		case c == utf8.RuneError || !unicode.IsPrint(c):
			continue
		}
		if b.Len()+utf8.RuneLen(c) > limit {
			return strings.TrimSpace(b.String())
		}
		b.WriteRune(c)
	}
	return strings.TrimSpace(b.String())
}
