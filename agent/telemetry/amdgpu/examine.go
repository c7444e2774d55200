package amdgpu

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"muster/agent/telemetry"
	"muster/agent/telemetry/kernel"
	"muster/shared/gpu"
)

// Examine says what this machine's AMD cards need: the kernel module, what generators need of /dev, what a container hides, and
// where two sources disagree. It is silent on a machine without AMD hardware.
func (r *Reader) Examine(ctx context.Context) []telemetry.Finding {
	t, err := kernel.OpenWith(r.root, r.read)
	if err != nil {
		return nil // Inventory says so
	}
	cards := r.sorted()
	hidden := int(r.hidden.Load())
	there := len(cards) > 0 || hidden > 0 || slices.ContainsFunc(kernel.ScanPCI(t), func(d kernel.PCIDevice) bool { return d.Vendor == kernel.VendorAMD })
	if !there || ctx.Err() != nil {
		return nil
	}
	findings := []telemetry.Finding{examineModule(t)}
	if hidden > 0 {
		findings = append(findings, telemetry.Finding{Level: telemetry.LevelNote, Subject: "/sys/class/kfd",
			Text:  fmt.Sprintf("%d GPU(s) of the machine are not given to this container", hidden),
			Costs: "they are not listed, or only in part", Mend: "docker run --device /dev/kfd --device /dev/dri"})
	}
	if _, err := os.Lstat(t.Path("dev")); err == nil {
		findings = append(findings, examineNodes(t, cards)...)
	}
	for _, f := range examineAll(ctx, cards, r.patience) {
		if !slices.Contains(findings, f) { // what /proc hides, it hides of every card
			findings = append(findings, f)
		}
	}
	return findings
}

// sorted gives the cards of the last Inventory by address.
func (r *Reader) sorted() []*card {
	var cards []*card
	for _, c := range r.known() {
		cards = append(cards, c)
	}
	slices.SortFunc(cards, func(a, b *card) int { return strings.Compare(a.device.PCIAddress, b.device.PCIAddress) })
	return cards
}

// examineAll looks at all cards at once, and says which don't answer in time: those are why many ask a doctor.
func examineAll(ctx context.Context, cards []*card, patience time.Duration) []telemetry.Finding {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answers := make([]chan []telemetry.Finding, len(cards))
	for i, c := range cards {
		answers[i] = make(chan []telemetry.Finding, 1)
		if !c.track.examining.CompareAndSwap(false, true) {
			continue // the last one is still at it
		}
		go func() {
			defer c.track.examining.Store(false)
			answers[i] <- c.examine(ctx)
		}()
	}
	var findings []telemetry.Finding
	for i, c := range cards {
		select {
		case found := <-answers[i]:
			findings = append(findings, found...)
			continue
		case <-ctx.Done():
		}
		select { // the time may have been spent on another card
		case found := <-answers[i]:
			findings = append(findings, found...)
		default:
			findings = append(findings, telemetry.Finding{Level: telemetry.LevelFault, Subject: c.device.Name + " " + c.device.PCIAddress,
				Text: "its driver does not answer", Costs: "its values stand still, and programs that use it may hang",
				Mend: "see the kernel log (sudo dmesg) for amdgpu; if it stays so, reboot"})
		}
	}
	return findings
}

func examineModule(t kernel.Tree) telemetry.Finding {
	if _, err := t.Resolve("sys/module/amdgpu"); err != nil {
		return telemetry.Finding{Level: telemetry.LevelFault, Subject: "amdgpu", Text: "the kernel module is not loaded",
			Costs: "AMD cards can neither be read nor used", Mend: "sudo modprobe amdgpu"}
	}
	return telemetry.Finding{Level: telemetry.LevelOK, Subject: "amdgpu", Text: "kernel module " + driverVersion(t)}
}

// examineNodes looks at what generators open: muster itself reads sysfs alone.
func examineNodes(t kernel.Tree, cards []*card) []telemetry.Finding {
	findings := []telemetry.Finding{examineNode(t, "/dev/kfd", "programs that compute through ROCm (HIP) can't use AMD cards")}
	for _, c := range cards {
		for _, node := range c.allNodes() {
			if strings.HasPrefix(node, "renderD") {
				findings = append(findings, examineNode(t, "/dev/dri/"+node, fmt.Sprintf("programs can't use the card %s (%s)", c.device.PCIAddress, c.device.Name)))
			}
		}
	}
	return findings
}

// examineNode says whether this user may open a device node, without opening it: that would wake the card.
func examineNode(t kernel.Tree, node, costs string) telemetry.Finding {
	path := t.Path(strings.TrimPrefix(node, "/"))
	info, err := os.Stat(path)
	if err != nil {
		mend := "sudo modprobe amdgpu; in a container: docker run --device /dev/kfd --device /dev/dri"
		if !errors.Is(err, fs.ErrNotExist) {
			mend = ""
		}
		return telemetry.Finding{Level: telemetry.LevelFault, Subject: node, Text: "it is not there", Costs: costs, Mend: mend}
	}
	const readWrite = 6
	if syscall.Access(path, readWrite) == nil {
		return telemetry.Finding{Level: telemetry.LevelOK, Subject: node, Text: "this user may open it"}
	}
	return telemetry.Finding{Level: telemetry.LevelFault, Subject: node, Text: "this user may not open it", Costs: costs, Mend: mendAccess(t, node, info)}
}

// mendAccess gives the command that lets this user open a node: to join the group that may.
func mendAccess(t kernel.Tree, node string, info fs.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	const groupReadWrite = 0o060
	if !ok || stat.Gid == 0 || info.Mode().Perm()&groupReadWrite != groupReadWrite {
		return "sudo chgrp render " + node + " && sudo chmod g+rw " + node
	}
	if group := groupName(t, stat.Gid); group != "" {
		return fmt.Sprintf("sudo usermod -aG %s $USER, then log in anew", group)
	}
	return fmt.Sprintf("in a container: docker run --group-add %d", stat.Gid)
}

// groupName looks a group up in etc/group; "" when it isn't there.
func groupName(t kernel.Tree, gid uint32) string {
	table, err := t.Big("etc/group", 1<<20)
	if err != nil {
		return ""
	}
	for lines := bufio.NewScanner(bytes.NewReader(table)); lines.Scan(); {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) >= 3 && fields[2] == fmt.Sprint(gid) && printable(fields[0]) {
			return fields[0]
		}
	}
	return ""
}

// examine says what is missing of one card, and what its sources disagree on. Of a sleeping card it reads nothing. It runs beside
// Reads, and so keeps away from what they remember.
func (c *card) examine(ctx context.Context) []telemetry.Finding {
	p := newProbe(c.tree)
	defer p.release()
	if ctx.Err() != nil || c.asleep(p) {
		return nil
	}
	s := c.sensors.Load()
	switch {
	case s == nil && c.dir != "":
		return nil // it woke a moment ago: the next Read finds its files
	case s == nil:
		s = &sensors{}
	}
	subject := c.device.Name + " " + c.device.PCIAddress
	note := func(text, costs, mend string) telemetry.Finding {
		return telemetry.Finding{Level: telemetry.LevelNote, Subject: subject, Text: text, Costs: costs, Mend: mend}
	}
	var findings []telemetry.Finding
	if c.dir == "" {
		findings = append(findings, note("only KFD shows the card, its folder in /sys/bus/pci is hidden", "everything but its memory is absent", "start the container with the machine's /sys"))
	} else if len(s.temperatures) == 0 && s.power == "" {
		findings = append(findings, note("its sensors (hwmon) are not there", "temperature, power, fan and clocks are absent",
			"look for amdgpu in the kernel log: the card's power management did not start"))
	}
	blob := p.blob(s.metrics)
	m, decoded := decodeMetrics(blob)
	if !decoded && len(blob) >= 4 {
		findings = append(findings, note(fmt.Sprintf("gpu_metrics has version %d.%d, which muster does not know, or is cut", blob[2], blob[3]),
			"throttle reasons and energy are absent", "update muster"))
	}
	for _, d := range c.disagreements(p, s, m) {
		findings = append(findings, note(describeDisagreement(d), "the first is shown; it may be wrong", ""))
	}
	return append(findings, c.examineProcesses(ctx, p)...)
}

// examineProcesses says what keeps the list of processes from being whole.
func (c *card) examineProcesses(ctx context.Context, p *probe) []telemetry.Finding {
	_, obstacles, err := c.listProcesses(ctx, p)
	if err != nil {
		return nil // out of time
	}
	var findings []telemetry.Finding
	for _, o := range obstacles {
		findings = append(findings, telemetry.Finding{Level: telemetry.LevelNote, Subject: "processes on AMD cards", Text: o.text,
			Costs: "the list of processes is not whole, or without names", Mend: o.mend})
	}
	return findings
}

// describeDisagreement gives "power_watts: hwmon power1_average says 36, gpu_metrics says 61".
func describeDisagreement(d gpu.Disagreement) string {
	var words []string
	for _, v := range d.Values {
		words = append(words, fmt.Sprintf("%s says %.4g", v.Source, v.Value))
	}
	return d.Field + ": " + strings.Join(words, ", ")
}
