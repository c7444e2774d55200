package wire

import (
	"encoding/json"
	"fmt"
	"math"
)

// Column is a metric over time. NaN is "not reported", and null in JSON.
type Column []float64

// MarshalJSON writes a list of numbers and nulls.
func (c Column) MarshalJSON() ([]byte, error) {
	values := make([]*float64, len(c))
	for i := range c {
		if !math.IsNaN(c[i]) {
			values[i] = &c[i]
		}
	}
	return json.Marshal(values)
}

// UnmarshalJSON takes a list of numbers and nulls.
func (c *Column) UnmarshalJSON(b []byte) error {
	var values []*float64
	if err := json.Unmarshal(b, &values); err != nil {
		return fmt.Errorf("column: %w", err)
	}
	*c = make(Column, len(values))
	for i, v := range values {
		(*c)[i] = math.NaN()
		if v != nil {
			(*c)[i] = *v
		}
	}
	return nil
}
