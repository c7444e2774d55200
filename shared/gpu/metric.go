package gpu

// Metric names a value of a Reading that is kept over time, as in JSON.
type Metric string

// The metrics that are kept.
const (
	MetricUtilization   Metric = "utilization_percent"
	MetricMemoryPercent Metric = "memory_used_percent" // of what the device has
	MetricMemory        Metric = "memory_used_bytes"
	MetricTemperature   Metric = "temperature_celsius" // of the sensor that stands for the device
	MetricPower         Metric = "power_watts"
	MetricCoreClock     Metric = "core_clock_mhz"
	MetricMemoryClock   Metric = "memory_clock_mhz"
)

// Metrics lists every metric in the order in which people are told of them.
var Metrics = []Metric{MetricUtilization, MetricMemoryPercent, MetricMemory, MetricTemperature, MetricPower, MetricCoreClock, MetricMemoryClock}

// Unit gives the unit as a word; "" for names that are no metric.
func (m Metric) Unit() string {
	switch m {
	case MetricUtilization, MetricMemoryPercent:
		return "percent"
	case MetricMemory:
		return "bytes"
	case MetricTemperature:
		return "celsius"
	case MetricPower:
		return "watts"
	case MetricCoreClock, MetricMemoryClock:
		return "megahertz"
	default:
		return ""
	}
}
