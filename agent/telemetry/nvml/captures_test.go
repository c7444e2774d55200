//go:build cgo

package nvml

import (
	"bufio"
	"debug/elf"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"muster/agent/fixture"
	"muster/agent/telemetry/nvml/fakenvml"
	"muster/shared/gpu"
)

// telling is what the reader should tell of a capture of nvidia-smi, worked out by hand from the file. na stands for a value
// that is absent, which is why zero is a value here.
type telling struct {
	Name, ID, Address, Arch string
	SM                      float64
	Total, Used, Reserved   float64 // MiB
	Load                    [4]float64
	Celsius                 [2]float64 // GPU, memory
	Watts                   [2]float64 // drawn, limit
	MHz                     [2]float64 // core, memory
	Fan                     float64
	Link                    [2]float64 // generation, lanes
	PState                  float64
	Throttle                gpu.Throttle
	Limits                  [10]float64 // slowdown, shutdown, memory °C; minimum, maximum, default W; core, memory MHz; generation, lanes
	Serial, Firmware        string
	ECC                     string  // on, or "" when it has none
	Rows                    bool    // remapped rows are counted (none, in every capture)
	Margin                  float64 // °C
	Replays                 float64
	Links                   int
	Processes               string // "PID type MiB", with the place of its partition behind #
	Parts                   string // of each, "multiprocessors used/total MiB"
	KBs                     [2]float64
}

const na = -1

var noLoad = [4]float64{na, na, na, na}

// captures are the files with what nvidia-smi does not print: the compute capability, and CUDA cores from the makers' tables (of
// the A10G they disagree, so it has none here). lacks are symbols that drivers of that age lack.
var captures = []struct {
	file, section string
	scenario      []string
	lacks         []string
	want          telling
}{
	{"a100-sxm4-v12.xml", "", []string{"major=8", "minor=0", "cores=6912", "drift=1"}, []string{"nvmlDeviceGetRunningProcessDetailList", "nvmlDeviceGetMarginTemperature"}, telling{
		"NVIDIA A100-SXM4-80GB", "GPU-513536b6-7d19-9063-b049-1e69664bb298", "0000:01:00.0", "sm_80", 108, 81920, 50, 869, noLoad, [2]float64{27, 44},
		[2]float64{67.03, 500}, [2]float64{1275, 1593}, na, [2]float64{4, 16}, 0, 0, [10]float64{89, 92, 95, 100, 500, 500, 1410, 1593, 4, 16}, "1650522003820", "92.00.36.00.02",
		"on", false, na, 0, 0, "-", "14 12/19968, 14 12/19968, 14 12/19968, 14 12/19968", [2]float64{0, 4000}}},
	{"a10g.xml", "", []string{"major=8", "minor=6", "cores=N/A"}, []string{"nvmlDeviceGetMarginTemperature"}, telling{
		"NVIDIA A10G", "GPU-9a9a6c50-2a47-2f51-a902-b82c3b127e94", "0000:00:1e.0", "sm_86", na, 23028, 22, 435, [4]float64{0, 0, 0, 0}, [2]float64{17, na},
		[2]float64{25.58, 300}, [2]float64{210, 405}, 0, [2]float64{1, 8}, 8, gpu.ThrottleIdle, [10]float64{95, 98, na, 100, 300, 300, 1710, 6251, 4, 16}, "", "94.02.75.00.01",
		"on", true, na, 0, 0, "725 graphics 22", "", [2]float64{0, 0}}},
	{"gtx-1070-ti.xml", "", []string{"major=6", "minor=1", "cores=2432"}, old, telling{
		"GeForce GTX 1070 Ti", "GPU-f9ba66fc-a7f5-94c5-da19-019ef2f9c665", "", "sm_61", na, 4096, 42, na, [4]float64{0, 0, na, na}, [2]float64{39, na},
		[2]float64{na, na}, [2]float64{135, 405}, 100, [2]float64{1, 16}, 8, 0, [10]float64{na, na, na, na, na, na, na, na, na, na}, "", "", "", false, na, na, 0, "", "", [2]float64{na, na}}},
	{"gtx-1660-ti.xml", "", []string{"major=7", "minor=5", "cores=1536"}, old, telling{
		"Graphics Device", "GPU-304a277d-3545-63b8-3a36-dfde3c992989", "0000:43:00.0", "sm_75", na, 5912, 0, na, [4]float64{0, 1, 0, 0}, [2]float64{40, na},
		[2]float64{8.93, 130}, [2]float64{300, 405}, 0, [2]float64{1, 16}, 8, gpu.ThrottleIdle, [10]float64{93, 96, na, 70, 130, 130, 2145, 4001, 3, 16}, "", "90.16.25.00.4C",
		"", false, na, 0, 0, "", "", [2]float64{0, 0}}},
	{"quadro-p400.xml", "", []string{"major=6", "minor=1", "cores=256"}, old, telling{
		"Quadro P400", "GPU-8f750be4-dfbc-23b9-b33f-da729a536494", "0000:43:00.0", "sm_61", na, 1998, 0, na, [4]float64{0, 3, 0, 0}, [2]float64{33, na},
		[2]float64{na, na}, [2]float64{139, 405}, 34, [2]float64{1, 16}, 8, gpu.ThrottleIdle, [10]float64{100, 103, na, na, na, na, 1252, 2005, 3, 16}, "0424418054852", "86.07.3B.00.4A",
		"", false, na, 0, 0, "", "", [2]float64{0, 0}}},
	{"quadro-p2000-v12.xml", "", []string{"major=6", "minor=1", "cores=1024"}, nil, telling{
		"Quadro P2000", "GPU-396caaed-39ca-3199-2e68-717cdb786ec6", "0000:17:00.0", "sm_61", 8, 5120, 1, 66, [4]float64{0, 0, 0, 0}, [2]float64{34, na},
		[2]float64{4.61, 75}, [2]float64{139, 405}, 46, [2]float64{1, 8}, 8, gpu.ThrottleIdle, [10]float64{101, 104, na, 75, 75, 75, 1721, 3504, 3, 16}, "0322218049033", "86.06.3F.00.30",
		"", false, na, 0, 0, "", "", [2]float64{0, 0}}},
	{"rtx-3060-v12.xml", "", []string{"major=8", "minor=6", "cores=3584"}, nil, telling{
		"NVIDIA GeForce RTX 3060", "GPU-d6889ff6-2523-9142-ca3c-1ca3f396a625", "0000:2d:00.0", "sm_86", 28, 12288, 116, 368, [4]float64{0, 0, 0, 0}, [2]float64{42, na},
		[2]float64{11.6, 170}, [2]float64{210, 405}, 0, [2]float64{1, 16}, 8, gpu.ThrottleIdle, [10]float64{95, 98, na, 100, 190, 170, 2145, 7501, 4, 16}, "", "94.04.71.00.69",
		"", false, na, 0, 0, "", "", [2]float64{500, 550}}},
	{"rtx-3080-v12.xml", "", []string{"major=8", "minor=6", "cores=8704"}, nil, telling{
		"NVIDIA GeForce RTX 3080", "GPU-19d6d965-2acc-f646-00f8-4c76979aabb4", "0000:04:00.0", "sm_86", 68, 10240, 1128, 173, [4]float64{0, 37, 0, 0}, [2]float64{31, na},
		[2]float64{22.78, 336}, [2]float64{210, 405}, 0, [2]float64{4, 16}, 8, gpu.ThrottleIdle, [10]float64{95, 98, na, 100, 336, 320, 2100, 9501, 4, 16}, "", "94.02.71.40.72",
		"", false, na, 0, 0, "835 graphics 550, 4044 graphics 541, 42416 graphics 159, 2214 graphics 79, 1481 graphics 18", "", [2]float64{6000, 1000}}},
	{"rtx-3080-v13.xml", "", []string{"major=8", "minor=6", "cores=8704"}, nil, telling{
		"NVIDIA GeForce RTX 3080", "GPU-19d6d965-2acc-f646-00f8-4c76979aabb4", "0000:0c:00.0", "sm_86", 68, 10240, 9184, 397, [4]float64{65, 9, 0, 0}, [2]float64{27, na},
		[2]float64{139.62, 320}, [2]float64{1950, 9251}, 0, [2]float64{4, 16}, 2, 0, [10]float64{95, 98, na, 100, 336, 320, 2100, 9501, 4, 16}, "REDACTED", "94.02.71.40.72",
		"", false, na, 0, 0, "", "", [2]float64{14742333, 1066699}}},
	{"rtx-3090-v12.xml", "", []string{"major=8", "minor=6", "cores=10496"}, nil, telling{
		"NVIDIA GeForce RTX 3090", "GPU-12345678-aaaa-bbbb-cccc-0123456789ab", "0000:00:10.0", "sm_86", 82, 24576, 1, 316, [4]float64{0, 0, 0, 0}, [2]float64{37, na},
		[2]float64{27.23, 200}, [2]float64{0, 405}, 0, [2]float64{1, 16}, 8, gpu.ThrottleIdle, [10]float64{95, 98, na, 100, 375, 350, 2100, 9751, 4, 16}, "", "94.02.71.40.72",
		"", false, na, 0, 0, "", "", [2]float64{0, 0}}},
	{"tesla-t4.xml", "", []string{"major=7", "minor=5", "cores=2560"}, nil, telling{
		"Tesla T4", "GPU-d37e67a5-91dd-3774-a5cb-99096249601a", "0000:00:1e.0", "sm_75", 40, 15360, 1032, 388, [4]float64{0, 0, 0, 0}, [2]float64{40, na},
		[2]float64{26.78, 70}, [2]float64{585, 5000}, na, [2]float64{3, 8}, 0, 0, [10]float64{93, 96, na, 60, 70, 70, 1590, 5001, 3, 16}, "", "90.04.84.00.06",
		"on", false, na, 0, 0, "5762 compute 1005, 675 graphics 22", "", [2]float64{0, 0}}},
	{"linux-x86_64__nvidia-geforce-rtx-2080-super__595.71.05.txt", "idle", []string{"major=7", "minor=5", "cores=3072"}, nil, telling{
		"NVIDIA GeForce RTX 2080 SUPER", "GPU-00000000-0000-0000-0000-000000000000", "0000:0c:00.0", "sm_75", 48, 8192, 214, 408, [4]float64{0, 9, 0, 0}, [2]float64{40, na},
		[2]float64{37.62, 250}, [2]float64{300, 405}, 38, [2]float64{1, 16}, 8, gpu.ThrottleIdle, [10]float64{97, 100, na, 105, 350, 250, 2145, 7751, 3, 16}, "", "90.04.7A.40.73",
		"", false, na, 0, 0, "1696 graphics 176, 4584 graphics 3", "", [2]float64{390, 732}}},
	{"linux-x86_64__nvidia-geforce-rtx-2080-super__595.71.05.txt", "load", []string{"major=7", "minor=5", "cores=3072"}, nil, telling{
		"NVIDIA GeForce RTX 2080 SUPER", "GPU-00000000-0000-0000-0000-000000000000", "0000:0c:00.0", "sm_75", 48, 8192, 819, 408, [4]float64{8, 3, 100, 0}, [2]float64{45, na},
		[2]float64{98.55, 250}, [2]float64{2055, 7500}, 38, [2]float64{3, 16}, 2, 0, [10]float64{97, 100, na, 105, 350, 250, 2145, 7751, 3, 16}, "", "90.04.7A.40.73",
		"", false, na, 0, 0, "5268 compute 370, 5267 compute 230, 1696 graphics 176, 4584 graphics 3", "", [2]float64{1199755, 115820}}},
	{"linux-x86_64__nvidia-l40s__595.80.txt", "load", []string{"major=8", "minor=9", "cores=18176"}, nil, telling{
		"NVIDIA L40S", "GPU-00000000-0000-0000-0000-000000000000", "0000:01:00.0", "sm_89", 142, 46068, 1235, 609, [4]float64{9, 2, 59, 0}, [2]float64{54, na},
		[2]float64{110.24, 350}, [2]float64{2520, 9001}, na, [2]float64{4, 16}, 0, 0, [10]float64{na, na, na, 100, 350, 350, 2520, 9001, 4, 16}, "", "95.02.66.00.02",
		"on", true, 34, 0, 0, "20038 compute 681, 20037 compute 538", "", [2]float64{2012109, 259423}}},
	{"linux-x86_64__nvidia-h100-80gb-hbm3__590.48.01.txt", "load", []string{"major=9", "minor=0", "cores=16896"}, nil, telling{
		"NVIDIA H100 80GB HBM3", "GPU-00000000-0000-0000-0000-000000000000", "0000:00:09.0", "sm_90", 132, 81559, 19818, 479, [4]float64{100, 11, 0, 0}, [2]float64{59, 55},
		[2]float64{629.45, 700}, [2]float64{1980, 2619}, na, [2]float64{5, 16}, 0, 0, [10]float64{na, na, na, 200, 700, 700, 1980, 2619, 5, 16}, "", "96.00.A5.00.01",
		"on", true, 26, 9, 18, "11345 compute 15690, 11327 compute 2566, 11328 compute 1542", "", [2]float64{6346, 3092}}},
	{"linux-x86_64__nvidia-h100-mig__590.48.01.txt", "load", []string{"major=9", "minor=0", "cores=16896"}, nil, telling{
		"NVIDIA H100 80GB HBM3", "GPU-00000000-0000-0000-0000-000000000000", "0000:00:09.0", "sm_90", 132, 81559, 11125, 479, noLoad, [2]float64{53, 58},
		[2]float64{432.21, 700}, [2]float64{1980, 2619}, na, [2]float64{5, 16}, 0, 0, [10]float64{na, na, na, 200, 700, 700, 1980, 2619, 5, 16}, "", "96.00.A5.00.01",
		"on", false, 24, 9, 0, "21198 compute 7484 #0, 21180 compute 2296 #0, 21181 compute 1272 #0", "60 11091/40448, 32 17/20096, 16 9/9984, 16 9/9984", [2]float64{19191, 9139}}},
}

// old is what drivers of the 418 branch lack.
var old = []string{"nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetNumGpuCores", "nvmlDeviceGetMarginTemperature", "nvmlDeviceGetFanSpeedRPM", "nvmlDeviceGetCurrentClocksEventReasons",
	"nvmlDeviceGetMigMode", "nvmlDeviceGetRemappedRows", "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2",
	"nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses", "nvmlDeviceGetMPSComputeRunningProcesses_v2", "nvmlDeviceGetMPSComputeRunningProcesses_v3"}

// traps 1, 11, 12, 13, 14
func TestCaptures(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(fixture.Path(t, "nvidia-smi"), "*"))
	if err != nil || len(files) < 15 {
		t.Fatalf("got captures %q: %v", files, err)
	}
	done := map[string]bool{}
	for _, c := range captures {
		done[c.file] = true
		t.Run(c.file+" "+c.section, func(t *testing.T) {
			t.Parallel()
			values := readCapture(t, fixture.Path(t, "nvidia-smi", c.file), c.section)
			library := fakenvml.Build(t, append(c.lacks, lacking(t, fixture.Path(t, "nvidia-smi", c.file))...)...)
			child := startAt(t, library, t.TempDir())
			child.Set(append(values.scenario(), c.scenario...)...)
			if diff := cmp.Diff(c.want, child.told(), cmpopts.EquateApprox(0, 1e-6)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, file := range files {
		if !done[filepath.Base(file)] {
			t.Errorf("%s has no row", file)
		}
	}
}

// lacking gives what the fake has and the capture's list of symbols has not; nothing when it has no list.
func lacking(t *testing.T, path string) (symbols []string) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, list, found := strings.Cut(string(text), ":: nvml-symbols\n")
	if !found {
		return nil
	}
	file, err := elf.Open(fakenvml.Build(t))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	own, err := file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, symbol := range own {
		if strings.HasPrefix(symbol.Name, "nvml") && !strings.Contains(list, "\n"+symbol.Name+"\n") {
			symbols = append(symbols, symbol.Name)
		}
	}
	return symbols
}

// told asks the reader for all that it has to tell of the first device.
func (c *child) told() telling {
	d := c.inventory().Devices[0]
	r, details := c.read(d.ID), c.details(d.ID)
	l := d.Limits
	if l == nil {
		l = &gpu.Limits{}
	}
	got := telling{Name: d.Name, ID: d.ID, Address: d.PCIAddress, Arch: d.Arch, SM: number(d.MultiprocessorCount),
		Total: mebibytes(r.MemoryTotalBytes), Used: mebibytes(r.MemoryUsedBytes), Reserved: mebibytes(r.MemoryReservedBytes),
		Load:    [4]float64{value(r.UtilizationPercent), value(r.MemoryUtilizationPercent), value(r.EncoderPercent), value(r.DecoderPercent)},
		Celsius: [2]float64{na, na}, Watts: [2]float64{value(r.PowerWatts), value(r.PowerLimitWatts)}, MHz: [2]float64{value(r.CoreClockMHz), value(r.MemoryClockMHz)},
		Fan: value(r.FanPercent), Link: [2]float64{number(r.PCIeGeneration), number(r.PCIeWidth)}, PState: number(r.PerformanceState),
		Limits: [10]float64{value(l.SlowdownCelsius), value(l.ShutdownCelsius), value(l.MemoryCelsius), value(l.PowerMinWatts), value(l.PowerMaxWatts), value(l.PowerDefaultWatts),
			value(l.CoreClockMHz), value(l.MemoryClockMHz), number(l.PCIeGeneration), number(l.PCIeWidth)},
		Serial: d.SerialNumber, Firmware: d.FirmwareVersion, Rows: details.RemappedRows != nil && *details.RemappedRows == gpu.RemappedRows{},
		Margin: value(details.ThermalMarginCelsius), Replays: na, Links: len(details.Links)}
	if details.PCIeReplays != nil {
		got.Replays = float64(*details.PCIeReplays)
	}
	for _, one := range r.Temperatures {
		got.Celsius[slices.Index([]gpu.Sensor{gpu.SensorEdge, gpu.SensorMemory}, one.Sensor)] = one.Celsius
	}
	if r.Throttle != nil {
		got.Throttle = *r.Throttle
	}
	if e := details.ECC; e != nil && *e.Enabled && *e.CorrectedVolatile+*e.UncorrectedVolatile+*e.CorrectedAggregate+*e.UncorrectedAggregate == 0 {
		got.ECC = "on"
	}
	got.Processes, got.Parts = processesText(d, details), partsText(d, details)
	throughput := c.ask("throughput " + d.ID).Throughput
	got.KBs = [2]float64{max(na, value(throughput.ReceiveBytesPerSecond)/1000), max(na, value(throughput.TransmitBytesPerSecond)/1000)}
	for i, v := range []*float64{throughput.ReceiveBytesPerSecond, throughput.TransmitBytesPerSecond} {
		if v == nil {
			got.KBs[i] = na
		}
	}
	return got
}

func processesText(d gpu.Device, details gpu.Details) string {
	if details.Processes == nil {
		return "-"
	}
	var texts []string
	for _, p := range details.Processes {
		text := fmt.Sprintf("%d %s %v", p.PID, p.Type, mebibytes(p.MemoryBytes))
		if p.Partition != "" {
			text += fmt.Sprintf(" #%d", slices.IndexFunc(d.Partitions, func(part gpu.Device) bool { return part.ID == p.Partition }))
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}

func partsText(d gpu.Device, details gpu.Details) string {
	var texts []string
	for i, p := range details.Partitions {
		texts = append(texts, fmt.Sprintf("%v %v/%v", number(d.Partitions[i].MultiprocessorCount), mebibytes(p.MemoryUsedBytes), mebibytes(p.MemoryTotalBytes)))
	}
	return strings.Join(texts, ", ")
}

func value(v *float64) float64 {
	if v == nil {
		return na
	}
	return *v
}

func number(v *int) float64 {
	if v == nil {
		return na
	}
	return float64(*v)
}

func mebibytes(v *uint64) float64 {
	if v == nil {
		return na
	}
	return float64(*v) / (1 << 20)
}

// smi is what nvidia-smi printed: paths with their values, in order.
type smi []struct{ path, value string }

func readCapture(t *testing.T, path, section string) smi {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if section == "" {
		return readXML(t, file)
	}
	return readText(t, file, "# "+section+" :: query (-q)")
}

// readXML reads the first GPU of nvidia-smi -q -x.
func readXML(t *testing.T, r io.Reader) (values smi) {
	t.Helper()
	decoder := xml.NewDecoder(r)
	var path []string
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return values
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			path = append(path, token.Name.Local)
		case xml.EndElement:
			if path = path[:len(path)-1]; token.Name.Local == "gpu" {
				return values
			}
		case xml.CharData:
			if text := strings.TrimSpace(string(token)); text != "" && len(path) > 2 {
				values = append(values, struct{ path, value string }{strings.Join(path[2:], "/"), text})
			}
		}
	}
}

// readText reads one section of nvidia-smi -q, whose indentation is its structure.
func readText(t *testing.T, r io.Reader, heading string) (values smi) {
	t.Helper()
	var path []string
	in := false
	for lines := bufio.NewScanner(r); lines.Scan(); {
		line := lines.Text()
		if !in {
			in = line == heading
			continue
		}
		if strings.HasPrefix(line, "# ") && !strings.HasPrefix(line, "# $") {
			return values
		}
		name, value, _ := strings.Cut(line, " : ")
		depth := (len(name) - len(strings.TrimLeft(name, " "))) / 4
		if depth == 0 || strings.TrimSpace(name) == "" {
			continue
		}
		path = append(path[:min(depth-1, len(path))], strings.TrimSpace(name))
		values = append(values, struct{ path, value string }{strings.Join(path, "/"), strings.TrimSpace(value)})
	}
	return values
}

// keys of the scenario by path in nvidia-smi's two forms; the first path with a value counts. scale turns its unit into NVML's.
var smiKeys = []struct {
	key   string
	scale float64 // 0 for a text
	paths []string
}{
	{"name", 0, []string{"product_name", "Product Name"}}, {"uuid", 0, []string{"uuid", "GPU UUID"}}, {"bus", 0, []string{"pci/pci_bus_id", "PCI/Bus Id"}},
	{"serial", 0, []string{"serial", "Serial Number"}}, {"vbios", 0, []string{"vbios_version", "VBIOS Version"}},
	{"util", 1, []string{"utilization/gpu_util", "Utilization/GPU"}}, {"memutil", 1, []string{"utilization/memory_util", "Utilization/Memory"}},
	{"encoder", 1, []string{"utilization/encoder_util", "Utilization/Encoder"}}, {"decoder", 1, []string{"utilization/decoder_util", "Utilization/Decoder"}},
	{"temperature", 1, []string{"temperature/gpu_temp", "Temperature/GPU Current Temp"}}, {"memtemp", 1, []string{"temperature/memory_temp", "Temperature/Memory Current Temp"}},
	{"slowdown", 1, []string{"temperature/gpu_temp_slow_threshold", "Temperature/GPU Slowdown Temp"}},
	{"shutdown", 1, []string{"temperature/gpu_temp_max_threshold", "Temperature/GPU Shutdown Temp"}},
	{"memmax", 1, []string{"temperature/gpu_temp_max_mem_threshold", "Temperature/Memory Max Operating Temp"}},
	{"margin", 1, []string{"temperature/gpu_temp_tlimit", "Temperature/GPU T.Limit Temp"}},
	{"power", 1000, []string{"power_readings/power_draw", "gpu_power_readings/power_draw", "gpu_power_readings/average_power_draw",
		"GPU Power Readings/Average Power Draw", "GPU Power Readings/Instantaneous Power Draw"}},
	{"limit", 1000, []string{"power_readings/enforced_power_limit", "gpu_power_readings/current_power_limit", "GPU Power Readings/Current Power Limit"}},
	{"minlimit", 1000, []string{"power_readings/min_power_limit", "gpu_power_readings/min_power_limit", "GPU Power Readings/Min Power Limit"}},
	{"maxlimit", 1000, []string{"power_readings/max_power_limit", "gpu_power_readings/max_power_limit", "GPU Power Readings/Max Power Limit"}},
	{"defaultlimit", 1000, []string{"power_readings/default_power_limit", "gpu_power_readings/default_power_limit", "GPU Power Readings/Default Power Limit"}},
	{"clock", 1, []string{"clocks/sm_clock", "Clocks/SM"}}, {"memclock", 1, []string{"clocks/mem_clock", "Clocks/Memory"}},
	{"maxclock", 1, []string{"max_clocks/sm_clock", "Max Clocks/SM"}}, {"maxmemclock", 1, []string{"max_clocks/mem_clock", "Max Clocks/Memory"}},
	{"generation", 1, []string{"pci/pci_gpu_link_info/pcie_gen/current_link_gen", "PCI/GPU Link Info/PCIe Generation/Current"}},
	{"maxgeneration", 1, []string{"pci/pci_gpu_link_info/pcie_gen/max_link_gen", "PCI/GPU Link Info/PCIe Generation/Max"}},
	{"width", 1, []string{"pci/pci_gpu_link_info/link_widths/current_link_width", "PCI/GPU Link Info/Link Width/Current"}},
	{"maxwidth", 1, []string{"pci/pci_gpu_link_info/link_widths/max_link_width", "PCI/GPU Link Info/Link Width/Max"}},
	{"replays", 1, []string{"pci/replay_counter", "PCI/Replays Since Reset"}}, {"tx", 1, []string{"pci/tx_util", "PCI/Tx Throughput"}}, {"rx", 1, []string{"pci/rx_util", "PCI/Rx Throughput"}},
	{"fan", 1, []string{"fan_speed", "Fan Speed"}}, {"pstate", 1, []string{"performance_state", "Performance State"}},
	{"total", 1 << 20, []string{"fb_memory_usage/total", "FB Memory Usage/Total"}}, {"used", 1 << 20, []string{"fb_memory_usage/used", "FB Memory Usage/Used"}},
}

// first gives the first value that isn't "not available".
func (s smi) first(paths ...string) (string, bool) {
	for _, path := range paths {
		for _, v := range s {
			if v.path == path && !strings.Contains(v.value, "N/A") && !strings.Contains(v.value, "deprecated") {
				return v.value, true
			}
		}
	}
	return "", false
}

// amount reads "26.78 W", "16x", "P8" in other units.
func amount(text string, scale float64) string {
	v, err := strconv.ParseFloat(strings.Trim(strings.Fields(text)[0], "xP"), 64)
	if err != nil {
		return "N/A"
	}
	return strconv.FormatInt(int64(v*scale+0.5), 10)
}

// scenario sets the fake to the values; what the capture doesn't have the device lacks.
func (s smi) scenario() []string {
	lines := []string{"devices=1", "energy=N/A", "fanrpm=N/A", "links=0"}
	for _, k := range smiKeys {
		text, ok := s.first(k.paths...)
		switch {
		case !ok && k.key == "bus":
			lines = append(lines, "bus=")
			continue
		case !ok:
			text = "N/A"
		case k.scale != 0:
			text = amount(text, k.scale)
		}
		lines = append(lines, k.key+"="+text)
	}
	reserved := "0"
	if text, ok := s.first("fb_memory_usage/reserved", "FB Memory Usage/Reserved"); ok {
		reserved = amount(text, 1<<20)
	}
	lines = append(lines, "reserved="+reserved, fmt.Sprintf("reasons=%d", s.reasons()), "rows=N/A", "ecc=N/A", "mig=N/A")
	if mode, ok := s.first("ecc_mode/current_ecc", "ECC Mode/Current"); ok && mode == "Enabled" {
		lines = append(lines, "ecc=1")
	}
	if n, ok := s.first("remapped_rows/remapped_row_corr", "Remapped Rows/Correctable Error"); ok {
		lines = append(lines, "rows="+n+",0,0,0")
	}
	if mode, ok := s.first("mig_mode/current_mig", "MIG Mode/Current"); ok && mode == "Enabled" {
		lines = append(lines, append(s.instances(), "mig=1")...)
	} else if name, _ := s.first("Product Name"); strings.Contains(name, "H100") {
		lines = append(lines, "links=18") // as its nvlink -s says
	}
	return append(lines, s.processes()...)
}

// reasons are the bits of nvmlClocksEventReasons by the end of nvidia-smi's names.
func (s smi) reasons() (bits int) {
	for i, names := range [][2]string{{"gpu_idle", "/Idle"}, {"applications_clocks_setting", "/Applications Clocks Setting"}, {"sw_power_cap", "/SW Power Cap"},
		{"reason_hw_slowdown", "/HW Slowdown"}, {"sync_boost", "/Sync Boost"}, {"sw_thermal_slowdown", "/SW Thermal Slowdown"},
		{"hw_thermal_slowdown", "/HW Thermal Slowdown"}, {"hw_power_brake_slowdown", "/HW Power Brake Slowdown"}} {
		for _, v := range s {
			if v.value == "Active" && (strings.HasSuffix(v.path, names[0]) || strings.HasSuffix(v.path, names[1])) {
				bits |= 1 << i
			}
		}
	}
	return bits
}

// instances are those of MIG, each of whose values come in order.
func (s smi) instances() (lines []string) {
	i := -1
	for _, v := range s {
		name := v.path[strings.LastIndex(v.path, "/")+1:]
		if !strings.HasPrefix(v.path, "mig_devices/") && !strings.HasPrefix(v.path, "MIG Device/") {
			continue
		}
		key, scale := "", 1.
		switch {
		case name == "index" || name == "Index":
			i++
		case strings.EqualFold(name, "gpu_instance_id"), name == "GPU Instance ID":
			key = "gi"
		case name == "compute_instance_id", name == "Compute Instance ID":
			key = "ci"
		case name == "multiprocessor_count", name == "Multiprocessor count":
			key = "sm"
		case strings.Contains(v.path, "fb_memory_usage"), strings.Contains(v.path, "Shared FB Memory"):
			key, scale = map[string]string{"total": "memory", "used": "used", "reserved": "reserved"}[strings.ToLower(name)], 1<<20
		}
		if key != "" {
			lines = append(lines, fmt.Sprintf("i%d.%s=%s", i, key, amount(v.value, scale)))
		}
	}
	return append(lines, fmt.Sprintf("instances=%d", i+1))
}

func (s smi) processes() []string {
	lists := map[string][]string{}
	var pid, kind, instances string
	for _, v := range s {
		switch v.path[strings.LastIndex(v.path, "/")+1:] {
		case "gpu_instance_id", "GPU instance ID":
			instances = ":" + v.value
		case "compute_instance_id", "Compute instance ID":
			instances += ":" + v.value
		case "pid", "Process ID":
			pid = v.value
		case "type", "Type":
			kind = map[string]string{"C": "compute", "G": "graphics"}[v.value]
		case "used_memory", "Used GPU Memory":
			if strings.Contains(instances, "N/A") {
				instances = ""
			}
			lists[kind] = append(lists[kind], pid+":"+amount(v.value, 1<<20)+instances)
		}
	}
	return []string{"compute=" + strings.Join(lists["compute"], ","), "graphics=" + strings.Join(lists["graphics"], ",")}
}
