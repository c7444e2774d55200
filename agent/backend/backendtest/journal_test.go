package backendtest

import (
	"os"
	"path/filepath"
	"testing"
)

// A program that is killed while it writes leaves half a line: the starts before and after it are read.
func TestJournalWithHalfALine(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "sd-server")
	record := func(pid int) {
		if err := Record(program, Start{PID: pid, Model: "m"}); err != nil {
			t.Fatal(err)
		}
	}
	record(1)
	record(2)
	whole, err := os.ReadFile(JournalPath(program))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(JournalPath(program), int64(len(whole)-20)); err != nil {
		t.Fatal(err)
	}
	record(3)
	starts, err := Starts(program)
	if err != nil || len(starts) != 2 || starts[0].PID != 1 || starts[1].PID != 3 {
		t.Errorf("%+v, %v: want the starts 1 and 3", starts, err)
	}
}
