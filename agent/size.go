package agent

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes that people write with a unit: 500MB, 20GB, 1.5TiB. It is a pflag.Value.
type Size int64

// sizeUnits from the longest name to the shortest, so that "GB" is not read as "B".
var sizeUnits = []struct {
	name  string
	bytes float64
}{
	{"KIB", 1 << 10}, {"MIB", 1 << 20}, {"GIB", 1 << 30}, {"TIB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// Set reads a size. A number without a unit is bytes.
func (s *Size) Set(text string) error {
	number, factor := strings.ToUpper(strings.TrimSpace(text)), 1.0
	for _, unit := range sizeUnits {
		if before, ok := strings.CutSuffix(number, unit.name); ok {
			number, factor = strings.TrimSpace(before), unit.bytes
			break
		}
	}
	value, err := strconv.ParseFloat(number, 64)
	if err != nil || strings.Trim(number, "0123456789.") != "" || value*factor >= math.MaxInt64 {
		return fmt.Errorf("%.20q is no size: want a number and a unit, such as 500MB or 20GB", text)
	}
	*s = Size(value * factor)
	return nil
}

// String gives the size as Set reads it.
func (s Size) String() string {
	for _, unit := range []string{"TB", "GB", "MB"} {
		for _, known := range sizeUnits {
			if known.name == unit && s != 0 && s%Size(known.bytes) == 0 {
				return strconv.FormatInt(int64(s)/int64(known.bytes), 10) + unit
			}
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// Type names the kind of value in the list of flags.
func (s *Size) Type() string { return "size" }
