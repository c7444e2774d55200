package amdsmi

import (
	"fmt"

	"muster/shared/gpu"
)

// status is amdsmi_status_t. The C enum has values up to 0xFFFFFFFF, which as an int32 are −1 and −2.
type status int32

// The codes that mean something to this package, and two of its own. Source: amdsmi.h.
const (
	success           status = 0
	invalidArgument   status = 1
	notSupported      status = 2
	notImplemented    status = 3
	failedToLoad      status = 4
	drmError          status = 6
	timeout           status = 8
	retry             status = 9
	noPermission      status = 10
	outOfResources    status = 15
	internalException status = 16
	initError         status = 18
	busy              status = 30
	notFound          status = 31
	notInitialised    status = 32
	driverNotLoaded   status = 34
	noData            status = 40
	unexpectedSize    status = 42
	unexpectedData    status = 43
	noDriver          status = 51
	fileNotFound      status = 52
	mapError          status = -2
	unknown           status = -1

	functionMissing status = -1000 // the library has no such function, or its version no such struct
	notTrusted      status = -1001 // the library answered with what can't be
)

var statusTexts = map[status]string{
	success: "success", invalidArgument: "invalid argument", notSupported: "not supported", notImplemented: "not implemented yet",
	failedToLoad: "a library that it needs could not be loaded", drmError: "libdrm failed", timeout: "timed out", retry: "try again",
	noPermission: "no permission", outOfResources: "out of resources", internalException: "an exception inside the library",
	initError: "it could not be initialised", busy: "the device is busy or asleep", notFound: "device not found",
	notInitialised: "not initialised", driverNotLoaded: "the kernel module amdgpu is not loaded", noData: "no data",
	unexpectedSize: "data of unexpected size", unexpectedData: "unexpected data", noDriver: "no driver",
	fileNotFound: "a file of the driver was not found", mapError: "an error that it has no name for", unknown: "unknown error",
	functionMissing: "the library lacks the function", notTrusted: "the answer can't be right",
}

// String describes it without asking the library, which could lack the function for that too.
func (s status) String() string {
	if text, ok := statusTexts[s]; ok {
		return text
	}
	return fmt.Sprintf("AMD SMI error %d", int32(s))
}

// absent says that the device or the library can't tell, as opposed to that something went wrong.
func (s status) absent() bool {
	switch s {
	case notSupported, notImplemented, noData, functionMissing, fileNotFound, notFound, invalidArgument:
		return true
	default:
		return false
	}
}

// disconnected says that nothing more can be had before the library was initialised anew.
func (s status) disconnected() bool {
	return s == notInitialised || s == driverNotLoaded || s == noDriver
}

// absence says for people why a value isn't there.
func (s status) absence() gpu.Absence {
	switch {
	case s.absent():
		return gpu.AbsentUnsupported
	case s == noPermission:
		return gpu.AbsentNoPermission
	case s == timeout:
		return gpu.AbsentTimedOut
	case s == busy:
		return gpu.AbsentAsleep
	default:
		return gpu.AbsentFailed
	}
}

// trouble is why the library can't be used, with what mends it.
type trouble struct{ what, mend string }

func (t trouble) Error() string { return t.what + ": " + t.mend }

// whyNot says for people why the library could not be initialised, and what to do.
func whyNot(s status) error {
	switch s {
	case driverNotLoaded, noDriver, notInitialised:
		return trouble{"AMD SMI finds no driver", "sudo modprobe amdgpu, and see the kernel log if that fails"}
	case noPermission:
		return trouble{"AMD SMI may not open the devices", mendGroups}
	case initError:
		return trouble{"AMD SMI could not open one device", mendGroups + "; in a container, pass /dev/dri and /dev/kfd on"}
	case failedToLoad:
		return trouble{"AMD SMI lacks a library that it needs", "install libdrm (libdrm2 and libdrm-amdgpu1)"}
	default:
		return trouble{fmt.Sprintf("AMD SMI could not be initialised (%s)", s), "see the kernel log, or reinstall ROCm's package amd-smi-lib"}
	}
}

// mendGroups is what lets a user open the devices.
const mendGroups = "sudo usermod -aG render,video $USER, then log in again"
