package gpu

import "testing"

func TestWhyAbsent(t *testing.T) {
	t.Parallel()
	device := Device{Absent: map[string]Absence{"fan_percent": AbsentUnsupported, "serial_number": AbsentNoPermission, "ecc": AbsentUnsupported}}
	details := Details{Absent: map[string]Absence{"ecc": AbsentFailed}}
	for _, c := range []struct {
		state State
		field string
		want  Absence
	}{
		{StateOK, "fan_percent", AbsentUnsupported},
		{StateOK, "serial_number", AbsentNoPermission},
		{StateOK, "ecc", AbsentFailed}, // the newer word counts
		{StateOK, "power_watts", AbsentUnsupported},
		{StateSuspended, "power_watts", AbsentAsleep},
		{StateSuspended, "fan_percent", AbsentUnsupported}, // it has none when it is awake either
		{StateStuck, "power_watts", AbsentTimedOut},
		{StateStuck, "fan_percent", AbsentUnsupported},
		{StateNoPermission, "power_watts", AbsentNoPermission},
		{StateLost, "power_watts", AbsentFailed},
		{StateLost, "fan_percent", AbsentUnsupported},
		{StateDriverMismatch, "power_watts", AbsentFailed},
		{StateNoDriver, "power_watts", AbsentUnsupported},
	} {
		if got := WhyAbsent(device, details, c.state, c.field); got != c.want {
			t.Errorf("%s of a device that is %s: got %s, want %s", c.field, c.state, got, c.want)
		}
	}
}
