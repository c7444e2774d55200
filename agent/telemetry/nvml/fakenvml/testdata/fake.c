// A libnvidia-ml.so.1 for tests: eight H100s, changed by a scenario.
//
// FAKE_NVML_SCENARIO names a file of lines "key=value"; it is read again at every call, so a test changes it while the library
// is in use. Keys that a device knows may be prefixed by its index ("1.power=4294967295"). Values are decimal.
//
//   devices=N            how many there are (8)
//   init=CODE            what nvmlInit returns; nvmlAnyFunction=CODE what that function returns, before it does anything
//   gone=1               the driver was unloaded: every call gives UNINITIALIZED until nvmlInit is called again
//   lost=1               every call for the device gives GPU_IS_LOST
//   hang=1               every call for the device blocks, as long as the scenario says so
//   unsupported=1        every getter that a device may lack gives NOT_SUPPORTED
//   mig=1                the device is divided into instances of 60, 32 and 16 multiprocessors
//   handle=CODE          what asking for the device's handle gives
//   part=N               the name and capability: 0 H100, 1 A100, 2 L4, 3 T4, 4 GB10, 5 a part of the future
//   util, memutil, temperature, power, limit, clock, memclock, fan, generation, width, reasons, cores, total, used, reserved
//
// Symbols that a driver lacks are taken out when it is linked: -Wl,--version-script with "{ local: nvmlDeviceGetFoo; };".
#define _GNU_SOURCE
#define NVML_NO_UNVERSIONED_FUNC_DEFS
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "nvml.h"

static const struct { const char *name; int major, minor, cores; } parts[] = {
	{"NVIDIA H100 80GB HBM3", 9, 0, 16896}, {"NVIDIA A100-SXM4-80GB", 8, 0, 6912}, {"NVIDIA L4", 8, 9, 7424},
	{"Tesla T4", 7, 5, 2560}, {"NVIDIA GB10", 12, 1, 6144}, {"NVIDIA F1", 99, 0, 7777},
};
static const int instances[] = {60, 32, 16};
static volatile int initialised;

// value looks "dev.key" up, then "key"; dev -1 has no prefix.
static long long value(int dev, const char *key, long long otherwise)
{
	const char *path = getenv("FAKE_NVML_SCENARIO");
	FILE *f = path ? fopen(path, "re") : NULL;
	char line[256], own[128];
	int exact = 0;
	if (!f)
		return otherwise;
	snprintf(own, sizeof own, "%d.%s", dev, key);
	while (fgets(line, sizeof line, f)) {
		char *equals = strchr(line, '=');
		if (!equals)
			continue;
		*equals = 0;
		if (!strcmp(line, own)) {
			otherwise = (long long)strtoull(equals + 1, NULL, 10);
			exact = 1;
		} else if (!exact && !strcmp(line, key)) {
			otherwise = (long long)strtoull(equals + 1, NULL, 10);
		}
	}
	fclose(f);
	return otherwise;
}

// Handles: index + 1; of MIG instances 1000 + 10 * index + number + 1.
static nvmlDevice_t handleOf(int n) { nvmlDevice_t d; d.handle = (struct nvmlDevice_st *)(long)n; return d; }
static int number(nvmlDevice_t d) { return (int)(long)d.handle; }
static int isInstance(nvmlDevice_t d) { return number(d) >= 1000; }
static int indexOf(nvmlDevice_t d) { return isInstance(d) ? (number(d) - 1000) / 10 : number(d) - 1; }
static int instanceOf(nvmlDevice_t d) { return (number(d) - 1000) % 10 - 1; }
static int partOf(nvmlDevice_t d) { return (int)value(indexOf(d), "part", 0); }

static nvmlReturn_t whole(const char *function)
{
	if (value(-1, "gone", 0))
		initialised = 0;
	if (!initialised)
		return NVML_ERROR_UNINITIALIZED;
	return (nvmlReturn_t)value(-1, function, NVML_SUCCESS);
}

// check is what every device function begins with. may says that a device may lack it.
static nvmlReturn_t check(nvmlDevice_t d, const char *function, int may)
{
	int dev = indexOf(d);
	nvmlReturn_t r = whole("");
	while (value(dev, "hang", 0))
		usleep(1000);
	if (r != NVML_SUCCESS)
		return r;
	if (value(dev, "lost", 0))
		return NVML_ERROR_GPU_IS_LOST;
	if (may && value(dev, "unsupported", 0))
		return NVML_ERROR_NOT_SUPPORTED;
	return (nvmlReturn_t)value(dev, function, NVML_SUCCESS);
}

#define CHECK(may) do { nvmlReturn_t r = check(d, __func__, may); if (r != NVML_SUCCESS) return r; } while (0)

static nvmlReturn_t start(void)
{
	nvmlReturn_t r = (nvmlReturn_t)value(-1, "init", NVML_SUCCESS);
	initialised = r == NVML_SUCCESS && !value(-1, "gone", 0);
	return r;
}
nvmlReturn_t nvmlInit(void) { return start(); }
nvmlReturn_t nvmlInit_v2(void) { return start(); }
nvmlReturn_t nvmlShutdown(void)
{
	if (!initialised)
		return NVML_ERROR_UNINITIALIZED;
	initialised = 0;
	return NVML_SUCCESS;
}
const char *nvmlErrorString(nvmlReturn_t r) { (void)r; return "text of the fake"; }

static nvmlReturn_t text(const char *function, const char *from, char *to, unsigned int length)
{
	nvmlReturn_t r = whole(function);
	if (r == NVML_SUCCESS)
		snprintf(to, length, "%s", from);
	return r;
}
nvmlReturn_t nvmlSystemGetDriverVersion(char *v, unsigned int n) { return text(__func__, "535.104.05", v, n); }
nvmlReturn_t nvmlSystemGetNVMLVersion(char *v, unsigned int n) { return text(__func__, "12.535.104.05", v, n); }
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
	CHECK(0);
	if (isInstance(d))
		snprintf(v, n, "MIG-00000000-0000-0000-%04d-%012d", instanceOf(d), indexOf(d));
	else
		snprintf(v, n, "GPU-00000000-0000-0000-0000-%012d", indexOf(d));
	return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t d, char *v, unsigned int n)
{
	CHECK(0);
	snprintf(v, n, isInstance(d) ? "%s MIG" : "%s", parts[partOf(d)].name);
	return NVML_SUCCESS;
}
static nvmlReturn_t pci(nvmlDevice_t d, const char *function, nvmlPciInfo_t *v)
{
	nvmlReturn_t r = check(d, function, 0);
	if (r != NVML_SUCCESS)
		return r;
	memset(v, 0, sizeof *v);
	snprintf(v->busIdLegacy, sizeof v->busIdLegacy, "0000:%02X:00.0", 0x1A + indexOf(d));
	snprintf(v->busId, sizeof v->busId, "00000000:%02X:00.0", 0x1A + indexOf(d));
	return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t d, nvmlPciInfo_t *v) { return pci(d, __func__, v); }
nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t d, nvmlPciInfo_t *v) { return pci(d, __func__, v); }
nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t d, nvmlPciInfo_t *v) { return pci(d, __func__, v); }
nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t d, int *major, int *minor)
{
	CHECK(0);
	*major = parts[partOf(d)].major;
	*minor = parts[partOf(d)].minor;
	return NVML_SUCCESS;
}

// NUMBER defines a getter of one number.
#define NUMBER(function, type, key, otherwise) \
	nvmlReturn_t function(nvmlDevice_t d, type *v) { CHECK(1); *v = (type)value(indexOf(d), key, otherwise); return NVML_SUCCESS; }
NUMBER(nvmlDeviceGetNumGpuCores, unsigned int, "cores", parts[partOf(d)].cores)
NUMBER(nvmlDeviceGetPowerUsage, unsigned int, "power", 70000 + 1000 * indexOf(d))
NUMBER(nvmlDeviceGetEnforcedPowerLimit, unsigned int, "limit", 700000)
NUMBER(nvmlDeviceGetPowerManagementLimit, unsigned int, "limit", 650000)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, unsigned int, "generation", 5)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, unsigned int, "width", 16)
NUMBER(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, "reasons", 1)
NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, "reasons", 1)
nvmlReturn_t nvmlDeviceGetFanSpeed(nvmlDevice_t d, unsigned int *v)
{
	CHECK(1);
	*v = (unsigned int)value(indexOf(d), "fan", 0);
	return value(indexOf(d), "fan", -1) < 0 ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS; // passive
}
nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t d, nvmlTemperatureSensors_t sensor, unsigned int *v)
{
	CHECK(1);
	*v = (unsigned int)value(indexOf(d), "temperature", 40 + indexOf(d));
	return sensor == NVML_TEMPERATURE_GPU ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}
nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t d, nvmlClockType_t type, unsigned int *v)
{
	CHECK(1);
	*v = (unsigned int)(type == NVML_CLOCK_MEM ? value(indexOf(d), "memclock", 2619) : value(indexOf(d), "clock", 1980));
	return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t d, nvmlUtilization_t *v)
{
	CHECK(1);
	if (value(indexOf(d), "mig", 0))
		return NVML_ERROR_NOT_SUPPORTED;
	v->gpu = (unsigned int)value(indexOf(d), "util", 10 * indexOf(d));
	v->memory = (unsigned int)value(indexOf(d), "memutil", 5 * indexOf(d));
	return NVML_SUCCESS;
}

static unsigned long long total(nvmlDevice_t d) { return (unsigned long long)value(indexOf(d), "total", 85520809984LL); }
static unsigned long long used(nvmlDevice_t d) { return (unsigned long long)value(indexOf(d), "used", (indexOf(d) + 1LL) << 30); }
static unsigned long long reserved(nvmlDevice_t d) { return (unsigned long long)value(indexOf(d), "reserved", 614LL << 20); }
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t d, nvmlMemory_t *v)
{
	CHECK(1);
	v->total = isInstance(d) ? total(d) / 2 : total(d);
	v->used = used(d) + reserved(d); // the first version counts both as used
	v->free = v->total - v->used;
	return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t d, nvmlMemory_v2_t *v)
{
	CHECK(1);
	if (v->version != nvmlMemory_v2)
		return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
	v->total = isInstance(d) ? total(d) / 2 : total(d);
	v->used = used(d);
	v->reserved = reserved(d);
	v->free = v->total - v->used - v->reserved;
	return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t d, unsigned int *current, unsigned int *pending)
{
	CHECK(1);
	*current = *pending = (unsigned int)value(indexOf(d), "mig", 0);
	return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t d, unsigned int *n) { CHECK(1); *n = 7; return NVML_SUCCESS; }
nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t d, unsigned int i, nvmlDevice_t *v)
{
	CHECK(1);
	if (i >= sizeof instances / sizeof *instances)
		return NVML_ERROR_NOT_FOUND;
	*v = handleOf(1000 + 10 * indexOf(d) + (int)i + 1);
	return NVML_SUCCESS;
}
static nvmlReturn_t attributes(nvmlDevice_t d, const char *function, nvmlDeviceAttributes_t *v)
{
	nvmlReturn_t r = check(d, function, 1);
	if (r != NVML_SUCCESS)
		return r;
	if (!isInstance(d))
		return NVML_ERROR_NOT_SUPPORTED;
	memset(v, 0, sizeof *v);
	v->multiprocessorCount = (unsigned int)instances[instanceOf(d)];
	v->memorySizeMB = 40192;
	return NVML_SUCCESS;
}
nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t d, nvmlDeviceAttributes_t *v) { return attributes(d, __func__, v); }
nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t d, nvmlDeviceAttributes_t *v) { return attributes(d, __func__, v); }
