// A libnvidia-ml.so.1 for tests: eight H100s, changed by a scenario.
//
// FAKE_NVML_SCENARIO names a file of lines "key=value"; a change of it counts from the next call on, so a test changes it while
// the library is in use. Keys that a device knows may be prefixed by its index ("1.power=4294967295"). Values are decimal; "N/A"
// makes the getter of that value answer NOT_SUPPORTED.
//
//   devices=N            how many there are (8)
//   init=CODE            what nvmlInit returns; nvmlAnyFunction=CODE what that function returns, before it does anything
//   gone=1               the driver was unloaded: every call gives UNINITIALIZED until nvmlInit is called again
//   driver, nvml, cuda   versions ("535.104.05", "12.535.104.05", 12040)
//   lost=1               every call for the device gives GPU_IS_LOST
//   hang=1               every call for the device blocks, as long as the scenario says so
//   hangs=nvmlAnyFunction  that function blocks, as long as the scenario says so; aborts=nvmlAnyFunction ends the process
//   slow=MS              every call for the device takes so long
//   abort=1              the next call for the device ends the process
//   unsupported=1        every getter that a device may lack gives NOT_SUPPORTED
//   handle=CODE          what asking for the device's handle gives
//   part=N               the name and capability: 0 H100, 1 A100, 2 L4, 3 T4, 4 GB10, 5 a part of the future
//   name, uuid, bus, serial, vbios, major, minor, persistence
//   util, memutil, encoder, decoder, temperature, memtemp, power, limit, clock, memclock, reasons, pstate, cores, total, used, reserved
//   fan=PERCENT          of every fan, fan0=PERCENT of one; fans=N how many (1 when fan is given); fanrpm
//   generation, width, maxgeneration (of card and slot together), cardgeneration, maxwidth, replays, rx, tx (KB/s)
//   slowdown, shutdown, memmax, margin (°C; margin is N/A, as with drivers before 560)
//   minlimit, maxlimit, defaultlimit (mW), maxclock, maxmemclock, energy (mJ)
//   ecc, ecc_corrected_volatile, ecc_uncorrected_volatile, ecc_corrected_aggregate, ecc_uncorrected_aggregate
//   rows=C,U,P,F         remapped rows: correctable, uncorrectable, pending, failed
//   links=N (18)         NVLinks; link3=0 one that is down; linkversion, linkspeed (MB/s), peer
//   compute, graphics, mps  processes: "PID:BYTES,PID:BYTES:INSTANCE:COMPUTEINSTANCE"; BYTES may be N/A. Not enough room gives
//                        INSUFFICIENT_SIZE; says=N claims that there were N
//   drift=1              a driver whose third version of the process lists has longer elements: asking for them aborts
//   mig=1                the device is divided; instances=N (3); i0.sm, i0.memory, i0.used, i0.reserved, i0.gi, i0.ci, i0.uuid of each
//   xid=CODE             an event, delivered once to a set that the device was registered with; "79.2" is another of the same code
//   ecc_event=N          a double-bit ECC error, likewise
//
// It aborts when a caller does what would crash or corrupt the real one: shutting down under a call, using an event set that an
// earlier connection made, asking libcuda.
//
// Symbols that a driver lacks are taken out when it is linked: -Wl,--version-script with "{ local: nvmlDeviceGetFoo; };".
#define _GNU_SOURCE
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "nvml.h"

static const struct { const char *name; int major, minor, cores; } parts[] = {
	{"NVIDIA H100 80GB HBM3", 9, 0, 16896}, {"NVIDIA A100-SXM4-80GB", 8, 0, 6912}, {"NVIDIA L4", 8, 9, 7424},
	{"Tesla T4", 7, 5, 2560}, {"NVIDIA GB10", 12, 1, 6144}, {"NVIDIA F1", 99, 0, 7777},
};
static const int multiprocessors[] = {60, 32, 16};
static volatile int initialised, connection, inside;

// The scenario, as it was last read.
static struct line { int dev; char key[48], value[464]; } *lines;
static int lineCount;
static struct stat read_at;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void parse(FILE *f)
{
	char text[512];
	lineCount = 0;
	while (fgets(text, sizeof text, f)) {
		char *equals = strchr(text, '='), *key = text, *dot;
		struct line *l;
		if (!equals)
			continue;
		*equals = 0;
		equals[1 + strcspn(equals + 1, "\n")] = 0;
		lines = realloc(lines, (size_t)(lineCount + 1) * sizeof *lines);
		l = &lines[lineCount++];
		l->dev = (int)strtol(key, &dot, 10);
		if (dot > key && *dot == '.')
			key = dot + 1;
		else
			l->dev = -1;
		snprintf(l->key, sizeof l->key, "%.47s", key);
		snprintf(l->value, sizeof l->value, "%.463s", equals + 1);
	}
}

// seldom is how many milliseconds a scenario counts before it is looked at again (FAKE_NVML_SELDOM): measurements of what the
// caller costs set it, since the looking costs more than a driver's getter. 0 looks at every call.
static long seldom(void)
{
	const char *text = getenv("FAKE_NVML_SELDOM");
	return text ? atol(text) : 0;
}

// refresh reads the scenario again if it is another one.
static void refresh(void)
{
	static long looked;
	const char *path = getenv("FAKE_NVML_SCENARIO");
	struct timespec clock;
	struct stat now;
	FILE *f;
	if (seldom() > 0) {
		clock_gettime(CLOCK_MONOTONIC_COARSE, &clock);
		long ms = clock.tv_sec * 1000 + clock.tv_nsec / 1000000, last = __atomic_load_n(&looked, __ATOMIC_RELAXED);
		if (last && ms - last < seldom())
			return;
		__atomic_store_n(&looked, ms, __ATOMIC_RELAXED);
	}
	if (!path || stat(path, &now))
		return;
	pthread_mutex_lock(&lock);
	if ((now.st_ino != read_at.st_ino || now.st_mtim.tv_sec != read_at.st_mtim.tv_sec || now.st_mtim.tv_nsec != read_at.st_mtim.tv_nsec) &&
		(f = fopen(path, "re"))) {
		parse(f);
		fclose(f);
		read_at = now;
	}
	pthread_mutex_unlock(&lock);
}

// find copies what the scenario says of a device's key; a line for the device goes before one for all. 0 when it says nothing.
static int find(int dev, const char *key, char *to, size_t length)
{
	int found = 0;
	pthread_mutex_lock(&lock);
	for (int i = 0, exact = 0; i < lineCount; i++)
		if (!strcmp(lines[i].key, key) && (lines[i].dev == dev || (lines[i].dev == -1 && !exact))) {
			exact = lines[i].dev == dev && dev >= 0;
			snprintf(to, length, "%.*s", (int)length - 1, lines[i].value);
			found = 1;
		}
	pthread_mutex_unlock(&lock);
	return found;
}

static long long value(int dev, const char *key, long long otherwise)
{
	char text[464];
	return find(dev, key, text, sizeof text) ? (long long)strtoull(text, NULL, 10) : otherwise;
}
static void words(int dev, const char *key, const char *otherwise, char *to, unsigned int length)
{
	if (!find(dev, key, to, length))
		snprintf(to, length, "%s", otherwise);
}

// get gives a number that a device may lack.
static nvmlReturn_t get(int dev, const char *key, long long otherwise, long long *v)
{
	char text[464];
	*v = otherwise;
	if (!find(dev, key, text, sizeof text))
		return NVML_SUCCESS;
	*v = text[0] == '-' ? strtoll(text, NULL, 10) : (long long)strtoull(text, NULL, 10);
	return strcmp(text, "N/A") ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

// Handles: index + 1; of MIG instances 1000 + 10 * index + number + 1.
static nvmlDevice_t handleOf(int n) { nvmlDevice_t d; d.handle = (struct nvmlDevice_st *)(long)n; return d; }
static int number(nvmlDevice_t d) { return (int)(long)d.handle; }
static int isInstance(nvmlDevice_t d) { return number(d) >= 1000; }
static int indexOf(nvmlDevice_t d) { return isInstance(d) ? (number(d) - 1000) / 10 : number(d) - 1; }
static int instanceOf(nvmlDevice_t d) { return (number(d) - 1000) % 10 - 1; }
static int partOf(nvmlDevice_t d) { return (int)value(indexOf(d), "part", 0); }
static const char *instanceKey(nvmlDevice_t d, const char *name, char *key)
{
	snprintf(key, 48, "i%d.%s", instanceOf(d), name);
	return key;
}

// may is where a function hangs or aborts by its name.
static void may(int dev, const char *function)
{
	char name[64];
	while (find(dev, "hangs", name, sizeof name) && !strcmp(name, function)) {
		usleep(1000);
		refresh();
	}
	if (find(dev, "aborts", name, sizeof name) && !strcmp(name, function))
		abort();
}

static nvmlReturn_t whole(const char *function)
{
	refresh();
	may(-1, function);
	if (value(-1, "gone", 0))
		initialised = 0;
	if (!initialised)
		return NVML_ERROR_UNINITIALIZED;
	return (nvmlReturn_t)value(-1, function, NVML_SUCCESS);
}

// check is what every device function begins with. optional says that a device may lack it.
static nvmlReturn_t check(nvmlDevice_t d, const char *function, int optional)
{
	int dev = indexOf(d);
	nvmlReturn_t r = whole("");
	__sync_fetch_and_add(&inside, 1);
	while (value(dev, "hang", 0)) {
		usleep(1000);
		refresh();
	}
	may(dev, function);
	if (value(dev, "slow", 0))
		usleep((useconds_t)value(dev, "slow", 0) * 1000);
	__sync_fetch_and_sub(&inside, 1);
	if (value(dev, "abort", 0))
		abort();
	if (r != NVML_SUCCESS)
		return r;
	if (value(dev, "lost", 0))
		return NVML_ERROR_GPU_IS_LOST;
	if (optional && value(dev, "unsupported", 0))
		return NVML_ERROR_NOT_SUPPORTED;
	return (nvmlReturn_t)value(dev, function, NVML_SUCCESS);
}

#define CHECK(optional) do { nvmlReturn_t r = check(d, __func__, optional); if (r != NVML_SUCCESS) return r; } while (0)

static nvmlReturn_t start(const char *function)
{
	refresh();
	may(-1, function);
	nvmlReturn_t r = (nvmlReturn_t)value(-1, "init", NVML_SUCCESS);
	initialised = r == NVML_SUCCESS && !value(-1, "gone", 0);
	connection++;
	return r;
}
nvmlReturn_t nvmlInit(void) { return start(__func__); }
nvmlReturn_t nvmlInit_v2(void) { return start(__func__); }
nvmlReturn_t nvmlShutdown(void)
{
	refresh();
	may(-1, __func__);
	if (inside)
		abort();
	if (!initialised)
		return NVML_ERROR_UNINITIALIZED;
	initialised = 0;
	return NVML_SUCCESS;
}
const char *nvmlErrorString(nvmlReturn_t r) { (void)r; return "text of the fake"; }

static nvmlReturn_t version(const char *function, const char *key, const char *otherwise, char *to, unsigned int length)
{
	nvmlReturn_t r = whole(function);
	if (r == NVML_SUCCESS)
		words(-1, key, otherwise, to, length);
	return r;
}
nvmlReturn_t nvmlSystemGetDriverVersion(char *v, unsigned int n) { return version(__func__, "driver", "535.104.05", v, n); }
nvmlReturn_t nvmlSystemGetNVMLVersion(char *v, unsigned int n) { return version(__func__, "nvml", "12.535.104.05", v, n); }
nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *v)
{
	nvmlReturn_t r = whole(__func__);
	*v = (int)value(-1, "cuda", 12040);
	return r;
}
nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *v) { (void)v; abort(); } // a caller that asks libcuda has failed its test

static nvmlReturn_t count(const char *function, unsigned int *n)
{
	nvmlReturn_t r = whole(function);
	*n = (unsigned int)value(-1, "devices", 8);
	return r;
}
nvmlReturn_t nvmlDeviceGetCount(unsigned int *n) { return count(__func__, n); }
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *n) { return count(__func__, n); }

static nvmlReturn_t byIndex(unsigned int i, nvmlDevice_t *d)
{
	nvmlReturn_t r = whole("");
	*d = handleOf((int)i + 1);
	return r != NVML_SUCCESS ? r : (nvmlReturn_t)value((int)i, "handle", NVML_SUCCESS);
}
nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int i, nvmlDevice_t *d) { return byIndex(i, d); }
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int i, nvmlDevice_t *d) { return byIndex(i, d); }

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t d, char *v, unsigned int n)
{
	char own[96], key[48];
	CHECK(0);
	if (isInstance(d)) {
		snprintf(own, sizeof own, "MIG-00000000-0000-0000-%04d-%012d", instanceOf(d), indexOf(d));
		words(indexOf(d), instanceKey(d, "uuid", key), own, v, n);
	} else {
		snprintf(own, sizeof own, "GPU-00000000-0000-0000-0000-%012d", indexOf(d));
		words(indexOf(d), "uuid", own, v, n);
	}
	return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t d, char *v, unsigned int n)
{
	char name[80];
	CHECK(0);
	words(indexOf(d), "name", parts[partOf(d)].name, name, sizeof name);
	snprintf(v, n, isInstance(d) ? "%s MIG" : "%s", name);
	return NVML_SUCCESS;
}

// TEXT defines a getter of a text that a device may lack.
#define TEXT(function, key, otherwise) \
	nvmlReturn_t function(nvmlDevice_t d, char *v, unsigned int n) \
	{ \
		CHECK(1); \
		words(indexOf(d), key, otherwise, v, n); \
		return strcmp(v, "N/A") ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED; \
	}
TEXT(nvmlDeviceGetSerial, "serial", "1650522003820")
TEXT(nvmlDeviceGetVbiosVersion, "vbios", "96.00.61.00.01")

static void busIds(const char *text, nvmlPciInfo_t *v)
{
	memset(v, 0, sizeof *v);
	snprintf(v->busId, sizeof v->busId, "%.31s", text);
	snprintf(v->busIdLegacy, sizeof v->busIdLegacy, "%.15s", strlen(text) > 12 ? text + strlen(text) - 12 : text);
}
static nvmlReturn_t pci(nvmlDevice_t d, const char *function, nvmlPciInfo_t *v)
{
	nvmlReturn_t r = check(d, function, 0);
	char own[32], text[32];
	if (r != NVML_SUCCESS)
		return r;
	snprintf(own, sizeof own, "00000000:%02X:00.0", 0x1A + indexOf(d));
	words(indexOf(d), "bus", own, text, sizeof text);
	busIds(text, v);
	return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t d, nvmlPciInfo_t *v) { return pci(d, __func__, v); }
nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t d, nvmlPciInfo_t *v) { return pci(d, __func__, v); }
nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t d, nvmlPciInfo_t *v) { return pci(d, __func__, v); }
nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t d, int *major, int *minor)
{
	CHECK(0);
	*major = (int)value(indexOf(d), "major", parts[partOf(d)].major);
	*minor = (int)value(indexOf(d), "minor", parts[partOf(d)].minor);
	return NVML_SUCCESS;
}

// NUMBER defines a getter of one number that a device may lack.
#define NUMBER(function, type, key, otherwise) \
	nvmlReturn_t function(nvmlDevice_t d, type *v) \
	{ \
		long long n; \
		CHECK(1); \
		nvmlReturn_t r = get(indexOf(d), key, otherwise, &n); \
		*v = (type)n; \
		return r; \
	}
NUMBER(nvmlDeviceGetNumGpuCores, unsigned int, "cores", parts[partOf(d)].cores)
NUMBER(nvmlDeviceGetPowerUsage, unsigned int, "power", 70000 + 1000 * indexOf(d))
NUMBER(nvmlDeviceGetEnforcedPowerLimit, unsigned int, "limit", 700000)
NUMBER(nvmlDeviceGetPowerManagementLimit, unsigned int, "limit", 650000)
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, unsigned int, "defaultlimit", 700000)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, unsigned int, "generation", 5)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, unsigned int, "width", 16)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, unsigned int, "maxgeneration", 5)
NUMBER(nvmlDeviceGetGpuMaxPcieLinkGeneration, unsigned int, "cardgeneration", 5)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, unsigned int, "maxwidth", 16)
NUMBER(nvmlDeviceGetPcieReplayCounter, unsigned int, "replays", 0)
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, "reasons", 1)
NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, "reasons", 1)
NUMBER(nvmlDeviceGetPerformanceState, nvmlPstates_t, "pstate", 0)
NUMBER(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, "energy", 123456789)
NUMBER(nvmlDeviceGetPersistenceMode, nvmlEnableState_t, "persistence", 1)

// PAIR defines a getter of a number and the time over which it was sampled.
#define PAIR(function, key) \
	nvmlReturn_t function(nvmlDevice_t d, unsigned int *v, unsigned int *microseconds) \
	{ \
		long long n; \
		CHECK(1); \
		nvmlReturn_t r = get(indexOf(d), key, 0, &n); \
		*v = (unsigned int)n; \
		*microseconds = 167000; \
		return value(indexOf(d), "mig", 0) ? NVML_ERROR_NOT_SUPPORTED : r; \
	}
PAIR(nvmlDeviceGetEncoderUtilization, "encoder")
PAIR(nvmlDeviceGetDecoderUtilization, "decoder")

nvmlReturn_t nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t d, unsigned int *low, unsigned int *high)
{
	long long n;
	CHECK(1);
	nvmlReturn_t r = get(indexOf(d), "minlimit", 200000, &n);
	*low = (unsigned int)n;
	if (r == NVML_SUCCESS)
		r = get(indexOf(d), "maxlimit", 700000, &n);
	*high = (unsigned int)n;
	return r;
}

static nvmlReturn_t fan(nvmlDevice_t d, unsigned int i, unsigned int *v)
{
	char key[16];
	long long n;
	nvmlReturn_t r = get(indexOf(d), "fan", -1, &n);
	snprintf(key, sizeof key, "fan%u", i);
	n = value(indexOf(d), key, n);
	*v = (unsigned int)n;
	return n < 0 ? NVML_ERROR_NOT_SUPPORTED : r; // passive
}
nvmlReturn_t nvmlDeviceGetFanSpeed(nvmlDevice_t d, unsigned int *v) { CHECK(1); return fan(d, 0, v); }
nvmlReturn_t nvmlDeviceGetFanSpeed_v2(nvmlDevice_t d, unsigned int i, unsigned int *v)
{
	CHECK(1);
	if (i >= (unsigned int)value(indexOf(d), "fans", 1))
		return NVML_ERROR_INVALID_ARGUMENT;
	return fan(d, i, v);
}
nvmlReturn_t nvmlDeviceGetNumFans(nvmlDevice_t d, unsigned int *n)
{
	unsigned int v;
	CHECK(1);
	nvmlReturn_t r = fan(d, 0, &v);
	*n = (unsigned int)value(indexOf(d), "fans", 1);
	return r;
}
nvmlReturn_t nvmlDeviceGetFanSpeedRPM(nvmlDevice_t d, nvmlFanSpeedInfo_t *v)
{
	long long n;
	CHECK(1);
	if (v->version != nvmlFanSpeedInfo_v1)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	nvmlReturn_t r = get(indexOf(d), "fanrpm", -1, &n);
	v->speed = (unsigned int)n;
	return n < 0 ? NVML_ERROR_NOT_SUPPORTED : r;
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t d, nvmlTemperatureSensors_t sensor, unsigned int *v)
{
	long long n;
	CHECK(1);
	nvmlReturn_t r = get(indexOf(d), "temperature", 40 + indexOf(d), &n);
	*v = (unsigned int)n;
	return sensor == NVML_TEMPERATURE_GPU ? r : NVML_ERROR_INVALID_ARGUMENT;
}
nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t d, nvmlTemperatureThresholds_t which, unsigned int *v)
{
	static const struct { const char *key; int otherwise; } thresholds[] = {{"shutdown", 92}, {"slowdown", 89}, {"memmax", 95}};
	long long n;
	CHECK(1);
	if (which > NVML_TEMPERATURE_THRESHOLD_MEM_MAX)
		return NVML_ERROR_NOT_SUPPORTED;
	nvmlReturn_t r = get(indexOf(d), thresholds[which].key, thresholds[which].otherwise, &n);
	*v = (unsigned int)n;
	return r;
}
nvmlReturn_t nvmlDeviceGetMarginTemperature(nvmlDevice_t d, nvmlMarginTemperature_t *v)
{
	long long n;
	CHECK(1);
	if (v->version != nvmlMarginTemperature_v1)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	nvmlReturn_t r = get(indexOf(d), "margin", -1000, &n);
	v->marginTemperature = (int)n;
	return n == -1000 ? NVML_ERROR_NOT_SUPPORTED : r;
}
static nvmlReturn_t one(nvmlDevice_t d, const char *key, long long otherwise, unsigned int *v)
{
	long long n;
	nvmlReturn_t r = get(indexOf(d), key, otherwise, &n);
	*v = (unsigned int)n;
	return r;
}
nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t d, nvmlClockType_t type, unsigned int *v)
{
	CHECK(1);
	return type == NVML_CLOCK_MEM ? one(d, "memclock", 2619, v) : one(d, "clock", 1980, v);
}
nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t d, nvmlClockType_t type, unsigned int *v)
{
	CHECK(1);
	return type == NVML_CLOCK_MEM ? one(d, "maxmemclock", 2619, v) : one(d, "maxclock", 1980, v);
}
nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t d, nvmlUtilization_t *v)
{
	long long n;
	CHECK(1);
	if (value(indexOf(d), "mig", 0))
		return NVML_ERROR_NOT_SUPPORTED;
	nvmlReturn_t r = get(indexOf(d), "util", 10 * indexOf(d), &n);
	v->gpu = (unsigned int)n;
	v->memory = (unsigned int)value(indexOf(d), "memutil", 5 * indexOf(d));
	return r;
}
nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t d, nvmlPcieUtilCounter_t counter, unsigned int *v)
{
	CHECK(1);
	return counter == NVML_PCIE_UTIL_RX_BYTES ? one(d, "rx", 19191, v) : one(d, "tx", 9139, v);
}

// Fields of nvmlDeviceGetFieldValues, each with its own answer.
static nvmlReturn_t field(nvmlDevice_t d, nvmlFieldValue_t *v)
{
	long long n;
	nvmlReturn_t r;
	switch (v->fieldId) {
	case NVML_FI_DEV_MEMORY_TEMP:
		r = get(indexOf(d), "memtemp", 45 + indexOf(d), &n);
		v->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
		v->value.uiVal = (unsigned int)n;
		return r;
	case NVML_FI_DEV_NVLINK_GET_SPEED:
		r = get(indexOf(d), "linkspeed", 26562, &n);
		v->valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
		v->value.uiVal = (unsigned int)n;
		return r;
	default: return NVML_ERROR_INVALID_ARGUMENT;
	}
}
nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t d, int n, nvmlFieldValue_t *v)
{
	CHECK(1);
	for (int i = 0; i < n; i++)
		v[i].nvmlReturn = field(d, &v[i]);
	return NVML_SUCCESS;
}

static unsigned long long total(nvmlDevice_t d)
{
	char key[48];
	if (isInstance(d))
		return (unsigned long long)value(indexOf(d), instanceKey(d, "memory", key), 42760404992LL);
	return (unsigned long long)value(indexOf(d), "total", 85520809984LL);
}
static unsigned long long used(nvmlDevice_t d)
{
	char key[48];
	if (isInstance(d))
		return (unsigned long long)value(indexOf(d), instanceKey(d, "used", key), 17LL << 20);
	return (unsigned long long)value(indexOf(d), "used", (indexOf(d) + 1LL) << 30);
}
static unsigned long long reserved(nvmlDevice_t d)
{
	char key[48];
	if (isInstance(d))
		return (unsigned long long)value(indexOf(d), instanceKey(d, "reserved", key), 0);
	return (unsigned long long)value(indexOf(d), "reserved", 614LL << 20);
}
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t d, nvmlMemory_t *v)
{
	CHECK(1);
	v->total = total(d);
	v->used = used(d) + reserved(d); // the first version counts both as used
	v->free = v->total - v->used;
	return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t d, nvmlMemory_v2_t *v)
{
	CHECK(1);
	if (v->version != nvmlMemory_v2)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	v->total = total(d);
	v->used = used(d);
	v->reserved = reserved(d);
	v->free = v->total - v->used - v->reserved;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t d, nvmlEnableState_t *current, nvmlEnableState_t *pending)
{
	long long n;
	CHECK(1);
	nvmlReturn_t r = get(indexOf(d), "ecc", 1, &n);
	*current = *pending = (nvmlEnableState_t)n;
	return r;
}
nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t d, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter, unsigned long long *v)
{
	char key[48];
	long long n;
	CHECK(1);
	snprintf(key, sizeof key, "ecc_%s_%s", type == NVML_MEMORY_ERROR_TYPE_CORRECTED ? "corrected" : "uncorrected",
		counter == NVML_VOLATILE_ECC ? "volatile" : "aggregate");
	nvmlReturn_t r = get(indexOf(d), key, 0, &n);
	*v = (unsigned long long)n;
	return r;
}
nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t d, unsigned int *corrected, unsigned int *uncorrected, unsigned int *pending, unsigned int *failed)
{
	char text[64];
	CHECK(1);
	words(indexOf(d), "rows", "0,0,0,0", text, sizeof text);
	return sscanf(text, "%u,%u,%u,%u", corrected, uncorrected, pending, failed) == 4 ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

// link says whether the device has it. In MIG mode NVLink can't be asked for.
static nvmlReturn_t link_(nvmlDevice_t d, const char *function, unsigned int link)
{
	nvmlReturn_t r = check(d, function, 1);
	if (r == NVML_SUCCESS && value(indexOf(d), "mig", 0))
		r = NVML_ERROR_NOT_SUPPORTED;
	if (r == NVML_SUCCESS && link >= (unsigned int)value(indexOf(d), "links", 18))
		r = value(indexOf(d), "links", 18) ? NVML_ERROR_INVALID_ARGUMENT : NVML_ERROR_NOT_SUPPORTED;
	return r;
}
nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t d, unsigned int link, nvmlEnableState_t *v)
{
	char key[16];
	nvmlReturn_t r = link_(d, __func__, link);
	snprintf(key, sizeof key, "link%u", link);
	*v = (nvmlEnableState_t)value(indexOf(d), key, 1);
	return r;
}
nvmlReturn_t nvmlDeviceGetNvLinkVersion(nvmlDevice_t d, unsigned int link, unsigned int *v)
{
	nvmlReturn_t r = link_(d, __func__, link);
	*v = (unsigned int)value(indexOf(d), "linkversion", NVML_NVLINK_VERSION_4_0);
	return r;
}
static nvmlReturn_t peer(nvmlDevice_t d, const char *function, unsigned int link, nvmlPciInfo_t *v)
{
	char own[32], text[32];
	nvmlReturn_t r = link_(d, function, link);
	snprintf(own, sizeof own, "00000000:%02X:00.0", 0xC0 + link % 4);
	words(indexOf(d), "peer", own, text, sizeof text);
	busIds(text, v);
	return r;
}
nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo(nvmlDevice_t d, unsigned int link, nvmlPciInfo_t *v) { return peer(d, __func__, link, v); }
nvmlReturn_t nvmlDeviceGetNvLinkRemotePciInfo_v2(nvmlDevice_t d, unsigned int link, nvmlPciInfo_t *v) { return peer(d, __func__, link, v); }

// process reads the i-th of a list; 0 at its end.
static int process(nvmlDevice_t d, const char *key, unsigned int i, nvmlProcessInfo_v2_t *v)
{
	char text[464], *rest = text, *one = NULL;
	words(indexOf(d), key, "", text, sizeof text);
	for (unsigned int k = 0; k <= i; k++)
		if (!(one = strsep(&rest, ",")) || !*one)
			return 0;
	v->pid = (unsigned int)strtoul(one, &one, 10);
	v->gpuInstanceId = v->computeInstanceId = 0xFFFFFFFF;
	if (!strncmp(one, ":N/A", 4)) {
		v->usedGpuMemory = (unsigned long long)NVML_VALUE_NOT_AVAILABLE;
		one += 4;
	} else {
		v->usedGpuMemory = strtoull(*one ? one + 1 : one, &one, 10);
	}
	if (*one == ':')
		v->gpuInstanceId = (unsigned int)strtoul(one + 1, &one, 10);
	if (*one == ':')
		v->computeInstanceId = (unsigned int)strtoul(one + 1, &one, 10);
	return 1;
}
static nvmlReturn_t processes(nvmlDevice_t d, const char *function, const char *key, unsigned int *n, nvmlProcessInfo_v2_t *v2, nvmlProcessInfo_v1_t *v1)
{
	nvmlReturn_t r = check(d, function, 1);
	nvmlProcessInfo_v2_t one;
	unsigned int i = 0;
	if (r != NVML_SUCCESS)
		return r;
	for (; process(d, key, i, &one); i++) {
		if (i < *n && v2)
			v2[i] = one;
		else if (i < *n)
			v1[i] = (nvmlProcessInfo_v1_t){one.pid, one.usedGpuMemory};
	}
	r = i > *n ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
	*n = (unsigned int)value(indexOf(d), "says", i);
	return r;
}
static nvmlReturn_t drifted(nvmlDevice_t d, const char *function, const char *key, unsigned int *n, nvmlProcessInfo_v2_t *v)
{
	if (value(-1, "drift", 0))
		abort();
	return processes(d, function, key, n, v, NULL);
}
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t d, unsigned int *n, nvmlProcessInfo_v1_t *v) { return processes(d, __func__, "compute", n, NULL, v); }
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t d, unsigned int *n, nvmlProcessInfo_v2_t *v) { return processes(d, __func__, "compute", n, v, NULL); }
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t d, unsigned int *n, nvmlProcessInfo_t *v) { return drifted(d, __func__, "compute", n, v); }
nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses(nvmlDevice_t d, unsigned int *n, nvmlProcessInfo_v1_t *v) { return processes(d, __func__, "graphics", n, NULL, v); }
nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v2(nvmlDevice_t d, unsigned int *n, nvmlProcessInfo_v2_t *v) { return processes(d, __func__, "graphics", n, v, NULL); }
nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t d, unsigned int *n, nvmlProcessInfo_t *v) { return drifted(d, __func__, "graphics", n, v); }
nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses(nvmlDevice_t d, unsigned int *n, nvmlProcessInfo_v1_t *v) { return processes(d, __func__, "mps", n, NULL, v); }
nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v2(nvmlDevice_t d, unsigned int *n, nvmlProcessInfo_v2_t *v) { return processes(d, __func__, "mps", n, v, NULL); }
nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses_v3(nvmlDevice_t d, unsigned int *n, nvmlProcessInfo_t *v) { return drifted(d, __func__, "mps", n, v); }
// Never called; their presence tells drivers apart.
nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t d, nvmlProcessDetailList_t *v) { (void)d; (void)v; abort(); }
nvmlReturn_t nvmlDeviceGetConfComputeMemSizeInfo(nvmlDevice_t d, nvmlConfComputeMemSizeInfo_t *v) { (void)d; (void)v; abort(); }

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t d, unsigned int *current, unsigned int *pending)
{
	long long n;
	CHECK(1);
	nvmlReturn_t r = get(indexOf(d), "mig", 0, &n);
	*current = *pending = (unsigned int)n;
	return r;
}
nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t d, unsigned int *n) { CHECK(1); *n = 7; return NVML_SUCCESS; }
nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t d, unsigned int i, nvmlDevice_t *v)
{
	CHECK(1);
	if (i >= (unsigned int)value(indexOf(d), "instances", 3))
		return NVML_ERROR_NOT_FOUND;
	*v = handleOf(1000 + 10 * indexOf(d) + (int)i + 1);
	return NVML_SUCCESS;
}
static nvmlReturn_t attributes(nvmlDevice_t d, const char *function, nvmlDeviceAttributes_t *v)
{
	nvmlReturn_t r = check(d, function, 1);
	char key[48];
	if (r != NVML_SUCCESS)
		return r;
	if (!isInstance(d))
		return NVML_ERROR_NOT_SUPPORTED;
	memset(v, 0, sizeof *v);
	v->multiprocessorCount = (unsigned int)value(indexOf(d), instanceKey(d, "sm", key), multiprocessors[instanceOf(d) % 3]);
	v->memorySizeMB = total(d) >> 20;
	return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t d, nvmlDeviceAttributes_t *v) { return attributes(d, __func__, v); }
nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t d, nvmlDeviceAttributes_t *v) { return attributes(d, __func__, v); }
static nvmlReturn_t instanceId(nvmlDevice_t d, const char *function, const char *name, long long otherwise, unsigned int *v)
{
	nvmlReturn_t r = check(d, function, 1);
	char key[48];
	*v = (unsigned int)value(indexOf(d), instanceKey(d, name, key), otherwise);
	return r != NVML_SUCCESS || isInstance(d) ? r : NVML_ERROR_NOT_SUPPORTED;
}
nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t d, unsigned int *v) { return instanceId(d, __func__, "gi", instanceOf(d) + 2, v); }
nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t d, unsigned int *v) { return instanceId(d, __func__, "ci", 0, v); }

// Events.
#define MOST 64
struct nvmlEventSet_st { int connection; unsigned long long types[MOST]; };
static char delivered[2][MOST][32]; // by kind and device, what the scenario said of the last event

static struct nvmlEventSet_st *set(nvmlEventSet_t s)
{
	if (!s.handle || s.handle->connection != connection)
		abort();
	return s.handle;
}
nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *s)
{
	nvmlReturn_t r = whole(__func__);
	if (r != NVML_SUCCESS)
		return r;
	s->handle = calloc(1, sizeof *s->handle);
	s->handle->connection = connection;
	return NVML_SUCCESS;
}
nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t s)
{
	struct nvmlEventSet_st *own = set(s);
	own->connection = -1; // and leaked, so that a later use is seen
	return whole(__func__);
}
nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t d, unsigned long long *v)
{
	long long n;
	CHECK(1);
	nvmlReturn_t r = get(indexOf(d), "events", nvmlEventTypeXidCriticalError | nvmlEventTypeDoubleBitEccError, &n);
	*v = (unsigned long long)n;
	return r;
}
nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t d, unsigned long long types, nvmlEventSet_t s)
{
	CHECK(1);
	if (types & ~(unsigned long long)value(indexOf(d), "events", nvmlEventTypeXidCriticalError | nvmlEventTypeDoubleBitEccError))
		return NVML_ERROR_NOT_SUPPORTED;
	set(s)->types[indexOf(d)] |= types;
	return NVML_SUCCESS;
}

static int event(struct nvmlEventSet_st *s, int dev, int kind, unsigned long long type, nvmlEventData_t *v)
{
	char text[32];
	if (!(s->types[dev] & type))
		return 0;
	words(dev, kind ? "ecc_event" : "xid", "", text, sizeof text);
	if (!*text || !strcmp(text, delivered[kind][dev]))
		return 0;
	strcpy(delivered[kind][dev], text);
	v->device = handleOf(dev + 1);
	v->eventType = type;
	v->eventData = kind ? 0 : strtoull(text, NULL, 10);
	v->gpuInstanceId = v->computeInstanceId = 0xFFFFFFFF;
	return 1;
}
static nvmlReturn_t await(const char *function, nvmlEventSet_t s, nvmlEventData_t *v, unsigned int milliseconds)
{
	struct timespec now, end;
	nvmlReturn_t r = NVML_ERROR_TIMEOUT;
	struct nvmlEventSet_st *own = set(s);
	clock_gettime(CLOCK_MONOTONIC, &end);
	__sync_fetch_and_add(&inside, 1);
	while (r == NVML_ERROR_TIMEOUT) {
		nvmlReturn_t failed = whole(function);
		if (failed != NVML_SUCCESS) {
			r = failed;
			break;
		}
		for (int dev = 0; dev < (int)value(-1, "devices", 8) && dev < MOST && r == NVML_ERROR_TIMEOUT; dev++)
			if (event(own, dev, 0, nvmlEventTypeXidCriticalError, v) || event(own, dev, 1, nvmlEventTypeDoubleBitEccError, v))
				r = NVML_SUCCESS;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if ((now.tv_sec - end.tv_sec) * 1000 + (now.tv_nsec - end.tv_nsec) / 1000000 >= (long)milliseconds)
			break;
		if (r == NVML_ERROR_TIMEOUT)
			usleep(seldom() > 0 ? milliseconds * 1000 : 100000);
	}
	__sync_fetch_and_sub(&inside, 1);
	return r;
}
nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t s, nvmlEventData_t *v, unsigned int ms) { return await(__func__, s, v, ms); }
nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t s, nvmlEventData_t *v, unsigned int ms) { return await(__func__, s, v, ms); }
