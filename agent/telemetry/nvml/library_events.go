//go:build cgo

package nvml

import "github.com/NVIDIA/go-nvml/pkg/nvml"

// event is one arrival. code is the XID where kind is eventXID.
type event struct {
	id   string // of the device
	kind uint64
	code uint64
}

// The kinds of events that muster listens to.
const (
	eventXID       = nvml.EventTypeXidCriticalError
	eventDoubleBit = nvml.EventTypeDoubleBitEccError
)

// openEvents makes what events of the registered devices arrive in. It belongs to one connection: using it later would crash.
func (l *library) openEvents() status {
	if !l.has("nvmlEventSetCreate") {
		return functionNotFound
	}
	set, ret := l.api.EventSetCreate()
	if s := status(ret); s != success {
		return s
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set, l.registered = set, map[handle]string{}
	return success
}

// closeEvents must be called before the connection ends, while nobody is inside.
func (l *library) closeEvents() status {
	if !l.has("nvmlEventSetFree") {
		return functionNotFound
	}
	l.mu.Lock()
	set := l.set
	l.set, l.registered = nil, nil
	l.mu.Unlock()
	if set == nil {
		return success
	}
	return status(l.api.EventSetFree(set))
}

// events gives where events of the connection arrive, and how many devices are registered.
func (l *library) events() (set nvml.EventSet, registered int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.set, len(l.registered)
}

// listen registers a device for its events, once in a connection. id is how its events will be named.
func (l *library) listen(h handle, id string) status {
	kinds, s := l.supportedEvents(h)
	if s == functionNotFound {
		kinds, s = eventXID, success
	}
	if s != success {
		return s
	}
	if kinds &= eventXID | eventDoubleBit; kinds == 0 {
		return notSupported
	}
	l.mu.Lock()
	set, registered := l.set, l.registered[h] != ""
	l.mu.Unlock()
	switch {
	case registered:
		return success
	case set == nil:
		return functionNotFound
	}
	if s = l.register(h, kinds, set); s == success {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.registered[h] = id
	}
	return s
}

// supportedEvents gives the kinds that the device can report.
func (l *library) supportedEvents(h handle) (uint64, status) {
	if !l.has("nvmlDeviceGetSupportedEventTypes") {
		return 0, functionNotFound
	}
	kinds, ret := l.api.DeviceGetSupportedEventTypes(h.device)
	return kinds, status(ret)
}

func (l *library) register(h handle, kinds uint64, set nvml.EventSet) status {
	if !l.has("nvmlDeviceRegisterEvents") {
		return functionNotFound
	}
	return status(l.api.DeviceRegisterEvents(h.device, kinds, set))
}

// wait returns at the next event, or with timeout after so many milliseconds.
func (l *library) wait(set nvml.EventSet, milliseconds uint32) (event, status) {
	if !l.has("nvmlEventSetWait", "nvmlEventSetWait_v2") {
		return event{}, functionNotFound
	}
	e, ret := l.api.EventSetWait(set, milliseconds)
	if s := status(ret); s != success {
		return event{}, s
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return event{l.registered[handle{e.Device}], e.EventType, e.EventData}, success
}
