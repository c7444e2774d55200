package sim

import "muster/shared/gpu"

const mib = 1 << 20

// model holds the facts of a card as its driver reports them. Multiprocessors and compute capability are as PyTorch shows them:
// streaming multiprocessors, compute units on GCN and CDNA, half the compute units on RDNA.
type model struct {
	short           string // as it is asked for: "RTX 4090"
	name            string // as the driver or amdgpu.ids name it
	vendor          gpu.Vendor
	arch            string
	capability      string
	multiprocessors int
	memoryMiB       uint64 // usable: what NVML or mem_info_vram_total gives
	limitWatts      float64
	idleWatts       float64
	coreMHz         float64 // boost under load
	idleMHz         float64
	memoryMHz       float64
	fanRPM          float64 // at full speed; 0 = passive, cooled by the chassis
	pcie            int     // generation; all have 16 lanes
	// stepsPerSecond of Stable Diffusion 1.5 at 512x512 with 16-bit weights, one image at a time. Orders of magnitude from
	// public comparisons: what matters is the proportion between the cards.
	stepsPerSecond float64
}

// catalogue is in the order in which errors list it.
var catalogue = []model{
	{"MI25", "Radeon Instinct MI25", gpu.AMD, "gfx900", "9.0", 64, 16368, 220, 8, 1500, 852, 945, 0, 3, 2.6},
	{"MI50", "AMD Instinct MI50", gpu.AMD, "gfx906", "9.0", 60, 16368, 225, 18, 1725, 930, 1000, 0, 4, 3.6},
	{"MI60", "AMD Instinct MI60", gpu.AMD, "gfx906", "9.0", 64, 32752, 225, 19, 1800, 930, 1000, 0, 4, 3.9},
	{"MI100", "AMD Instinct MI100", gpu.AMD, "gfx908", "9.0", 120, 32752, 290, 34, 1502, 300, 1200, 0, 4, 7.5},
	{"MI210", "AMD Instinct MI210", gpu.AMD, "gfx90a", "9.0", 104, 65520, 300, 41, 1700, 800, 1600, 0, 4, 12},
	{"MI300X", "AMD Instinct MI300X", gpu.AMD, "gfx942", "9.4", 304, 196592, 750, 135, 2100, 132, 2600, 0, 5, 32},
	{"V620", "AMD Radeon Pro V620", gpu.AMD, "gfx1030", "10.3", 36, 32752, 300, 9, 2200, 500, 1000, 0, 4, 6.5},
	{"W7900", "AMD Radeon Pro W7900", gpu.AMD, "gfx1100", "11.0", 48, 49136, 295, 18, 2495, 500, 1124, 3200, 4, 15},
	{"RX 6800 XT", "AMD Radeon RX 6800 XT", gpu.AMD, "gfx1030", "10.3", 36, 16368, 300, 8, 2250, 500, 1000, 3300, 4, 7},
	{"RX 6900 XT", "AMD Radeon RX 6900 XT", gpu.AMD, "gfx1030", "10.3", 40, 16368, 300, 8, 2250, 500, 1000, 3300, 4, 7.7},
	{"RX 7800 XT", "AMD Radeon RX 7800 XT", gpu.AMD, "gfx1101", "11.0", 30, 16368, 263, 12, 2430, 500, 1219, 3300, 4, 9.5},
	{"RX 7900 XTX", "AMD Radeon RX 7900 XTX", gpu.AMD, "gfx1100", "11.0", 48, 24560, 339, 17, 2500, 500, 1249, 3100, 4, 16},
	{"RX 9070 XT", "AMD Radeon RX 9070 XT", gpu.AMD, "gfx1201", "12.0", 32, 16304, 304, 14, 2970, 500, 1258, 3300, 5, 15},
	{"GTX 1080 Ti", "NVIDIA GeForce GTX 1080 Ti", gpu.NVIDIA, "sm_61", "6.1", 28, 11264, 250, 10, 1911, 139, 5505, 4800, 3, 3.6},
	{"T4", "Tesla T4", gpu.NVIDIA, "sm_75", "7.5", 40, 15360, 70, 10, 1590, 300, 5000, 0, 3, 4.5},
	{"V100", "Tesla V100-SXM2-32GB", gpu.NVIDIA, "sm_70", "7.0", 80, 32768, 300, 40, 1530, 135, 877, 0, 3, 11},
	{"RTX 2080 Ti", "NVIDIA GeForce RTX 2080 Ti", gpu.NVIDIA, "sm_75", "7.5", 68, 11264, 260, 15, 1900, 300, 7000, 3700, 3, 9},
	{"RTX 3060", "NVIDIA GeForce RTX 3060", gpu.NVIDIA, "sm_86", "8.6", 28, 12288, 170, 13, 1850, 210, 7501, 3600, 4, 7.5},
	{"RTX 3080", "NVIDIA GeForce RTX 3080", gpu.NVIDIA, "sm_86", "8.6", 68, 10240, 320, 20, 1860, 210, 9501, 3600, 4, 15},
	{"RTX 3090", "NVIDIA GeForce RTX 3090", gpu.NVIDIA, "sm_86", "8.6", 82, 24576, 350, 22, 1860, 210, 9751, 3600, 4, 17},
	{"RTX 4060 Ti", "NVIDIA GeForce RTX 4060 Ti", gpu.NVIDIA, "sm_89", "8.9", 34, 16380, 165, 9, 2730, 210, 9001, 3300, 4, 11},
	{"RTX 4070", "NVIDIA GeForce RTX 4070", gpu.NVIDIA, "sm_89", "8.9", 46, 12282, 200, 11, 2715, 210, 10501, 3300, 4, 15},
	{"RTX 4080", "NVIDIA GeForce RTX 4080", gpu.NVIDIA, "sm_89", "8.9", 76, 16376, 320, 13, 2760, 210, 11201, 3300, 4, 23},
	{"RTX 4090", "NVIDIA GeForce RTX 4090", gpu.NVIDIA, "sm_89", "8.9", 128, 24564, 450, 17, 2700, 210, 10501, 3300, 4, 32},
	{"RTX 5090", "NVIDIA GeForce RTX 5090", gpu.NVIDIA, "sm_120", "12.0", 170, 32607, 575, 24, 2850, 210, 14001, 3500, 5, 42},
	{"RTX A6000", "NVIDIA RTX A6000", gpu.NVIDIA, "sm_86", "8.6", 84, 49140, 300, 22, 1800, 210, 8001, 3600, 4, 16},
	{"A10", "NVIDIA A10", gpu.NVIDIA, "sm_86", "8.6", 72, 23028, 150, 16, 1695, 210, 6251, 0, 4, 10},
	{"A100", "NVIDIA A100-SXM4-80GB", gpu.NVIDIA, "sm_80", "8.0", 108, 81920, 400, 55, 1410, 210, 1593, 0, 4, 23},
	{"L4", "NVIDIA L4", gpu.NVIDIA, "sm_89", "8.9", 58, 23034, 72, 13, 2040, 210, 6251, 0, 4, 9},
	{"L40S", "NVIDIA L40S", gpu.NVIDIA, "sm_89", "8.9", 142, 46068, 350, 33, 2520, 210, 9001, 0, 4, 29},
	{"H100", "NVIDIA H100 80GB HBM3", gpu.NVIDIA, "sm_90", "9.0", 132, 81559, 700, 70, 1980, 345, 2619, 0, 5, 40},
	{"H200", "NVIDIA H200", gpu.NVIDIA, "sm_90", "9.0", 132, 143771, 700, 76, 1980, 345, 3201, 0, 5, 42},
}

func (m *model) memoryBytes() uint64 { return m.memoryMiB * mib }
