package main

import (
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// table is rows of cells, the titles of the columns first.
type table [][]string

const tableGap = 2

// fit leaves out the columns with these titles, one after the other, until a line has at most so many characters. What the last
// column says after a colon may go beyond. 0 is a line without an end.
func (t table) fit(width int, spare ...string) {
	for _, title := range spare {
		if width == 0 || t.width() <= width {
			return
		}
		column := slices.Index(t[0], title)
		for i := range t {
			t[i] = slices.Delete(t[i], column, column+1)
		}
	}
}

func (t table) width() int {
	total := tableGap * (len(t[0]) - 1)
	for column := range t[0] {
		widest := 0
		for _, row := range t {
			text := row[column]
			if column == len(row)-1 {
				text, _, _ = strings.Cut(text, ":")
			}
			widest = max(widest, utf8.RuneCountInString(text))
		}
		total += widest
	}
	return total
}

func (t table) write(out io.Writer) {
	lines := tabwriter.NewWriter(out, tableGap, 0, tableGap, ' ', 0)
	for _, row := range t {
		_, _ = io.WriteString(lines, strings.Join(row, "\t")+"\n") // into memory
	}
	_ = lines.Flush()
}

// lineWidth is how many characters a line of a terminal has; 0 when out is none.
func lineWidth(out io.Writer) int {
	file, ok := out.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}
