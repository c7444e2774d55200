// A libamd_smi.so for tests: four MI25s, changed by a scenario. It knows the structs of every version by the sizes and offsets
// that a compiler gives for AMD's headers, and needs none of them: it is a second writing of what the reader assumes.
//
// FAKE_AMDSMI_SCENARIO names a file of lines "key=value"; it is read again at every call, so a test changes it while the library
// is in use. Keys may be prefixed by the index of a device ("1.power=4294967295"). Each call adds its name to the file of the
// same name with ".calls" behind it.
//
//   version=26.2         what amdsmi_get_lib_version says, and whose structs are written
//   devices=N            how many there are (4)
//   parts=N              the device is N processors, at the functions 0 to N-1
//   type=N               the processor's type (1: GPU)
//   amdsmi_function=CODE what that function returns, before it does anything
//   abort=amdsmi_function  that function aborts
//   hang=1               every call for the device blocks, as long as the scenario says so
//   slow=MS              every call for the device takes that long
//   chatty=1             amdsmi_get_pcie_info prints to standard output, as the real one does
//   longer=N             every struct is N bytes longer than the version says; longer.asic=N: that of asic_info alone
//   moved=1              the name in asic_info stands 4 bytes later
//   market=TEXT serial=TEXT hipuuid=TEXT
//   processes=N          how many processes the device has (2); growing=1: 20 more than there is room for, up to 200
//   bdf cu gfx total used util memutil edge hotspot memtemp critical power average cap clock maxclock memclock rpm fan fanmax
//   width speed replays energy eccblocks corrected uncorrected hip
//
// Symbols that a version lacks are taken out when it is linked: -Wl,--version-script with "{ local: amdsmi_foo; };".
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INVAL = 1, NOT_SUPPORTED = 2, OUT_OF_RESOURCES = 15, NOT_INIT = 32, UNEXPECTED_DATA = 43 };
static volatile int initialised;

// text looks "dev.key" up, then "key"; dev -1 has no prefix. It gives otherwise when neither is there.
static const char *text(int dev, const char *key, const char *otherwise, char *buffer, size_t size)
{
	const char *path = getenv("FAKE_AMDSMI_SCENARIO");
	FILE *f = path ? fopen(path, "re") : NULL;
	char line[512], own[128];
	int exact = 0;
	snprintf(buffer, size, "%s", otherwise);
	if (!f)
		return buffer;
	snprintf(own, sizeof own, "%d.%s", dev, key);
	while (fgets(line, sizeof line, f)) {
		char *equals = strchr(line, '=');
		if (!equals)
			continue;
		*equals = 0;
		equals[1 + strcspn(equals + 1, "\n")] = 0;
		if (!strcmp(line, own) || (!exact && !strcmp(line, key))) {
			exact = exact || !strcmp(line, own);
			snprintf(buffer, size, "%s", equals + 1);
		}
	}
	fclose(f);
	return buffer;
}

static uint64_t value(int dev, const char *key, uint64_t otherwise)
{
	char buffer[128];
	text(dev, key, "", buffer, sizeof buffer);
	return *buffer ? strtoull(buffer, NULL, 0) : otherwise;
}

// version gives 2602 for 26.2.
static int version(void)
{
	char buffer[32], *dot;
	text(-1, "version", "26.2", buffer, sizeof buffer);
	dot = strchr(buffer, '.');
	return atoi(buffer) * 100 + (dot ? atoi(dot + 1) : 0);
}

// enter is what every function begins with.
static int enter(int dev, const char *function)
{
	char path[512], buffer[128];
	const char *scenario = getenv("FAKE_AMDSMI_SCENARIO");
	if (scenario) {
		snprintf(path, sizeof path, "%s.calls", scenario);
		FILE *f = fopen(path, "ae");
		if (f) {
			fprintf(f, "%s\n", function);
			fclose(f);
		}
	}
	if (!strcmp(text(dev, "abort", "", buffer, sizeof buffer), function))
		abort();
	while (dev >= 0 && value(dev, "hang", 0))
		usleep(1000);
	if (dev >= 0 && value(dev, "slow", 0))
		usleep((unsigned)value(dev, "slow", 0) * 1000);
	return (int)(int64_t)value(dev, function, 0);
}

// Handles: of sockets 0x1000 + index, of processors 0x2000 + 16 * index + partition.
static int indexOf(void *h) { return (int)(((uintptr_t)h - 0x2000) / 16); }
static int partOf(void *h) { return (int)(((uintptr_t)h - 0x2000) % 16); }

#define ENTER(h) do { int r = enter(indexOf(h), __func__); if (r) return r; if (!initialised) return NOT_INIT; } while (0)

static void put16(char *b, int at, uint64_t v) { uint16_t n = (uint16_t)v; memcpy(b + at, &n, 2); }
static void put32(char *b, int at, uint64_t v) { uint32_t n = (uint32_t)v; memcpy(b + at, &n, 4); }
static void put64(char *b, int at, uint64_t v) { memcpy(b + at, &v, 8); }

// blank makes a struct of that size, or of the scenario's; its room must have been given zeroed.
static int blank(void *b, int size, const char *which)
{
	char key[64];
	for (int i = 0; i < size; i++)
		if (((char *)b)[i])
			return UNEXPECTED_DATA;
	snprintf(key, sizeof key, "longer.%s", which);
	memset(b, 0, (size_t)size + value(-1, key, value(-1, "longer", 0)));
	return 0;
}
#define BLANK(size, which) do { int r = blank(info, size, which); if (r) return r; } while (0)

int amdsmi_init(uint64_t flags)
{
	int r = enter(-1, __func__);
	if (r)
		return r;
	initialised = 1;
	return flags == 2 ? 0 : INVAL;
}
int amdsmi_shut_down(void)
{
	int r = enter(-1, __func__);
	initialised = 0;
	return r;
}
int amdsmi_get_lib_version(char *info)
{
	int r = enter(-1, __func__), v = version();
	static const char build[] = "of the fake";
	const char *p = build;
	if (r)
		return r;
	put32(info, 0, v / 100);
	put32(info, 4, v % 100);
	put32(info, 8, 0);
	put32(info, 12, 0);
	memcpy(info + 16, &p, sizeof p);
	return 0;
}
int amdsmi_get_socket_handles(uint32_t *n, void **list)
{
	int r = enter(-1, __func__);
	if (r)
		return r;
	if (!initialised)
		return NOT_INIT;
	uint32_t all = (uint32_t)value(-1, "devices", 4);
	*n = list && *n < all ? *n : all;
	for (uint32_t i = 0; list && i < *n; i++)
		list[i] = (void *)(uintptr_t)(0x1000 + i);
	return 0;
}
int amdsmi_get_processor_handles(void *socket, uint32_t *n, void **list)
{
	int dev = (int)((uintptr_t)socket - 0x1000), r = enter(-1, __func__);
	if (r)
		return r;
	uint32_t all = (uint32_t)value(dev, "parts", 1);
	*n = list && *n < all ? *n : all;
	for (uint32_t i = 0; list && i < *n; i++)
		list[i] = (void *)(uintptr_t)(0x2000 + 16 * dev + (int)i);
	return 0;
}
int amdsmi_get_processor_type(void *h, uint32_t *type)
{
	int r = enter(-1, __func__); // not the device's: a hang is not met here
	*type = (uint32_t)value(indexOf(h), "type", 1);
	return r;
}
int amdsmi_get_gpu_device_bdf(void *h, uint64_t *bdf)
{
	ENTER(h);
	*bdf = value(indexOf(h), "bdf", (uint64_t)(0x03 + 0x10 * indexOf(h)) << 8) + (uint64_t)partOf(h);
	return 0;
}

int amdsmi_get_gpu_asic_info(void *h, char *info)
{
	ENTER(h);
	int v = version(), dev = indexOf(h), moved = value(-1, "moved", 0) ? 4 : 0;
	int size = v < 2304 ? 128 : v < 2406 ? 256 : v < 2407 ? 448 : v < 2500 ? 456 : v == 2603 ? 904 : 896;
	int vendor = v < 2406 ? 64 : 256;
	int device = v < 2304 ? 72 : v < 2406 ? 136 : v < 2500 ? 328 : 520;
	int serial = v < 2304 ? 84 : v < 2406 ? 148 : v < 2500 ? 340 : 532;
	char id[32], buffer[300];
	BLANK(size, "asic");
	snprintf(info + moved, (size_t)vendor, "%s", text(dev, "market", "AMD Radeon Instinct MI25", buffer, sizeof buffer));
	if (moved)
		put32(info, 0, 0x1002);
	else
		put32(info, vendor, 0x1002);
	put64(info, device, 0x6860);
	put32(info, device + 8, 1);
	snprintf(id, sizeof id, v < 2500 ? "%016x" : "0x%016X", 0xd1ee + dev);
	strcpy(info + serial, text(dev, "serial", id, buffer, 32));
	if (v >= 2407 && v < 2500) {
		put32(info, 372, 0xffff);
		put32(info, 376, value(dev, "cu", 64));
		put64(info, 384, value(dev, "gfx", 900)); // decimal in this version
	} else if (v >= 2500) {
		put32(info, 788, 0xffffffff);
		put32(info, 792, value(dev, "cu", 64));
		put64(info, 800, value(dev, "gfx", 0x900));
	}
	return 0;
}
int amdsmi_get_gpu_enumeration_info(void *h, char *info)
{
	ENTER(h);
	int v = version(), dev = indexOf(h);
	char id[32], buffer[256];
	if (v < 2500)
		abort(); // no such function: a caller has taken the version for another
	BLANK(v < 2604 ? 272 : 276, "enumeration");
	put32(info, 0, 128 + dev);
	put32(info, 4, dev);
	put32(info, 8, 2 + dev);
	put32(info, 12, value(dev, "hip", 3 - dev));
	snprintf(id, sizeof id, "GPU-%016x", 0xd1ee + dev);
	strcpy(info + 16, text(dev, "hipuuid", id, buffer, sizeof buffer));
	return 0;
}
int amdsmi_get_gpu_driver_info(void *h, char *info)
{
	ENTER(h);
	int each = version() < 2500 ? 64 : 256;
	if (version() < 2304)
		abort();
	BLANK(3 * each, "driver");
	strcpy(info, "6.8.5");
	strcpy(info + each, "2015/01/01 00:00");
	strcpy(info + 2 * each, "amdgpu");
	return 0;
}
int amdsmi_get_gpu_vram_usage(void *h, char *info)
{
	ENTER(h);
	BLANK(16, "vram");
	put32(info, 0, value(indexOf(h), "total", 16368));
	put32(info, 4, value(indexOf(h), "used", 1024 * (uint64_t)(indexOf(h) + 1)));
	return 0;
}
int amdsmi_get_gpu_activity(void *h, char *info)
{
	ENTER(h);
	BLANK(64, "activity");
	put32(info, 0, value(indexOf(h), "util", 10 * (uint64_t)indexOf(h)));
	put32(info, 4, value(indexOf(h), "memutil", 5 * (uint64_t)indexOf(h)));
	put32(info, 8, 0xffff);
	return 0;
}
int amdsmi_get_temp_metric(void *h, uint32_t sensor, uint32_t metric, int64_t *celsius)
{
	static const char *const keys[] = {"edge", "hotspot", "memtemp"};
	ENTER(h);
	if (sensor > 2 || (metric && metric != 5 && metric != 7))
		return NOT_SUPPORTED;
	*celsius = (int64_t)(metric ? value(indexOf(h), "critical", 95) + sensor + (metric == 7 ? 5 : 0)
				    : value(indexOf(h), keys[sensor], 40 + 10 * sensor + (uint64_t)indexOf(h)));
	return *celsius == -1 ? NOT_SUPPORTED : 0;
}
int amdsmi_get_power_info(void *h, char *info)
{
	ENTER(h);
	int v = version(), dev = indexOf(h);
	uint64_t now = value(dev, "power", 0xffff), mean = value(dev, "average", 70 + (uint64_t)dev);
	BLANK(v < 2304 ? 64 : v < 2500 ? 68 : v < 2600 ? 40 : 192, "power");
	if (v < 2304) {
		put32(info, 0, mean);
		put32(info, 16, 220);
	} else if (v < 2500) {
		put32(info, 0, now);
		put32(info, 4, mean);
		put32(info, 20, 220000000);
	} else {
		put64(info, 0, value(dev, "socket", 0xffffffff));
		put32(info, 8, now == 0xffff ? 0xffffffff : now);
		put32(info, 12, mean);
		put32(info, v < 2600 ? 28 : 40, 220000000);
	}
	return 0;
}
int amdsmi_get_power_cap_info(void *h, uint32_t sensor, char *info)
{
	ENTER(h);
	int v = version();
	if (sensor)
		return INVAL;
	BLANK(64, "cap");
	uint64_t cap = value(indexOf(h), "cap", 200);
	put64(info, 0, v < 2304 ? 264 : v < 2405 ? cap : cap * 1000000); // in watts, and once of the wrong file
	put64(info, 8, 220000000);
	put64(info, 16, 1500);
	put64(info, 24, 0);
	put64(info, 32, 264000000);
	return 0;
}
int amdsmi_get_clock_info(void *h, uint32_t type, char *info)
{
	ENTER(h);
	if (type != 0 && type != 4)
		return INVAL;
	BLANK(32, "clock");
	put32(info, 0, type ? value(indexOf(h), "memclock", 945) : value(indexOf(h), "clock", 1440));
	put32(info, 4, type ? 167 : 852);
	put32(info, 8, type ? 945 : value(indexOf(h), "maxclock", 1500));
	return 0;
}
int amdsmi_get_gpu_fan_rpms(void *h, uint32_t sensor, int64_t *rpm)
{
	ENTER(h);
	*rpm = (int64_t)value(indexOf(h), "rpm", (uint64_t)-1);
	return sensor ? INVAL : *rpm == -1 ? NOT_SUPPORTED : 0; // passive
}
int amdsmi_get_gpu_fan_speed(void *h, uint32_t sensor, int64_t *speed)
{
	ENTER(h);
	*speed = (int64_t)value(indexOf(h), "fan", 0);
	return sensor ? INVAL : 0;
}
int amdsmi_get_gpu_fan_speed_max(void *h, uint32_t sensor, uint64_t *speed)
{
	ENTER(h);
	*speed = value(indexOf(h), "fanmax", 0);
	return sensor ? INVAL : *speed ? 0 : NOT_SUPPORTED;
}
int amdsmi_get_pcie_info(void *h, char *info)
{
	ENTER(h);
	if (version() < 2405)
		abort();
	if (value(indexOf(h), "chatty", 0)) {
		printf("Failed to open file: /sys/class/drm/card0/device/max_link_width \n");
		fflush(stdout);
	}
	BLANK(512, "pcie");
	put16(info, 0, 16);
	put32(info, 4, 16000);
	put16(info, 96, value(indexOf(h), "width", 16));
	put32(info, 100, value(indexOf(h), "speed", 8000));
	put64(info, 112, value(indexOf(h), "replays", 3));
	return 0;
}

int amdsmi_get_gpu_process_list(void *h, uint32_t *n, char *list)
{
	ENTER(h);
	int v = version(), dev = indexOf(h);
	int stride = v < 2405 ? 4 : v < 2500 ? 224 : 704;
	uint32_t all = (uint32_t)value(dev, "processes", 2), room = *n;
	stride += (int)value(-1, "longer.process", 0);
	if (value(dev, "growing", 0))
		all = room < 180 ? room + 20 : 200;
	for (uint32_t i = 0; i < all && i < room; i++) {
		char *p = list + (size_t)i * (size_t)stride;
		uint64_t pid = value(dev, "pid", 1000 * (uint64_t)(dev + 1) + i), bytes = (uint64_t)(i + 1) << 30;
		if (v < 2405) {
			put32(p, 0, pid);
			continue;
		}
		memset(p, 0, (size_t)stride);
		snprintf(p, 32, v < 2500 ? "python3" : "/usr/bin/python3");
		put32(p, v < 2500 ? 32 : 256, pid);
		put64(p, v < 2500 ? 40 : 264, bytes + 7);
		put64(p, v < 2500 ? 128 : 352, bytes);
	}
	if (v >= 2405 || all <= room)
		*n = all;
	return all > room ? OUT_OF_RESOURCES : 0;
}
int amdsmi_get_energy_count(void *h, uint64_t *counter, float *resolution, uint64_t *nanoseconds)
{
	ENTER(h);
	*counter = value(indexOf(h), "energy", 2000000);
	*resolution = 15.3f;
	*nanoseconds = 1;
	return 0;
}
int amdsmi_get_gpu_ecc_enabled(void *h, uint64_t *blocks)
{
	ENTER(h);
	*blocks = value(indexOf(h), "eccblocks", 1);
	return 0;
}
int amdsmi_get_gpu_total_ecc_count(void *h, char *info)
{
	ENTER(h);
	BLANK(version() < 2405 ? 32 : 64, "ecc");
	put64(info, 0, value(indexOf(h), "corrected", 5));
	put64(info, 8, value(indexOf(h), "uncorrected", 0));
	return 0;
}
