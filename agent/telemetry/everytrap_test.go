package telemetry_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// traps is how many are known of GPUs, their drivers and kernel files: what drivers leave out, hang in, lie about. Each has a
// number and at least one test that says so by a comment "// trap N" or "// traps 1, 3–5".
const traps = 44

var marked = regexp.MustCompile(`// traps? ([0-9][0-9, –-]*)`)

func TestEveryTrapHasATest(t *testing.T) {
	t.Parallel()
	tested := map[int][]string{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, match := range marked.FindAllStringSubmatch(string(text), -1) {
			for _, n := range numbers(t, match[1]) {
				tested[n] = append(tested[n], path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= traps; n++ {
		if len(tested[n]) == 0 {
			t.Errorf("no test says that it covers trap %d", n)
		}
	}
}

// numbers reads "3", "1, 3" and "16–20".
func numbers(t *testing.T, list string) (all []int) {
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		first, last, isRange := strings.Cut(strings.ReplaceAll(strings.TrimSpace(part), "–", "-"), "-")
		if strings.TrimSpace(first) == "" {
			continue
		}
		if !isRange || strings.TrimSpace(last) == "" {
			last = first
		}
		from, errFrom := strconv.Atoi(strings.TrimSpace(first))
		to, errTo := strconv.Atoi(strings.TrimSpace(last))
		if errFrom != nil || errTo != nil || from > to {
			t.Errorf("trap numbers %q can't be read", list)
			continue
		}
		for n := from; n <= to; n++ {
			all = append(all, n)
		}
	}
	return all
}
