package process

import (
	"net"
	"os"
	"slices"
	"strings"
	"testing"
)

const procNetTCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 11 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12 1 0000000000000000 100 0 0 10 0
   2: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 13 1 0000000000000000 20 4 30 10 -1
   3: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 14 1 0000000000000000 100 0 0 10 0
   4: 0200007F:1F92 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 15 1 0000000000000000 100 0 0 10 0
`

const procNetTCP6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 21 1 0000000000000000 100 0 0 10 0
   1: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 22 1 0000000000000000 100 0 0 10 0
   2: 0000000000000000FFFF00000100007F:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 23 1 0000000000000000 100 0 0 10 0
   3: B80D0120000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 24 1 0000000000000000 100 0 0 10 0
`

func TestParseListeners(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		port       int
		want       []uint64
		bad        bool
	}{
		{"two on one port, without their connection", procNetTCP, 8080, []uint64{11, 12}, false},
		{"on every address", procNetTCP, 8081, []uint64{14}, false},
		{"on another loopback address", procNetTCP, 8082, nil, false},
		{"IPv6 loopback, every address, and 127.0.0.1 within IPv6", procNetTCP6, 8080, []uint64{21, 22, 23}, false},
		{"nobody", procNetTCP, 8083, nil, false},
		{"empty", "", 8080, nil, false},
		{"cut off", "   0: 0100007F:1F90 00000000:0000 0A", 8080, nil, true},
		{"no address", strings.Replace(procNetTCP, "0100007F:1F90", "zzz", 1), 8080, nil, true},
		{"no inode", strings.Replace(procNetTCP, " 11 1 ", " ?? 1 ", 1), 8080, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseListeners(strings.NewReader(tt.text), tt.port)
			if (err != nil) != tt.bad || !tt.bad && !slices.Equal(got, tt.want) {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

func FuzzParseListeners(f *testing.F) {
	f.Add(procNetTCP, 8080)
	f.Add("a b:c d e\n", 1)
	f.Fuzz(func(t *testing.T, text string, port int) {
		inodes, err := parseListeners(strings.NewReader(text), port)
		if err == nil && len(inodes) > strings.Count(text, "\n")+1 {
			t.Errorf("%d sockets in %d lines", len(inodes), strings.Count(text, "\n")+1)
		}
	})
}

// ownPort listens on a loopback address of this process.
func ownPort(t *testing.T, network, address string) int {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func TestListenerIsFound(t *testing.T) {
	t.Parallel()
	port := ownPort(t, "tcp4", "127.0.0.1:0")
	for _, hint := range []int{0, os.Getpid(), 1} {
		if pid, err := Listener(port, hint); err != nil || pid != os.Getpid() {
			t.Errorf("with hint %d: process %d, %v; want this one, %d", hint, pid, err, os.Getpid())
		}
	}
	if owner, err := OwnerOf(port, os.Getpid()); err != nil || owner != Ours {
		t.Errorf("owner %d, %v", owner, err)
	}
	child := start(t, "echo up; sleep 1000", nil)
	<-child.said
	if owner, err := OwnerOf(port, child.PID()); err != nil || owner != Foreign {
		t.Errorf("another's port: owner %d, %v", owner, err)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	if pid, err := Listener(port, 0); err != nil || pid != 0 {
		t.Errorf("process %d, %v", pid, err)
	}
	if owner, err := OwnerOf(port, os.Getpid()); err != nil || owner != Nobody {
		t.Errorf("owner %d, %v", owner, err)
	}
}

func TestDescends(t *testing.T) {
	t.Parallel()
	child := start(t, "sleep 1000 & echo $!; wait", nil)
	grandchild := 0
	for _, digit := range <-child.said {
		grandchild = 10*grandchild + int(digit-'0')
	}
	for _, tt := range []struct {
		name      string
		pid, from int
		want      bool
	}{
		{"itself", child.PID(), child.PID(), true},
		{"a child of ours", child.PID(), os.Getpid(), true},
		{"a grandchild", grandchild, os.Getpid(), true},
		{"the other way round", os.Getpid(), child.PID(), false},
		{"one that is not there", 1 << 30, os.Getpid(), false},
		{"nobody", 0, os.Getpid(), false},
	} {
		if got := Descends(tt.pid, tt.from); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}
