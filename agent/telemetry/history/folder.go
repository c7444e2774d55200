package history

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// keepFor is how long the files of a device that is gone are kept.
const keepFor = 30 * 24 * time.Hour

// nameOf gives the first part of a device's files' names. IDs come from drivers and can hold anything: they are never part of it.
func nameOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:16])
}

func (d *disk) path(key ringKey) string {
	return filepath.Join(d.folder, nameOf(key.id)+"."+tiers[key.tier].name)
}

var ringName = regexp.MustCompile(`^([0-9a-f]{32})\.(10s|1m)$`)

// kept is what the folder holds of one device.
type kept struct {
	name    string
	written time.Time // last
}

// list gives the devices that have files, the one written longest ago first.
func (d *disk) list() ([]kept, error) {
	entries, err := os.ReadDir(d.folder)
	if err != nil {
		return nil, err
	}
	newest := map[string]time.Time{}
	for _, e := range entries {
		match := ringName.FindStringSubmatch(e.Name())
		if match == nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // gone meanwhile
		}
		if at := info.ModTime(); at.After(newest[match[1]]) {
			newest[match[1]] = at
		}
	}
	all := make([]kept, 0, len(newest))
	for name, at := range newest {
		all = append(all, kept{name, at})
	}
	slices.SortFunc(all, func(a, b kept) int {
		return cmp.Or(a.written.Compare(b.written), cmp.Compare(a.name, b.name))
	})
	return all, nil
}

// inUse names the devices that have been written or read since the start.
func (d *disk) inUse() map[string]bool {
	names := map[string]bool{}
	for key := range d.rings {
		names[nameOf(key.id)] = true
	}
	return names
}

// makeRoom makes the folder, and sees to it that the files of another device fit into MaxDevices.
func (d *disk) makeRoom(id string) error {
	if err := os.MkdirAll(d.folder, 0o700); err != nil {
		return err
	}
	all, err := d.list()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(k kept) bool { return k.name == nameOf(id) }) || len(all) < MaxDevices {
		return nil
	}
	used := d.inUse()
	for _, k := range all {
		if !used[k.name] {
			return d.remove(k)
		}
	}
	return fmt.Errorf("history is kept of %d devices at most", MaxDevices)
}

// sweep removes the files of devices that have been gone for longer than their rows are kept.
func (d *disk) sweep() {
	all, err := d.list()
	if err != nil {
		return // no folder, no files
	}
	used := d.inUse()
	for _, k := range all {
		if used[k.name] || time.Since(k.written) <= keepFor {
			continue
		}
		if err := d.remove(k); err != nil {
			d.trouble(err)
		}
	}
}

func (d *disk) remove(k kept) error {
	var errs []error
	for _, t := range tiers {
		if err := os.Remove(filepath.Join(d.folder, k.name+"."+t.name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	d.log.Info("history of a device that is gone was removed", "file", k.name, "written", k.written)
	return errors.Join(errs...)
}
