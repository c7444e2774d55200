package amdsmi

// The structs as they changed from release to release. Source: include/amd_smi/amdsmi.h of ROCm 5.7.1, 6.0.2, 6.1.2, 6.2.2, 6.3,
// 6.4, 7.0 to 7.2 and 7.12 to 7.14, compiled. Each layout is complete, so that none depends on what is written above it.

// newest is the last version whose header was looked at.
var newest = version{26, 5}

var (
	asic57  = asicLayout{bytes: 128, name: field{0, 64}, vendor: field{64, 4}, serial: field{84, 32}}
	asic60  = asicLayout{bytes: 256, name: field{0, 64}, vendor: field{64, 4}, serial: field{148, 32}}
	asic62  = asicLayout{bytes: 448, name: field{0, 256}, vendor: field{256, 4}, serial: field{340, 32}}
	asic63  = asicLayout{bytes: 456, name: field{0, 256}, vendor: field{256, 4}, serial: field{340, 32}, units: field{376, 4}, target: field{384, 8}}
	asic64  = asicLayout{bytes: 896, name: field{0, 256}, vendor: field{256, 4}, serial: field{532, 256}, units: field{792, 4}, target: field{800, 8}}
	asic712 = asicLayout{bytes: 904, name: field{0, 256}, vendor: field{256, 4}, serial: field{532, 256}, units: field{792, 4}, target: field{800, 8}}

	power57 = powerLayout{bytes: 64, average: field{0, 4}}
	power60 = powerLayout{bytes: 68, current: field{0, 4}, average: field{4, 4}}
	power64 = powerLayout{bytes: 40, socket: field{0, 8}, current: field{8, 4}, average: field{12, 4}}
	power70 = powerLayout{bytes: 192, socket: field{0, 8}, current: field{8, 4}, average: field{12, 4}}

	// ROCm 5.7 fills the limit with the highest that may be set.
	powerCap57 = powerCapLayout{bytes: 64, standard: field{8, 8}, lowest: field{24, 8}, highest: field{32, 8}}
	powerCap60 = powerCapLayout{bytes: 64, limit: field{0, 8}, standard: field{8, 8}, lowest: field{24, 8}, highest: field{32, 8}}

	pcie61 = pcieLayout{bytes: 512, width: field{96, 2}, speed: field{100, 4}, replays: field{112, 8}}

	activity57 = activityLayout{bytes: 64, graphics: field{0, 4}, memory: field{4, 4}}
	clock57    = clockLayout{bytes: 32, current: field{0, 4}, highest: field{8, 4}}
	memory57   = memoryLayout{bytes: 16, total: field{0, 4}, used: field{4, 4}}

	errors57 = errorsLayout{bytes: 32, corrected: field{0, 8}, uncorrected: field{8, 8}}
	errors61 = errorsLayout{bytes: 64, corrected: field{0, 8}, uncorrected: field{8, 8}}

	driver60 = driverLayout{bytes: 192, version: field{0, 64}}
	driver64 = driverLayout{bytes: 768, version: field{0, 256}}

	enumeration64  = enumerationLayout{bytes: 272, hip: field{12, 4}, uuid: field{16, 256}}
	enumeration713 = enumerationLayout{bytes: 276, hip: field{12, 4}, uuid: field{16, 256}}

	// Before ROCm 6.1 the list has bare process ids.
	process57 = processLayout{bytes: 4, pid: field{0, 4}}
	process61 = processLayout{bytes: 224, name: field{0, 32}, pid: field{32, 4}, memory: field{128, 8}}
	process64 = processLayout{bytes: 704, name: field{0, 256}, pid: field{256, 4}, memory: field{352, 8}}
)

// layouts are the known ones, oldest first.
var layouts = []layout{
	{since: version{23, 2}, rocm: "ROCm 5.7", asic: asic57, power: power57, powerCap: powerCap57, activity: activity57,
		clock: clock57, memory: memory57, errors: errors57, process: process57},
	{since: version{23, 4}, rocm: "ROCm 6.0", asic: asic60, power: power60, powerCap: powerCap60, activity: activity57,
		clock: clock57, memory: memory57, errors: errors57, driver: driver60, process: process57},
	{since: version{24, 5}, rocm: "ROCm 6.1", asic: asic60, power: power60, powerCap: powerCap60, pcie: pcie61, activity: activity57,
		clock: clock57, memory: memory57, errors: errors61, driver: driver60, process: process61},
	{since: version{24, 6}, rocm: "ROCm 6.2", asic: asic62, power: power60, powerCap: powerCap60, pcie: pcie61, activity: activity57,
		clock: clock57, memory: memory57, errors: errors61, driver: driver60, process: process61},
	{since: version{24, 7}, rocm: "ROCm 6.3", asic: asic63, power: power60, powerCap: powerCap60, pcie: pcie61, activity: activity57,
		clock: clock57, memory: memory57, errors: errors61, driver: driver60, process: process61},
	{since: version{25, 0}, rocm: "ROCm 6.4", asic: asic64, power: power64, powerCap: powerCap60, pcie: pcie61, activity: activity57,
		clock: clock57, memory: memory57, errors: errors61, driver: driver64, enumeration: enumeration64, process: process64},
	{since: version{26, 0}, rocm: "ROCm 7.0 to 7.2", asic: asic64, power: power70, powerCap: powerCap60, pcie: pcie61, activity: activity57,
		clock: clock57, memory: memory57, errors: errors61, driver: driver64, enumeration: enumeration64, process: process64},
	{since: version{26, 3}, rocm: "ROCm 7.12", asic: asic712, power: power70, powerCap: powerCap60, pcie: pcie61, activity: activity57,
		clock: clock57, memory: memory57, errors: errors61, driver: driver64, enumeration: enumeration64, process: process64},
	{since: version{26, 4}, rocm: "ROCm 7.13 and later", asic: asic64, power: power70, powerCap: powerCap60, pcie: pcie61, activity: activity57,
		clock: clock57, memory: memory57, errors: errors61, driver: driver64, enumeration: enumeration713, process: process64},
}
