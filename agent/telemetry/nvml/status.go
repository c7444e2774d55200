package nvml

import (
	"context"
	"fmt"

	"muster/agent/telemetry"
	"muster/shared/gpu"
)

// status is nvmlReturn_t.
type status int32

// The codes that mean something to this package. Source: nvml.h.
const (
	success          status = 0
	uninitialized    status = 1
	invalidArgument  status = 2
	notSupported     status = 3
	noPermission     status = 4
	notFound         status = 6
	insufficientSize status = 7
	driverNotLoaded  status = 9
	timeout          status = 10
	libraryNotFound  status = 12
	functionNotFound status = 13
	gpuIsLost        status = 15
	resetRequired    status = 16
	versionMismatch  status = 18
	inUse            status = 19
	argumentVersion  status = 25
	unknown          status = 999
)

// Codes of this package's own.
const (
	asleep      status = -1 // the device was not asked, because that would wake it
	nonsense    status = -2 // the driver answered with a value that can't be
	endsProcess status = -3 // the device was not asked, because that ended the last process
)

var statusTexts = map[status]string{
	success: "success", uninitialized: "not initialised", invalidArgument: "invalid argument", notSupported: "not supported",
	noPermission: "no permission", notFound: "not found", driverNotLoaded: "the kernel module is not loaded",
	libraryNotFound: "the library could not be opened", functionNotFound: "the library lacks the function", gpuIsLost: "the GPU has fallen off the bus",
	resetRequired: "the GPU needs a reset", versionMismatch: "kernel module and library differ in version", inUse: "a driver call has not returned", endsProcess: "asking it ends the process that reads NVIDIA's GPUs; it is tried again now and then", argumentVersion: "the library has another version of the argument",
	unknown: "unknown error", insufficientSize: "not enough room for the answer", timeout: "timeout",
	asleep: "asleep", nonsense: "a value that can't be",
}

// String describes it without asking the library, which could lack the function for that too.
func (s status) String() string {
	if text, ok := statusTexts[s]; ok {
		return text
	}
	return fmt.Sprintf("NVML error %d", int32(s))
}

// absent says that the device or library can't tell, as opposed to that something went wrong.
func (s status) absent() bool {
	return s == notSupported || s == functionNotFound || s == notFound || s == invalidArgument
}

// fatal says that the device or the connection is gone: no other getter will work.
func (s status) fatal() bool {
	switch s {
	case gpuIsLost, resetRequired, uninitialized, driverNotLoaded, versionMismatch:
		return true
	default:
		return false
	}
}

// why gives the reason for which a value is not there.
func (s status) why() gpu.Absence {
	switch {
	case s.absent():
		return gpu.AbsentUnsupported
	case s == noPermission:
		return gpu.AbsentNoPermission
	case s == asleep:
		return gpu.AbsentAsleep
	default:
		return gpu.AbsentFailed
	}
}

// state gives the error of package telemetry for a failing connection or device.
func (s status) state() error {
	switch s {
	case gpuIsLost, resetRequired:
		return telemetry.ErrLost
	case versionMismatch:
		return telemetry.ErrDriverMismatch
	case noPermission:
		return telemetry.ErrNoPermission
	case libraryNotFound, driverNotLoaded, uninitialized, functionNotFound:
		return telemetry.ErrNoDriver
	case inUse, endsProcess:
		return context.DeadlineExceeded
	case asleep:
		return telemetry.ErrSuspended
	default:
		return telemetry.ErrUnsupported
	}
}

// whyNot says for people why NVML could not connect, and what to do.
func whyNot(s status) string {
	switch s {
	case libraryNotFound:
		return "the NVIDIA driver's library libnvidia-ml.so.1 was not found: install the NVIDIA driver (in a container: start it with --gpus all), or name the library with --nvml"
	case driverNotLoaded:
		return "the NVIDIA kernel module is not loaded: load it with \"modprobe nvidia\", and see the kernel log if that fails"
	case versionMismatch:
		return "NVIDIA's kernel module and library differ in version, as after an update of the driver: reboot, or unload the old module and load the new one"
	case noPermission:
		return "this user may not use the NVIDIA driver: check the permissions of /dev/nvidia*"
	case inUse:
		return "the NVIDIA driver must be connected anew, but a call into it has not returned: if this stays, see the kernel log for Xid, and reboot"
	case functionNotFound:
		return "the library found is not NVML: name the right libnvidia-ml.so.1 with --nvml"
	default:
		return fmt.Sprintf("the NVIDIA driver does not answer (%s): see the kernel log; in a container, restart the container", s)
	}
}
