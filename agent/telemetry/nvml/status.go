package nvml

import "fmt"

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
	driverNotLoaded  status = 9
	libraryNotFound  status = 12
	functionNotFound status = 13
	gpuIsLost        status = 15
	resetRequired    status = 16
	versionMismatch  status = 18
	inUse            status = 19
	argumentVersion  status = 25
	unknown          status = 999
)

var statusTexts = map[status]string{
	success: "success", uninitialized: "not initialised", invalidArgument: "invalid argument", notSupported: "not supported",
	noPermission: "no permission", notFound: "not found", driverNotLoaded: "the kernel module is not loaded",
	libraryNotFound: "the library could not be opened", functionNotFound: "the library lacks the function", gpuIsLost: "the GPU has fallen off the bus",
	resetRequired: "the GPU needs a reset", versionMismatch: "kernel module and library differ in version", inUse: "a driver call has not returned", argumentVersion: "the library has another version of the argument",
	unknown: "unknown error",
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
