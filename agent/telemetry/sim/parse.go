package sim

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// maxDevices is the most that one simulated machine has: as many as the page is built for.
const maxDevices = 64

var counted = regexp.MustCompile(`^([0-9]+)\s*[xX×*]\s*(.+)$`)

// Models lists the names that Parse knows.
func Models() []string {
	names := make([]string, len(catalogue))
	for i := range catalogue {
		names[i] = catalogue[i].short
	}
	return names
}

// card is one that was asked for.
type card struct {
	*model
	other neighbour
}

// Parse makes the machine that a list such as "2x MI25, 1x RTX 4090 busy" describes: 1 to 64 devices, numbered in this order. A
// count left out is 1; the names are those of Models or the cards' full names, in any case, with or without spaces. "busy" has
// another program, simulated too, use the device for a minute after each minute without; "busy 30s/90s" for 30 s after each 90 s.
func Parse(spec string) (*Machine, error) {
	var cards []card
	for entry := range strings.SplitSeq(spec, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			return nil, fmt.Errorf(`simulate %q: an entry is empty; write "2x MI25, 1x RTX 4090"`, spec)
		}
		count, name, err := splitEntry(entry)
		if err != nil {
			return nil, err
		}
		name, other, err := splitNeighbour(name)
		if err != nil {
			return nil, err
		}
		m := find(name)
		if m == nil {
			return nil, fmt.Errorf("simulate %q: no such model; known are %s", name, strings.Join(Models(), ", "))
		}
		if count < 1 || len(cards)+count > maxDevices {
			return nil, fmt.Errorf("simulate %q: want 1 to %d devices in all", entry, maxDevices)
		}
		for range count {
			cards = append(cards, card{m, other})
		}
	}
	return newMachine(cards), nil
}

func splitEntry(entry string) (count int, name string, err error) {
	parts := counted.FindStringSubmatch(entry)
	if parts == nil {
		return 1, entry, nil
	}
	count, err = strconv.Atoi(parts[1])
	if err != nil {
		return 0, "", fmt.Errorf("simulate %q: want 1 to %d devices in all", entry, maxDevices)
	}
	return count, parts[2], nil
}

func find(name string) *model {
	for i := range catalogue {
		if m := &catalogue[i]; plain(name) == plain(m.short) || plain(name) == plain(m.name) {
			return m
		}
	}
	return nil
}

// plain leaves what tells models apart: letters and digits, without the words that some write before every name.
func plain(name string) string {
	var b strings.Builder
	for word := range strings.FieldsFuncSeq(strings.ToLower(name), func(r rune) bool { return r == ' ' || r == '-' || r == '_' || r == '\t' }) {
		switch word {
		case "amd", "nvidia", "geforce", "radeon", "instinct", "pro", "tesla":
		default:
			b.WriteString(word)
		}
	}
	return b.String()
}

// slug is the model in a device's ID: "rtx-4090".
func (m *model) slug() string { return strings.ReplaceAll(strings.ToLower(m.short), " ", "-") }
