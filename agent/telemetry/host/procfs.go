package host

import (
	"bytes"
	"strconv"
	"strings"
)

// parseCPUInfo reads /proc/cpuinfo (proc_cpuinfo(5)): the model, and how many processors are online. ARM kernels name no
// model on many boards: "" then.
func parseCPUInfo(data []byte) (model string, count int) {
	for line := range bytes.Lines(data) {
		key, value, ok := strings.Cut(string(line), ":")
		if !ok {
			continue
		}
		value = printable(strings.TrimSpace(value))
		switch key = strings.TrimSpace(key); {
		case key == "processor" && value != "" && strings.Trim(value, "0123456789") == "":
			count++
		case model == "" && (key == "model name" || key == "cpu model" || key == "Model" || key == "uarch"):
			model = value
		}
	}
	return model, count
}

// memory is /proc/meminfo in bytes.
type memory struct {
	total          uint64
	available      uint64 // without swapping, as the kernel estimates it (MemAvailable), at most total
	availableKnown bool
}

// parseMeminfo reads /proc/meminfo (proc_meminfo(5)); false without MemTotal.
func parseMeminfo(data []byte) (memory, bool) {
	values := map[string]uint64{}
	for line := range bytes.Lines(data) {
		key, rest, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		switch string(key) {
		case "MemTotal", "MemAvailable", "MemFree", "Buffers", "Cached":
		default:
			continue
		}
		fields := bytes.Fields(rest)
		if len(fields) != 2 || string(fields[1]) != "kB" {
			continue
		}
		if n, err := strconv.ParseUint(string(fields[0]), 10, 53); err == nil {
			values[string(key)] = n << 10
		}
	}
	m := memory{total: values["MemTotal"]}
	m.available, m.availableKnown = values["MemAvailable"], true
	if _, ok := values["MemAvailable"]; !ok {
		// Kernels before 3.14.
		_, m.availableKnown = values["MemFree"]
		m.available = values["MemFree"] + values["Buffers"] + values["Cached"]
	}
	m.available = min(m.available, m.total)
	return m, m.total > 0
}

// cpuTimes is the first line of /proc/stat, over all processors, in ticks since boot.
type cpuTimes struct {
	total, idle uint64
}

// parseStat reads "cpu user nice system idle iowait irq softirq steal guest guest_nice" (proc_stat(5)). Guest time is in user
// time already.
func parseStat(data []byte) (cpuTimes, bool) {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 5 || string(fields[0]) != "cpu" {
		return cpuTimes{}, false
	}
	var t cpuTimes
	for i, field := range fields[1:min(len(fields), 9)] {
		n, err := strconv.ParseUint(string(field), 10, 60)
		if err != nil {
			return cpuTimes{}, false
		}
		t.total += n
		if i == 3 || i == 4 {
			t.idle += n
		}
	}
	return t, true
}

// percentSince is the share of time not idle; nil when nothing is known of the time before, or it did not pass.
func (t cpuTimes) percentSince(before cpuTimes) *float64 {
	if before.total == 0 || t.total <= before.total {
		return nil
	}
	total := float64(t.total - before.total)
	idle := float64(int64(t.idle - before.idle)) // iowait can run backwards
	percent := min(100, max(0, 100*(1-idle/total)))
	return &percent
}
