package kernel

import (
	"bytes"
	"strconv"
	"strings"
)

// Number reads the decimal whole number of a sysfs or hwmon file, padding and white space allowed. Beyond ±2⁵³ it is refused,
// since no sensor counts so far.
func Number(b []byte) (float64, bool) {
	v, err := strconv.ParseInt(string(Trim(b)), 10, 64)
	if err != nil || v > 1<<53 || v < -1<<53 {
		return 0, false
	}
	return float64(v), true
}

// Hex reads "0x1002", "1002" or "0x030000" of at most 64 bits.
func Hex(s string) (uint64, bool) {
	v, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "0x"), 16, 64)
	return v, err == nil
}

// Trim cuts at the first NUL (some captures and drivers pad with them) and takes off white space.
func Trim(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return bytes.TrimSpace(b)
}
