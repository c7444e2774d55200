package server

import (
	"errors"
	"io/fs"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"muster/shared/gpu"
	"muster/shared/wire"
)

// HistoryQuery asks what a metric of a device was between two times.
type HistoryQuery struct {
	ID       string // Device.ID
	Metric   gpu.Metric
	From, To time.Time
	Points   int // at most so many are answered
}

// HistorySeries is the past of one metric: one value per Step in each column, the first of which begins at Start. NaN is where
// nothing was measured.
type HistorySeries struct {
	Start          time.Time
	Step           time.Duration
	Resolution     string // of what is kept for that range: "full", "10s" or "1m"
	Min, Mean, Max wire.Column
}

// Bounds and defaults of GET /api/v1/history.
const (
	defaultHistoryPoints = 300
	maxHistoryPoints     = 5000
	defaultHistoryRange  = 10 * time.Minute
	maxDeviceIDLength    = 256
)

// history answers GET /api/v1/history?device=&metric=&from=&to=&points=. An inventory's device of which nothing is known yet has
// an empty history; so has a range that lies before what is kept.
func (s *Server) history(w http.ResponseWriter, r *http.Request) error {
	ask, err := parseHistoryAsk(r, time.Now())
	if err != nil {
		return err
	}
	inventory := s.awaitInventory(r.Context())
	if inventory == nil {
		return errNotMeasured
	}
	device, listed := findDevice(inventory, ask.ID)
	if listed {
		ask.ID = device.ID
	} else if isNumber(ask.ID) {
		return noDevice("device", ask.ID)
	}
	if s.config.Query == nil {
		return &refusal{status: http.StatusNotImplemented, code: "not_supported", message: "this agent keeps no history"}
	}
	series, err := s.config.Query(ask)
	if errors.Is(err, fs.ErrNotExist) {
		if !listed {
			return noDevice("device", ask.ID)
		}
		series, err = HistorySeries{Start: ask.From, Resolution: "none"}, nil
	}
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, newPast(ask, device, listed, series))
	return nil
}

// past is the answer. Times[i] is when the stretch of time begins that the i-th values stand for; it is as long as step_s.
type past struct {
	DeviceID   *gpu.Ref    `json:"device_id"` // null: the device is gone, its history is still there
	ID         string      `json:"id"`
	Metric     gpu.Metric  `json:"metric"`
	Unit       string      `json:"unit"`
	From       time.Time   `json:"from"`
	To         time.Time   `json:"to"`
	StepS      float64     `json:"step_s"`
	Resolution string      `json:"resolution"`
	Times      []time.Time `json:"times"`
	Min        wire.Column `json:"min"`
	Mean       wire.Column `json:"mean"`
	Max        wire.Column `json:"max"`
}

func newPast(ask HistoryQuery, device gpu.Device, listed bool, series HistorySeries) past {
	p := past{ID: ask.ID, Metric: ask.Metric, Unit: ask.Metric.Unit(), From: ask.From, To: ask.To, StepS: series.Step.Seconds(), Resolution: series.Resolution,
		Times: make([]time.Time, len(series.Mean)), Min: series.Min, Mean: series.Mean, Max: series.Max}
	if listed {
		p.DeviceID = &device.Index
	}
	for i := range p.Times {
		p.Times[i] = series.Start.UTC().Add(time.Duration(i) * series.Step).Truncate(time.Millisecond)
	}
	return p
}

// findDevice looks for a stable ID, or else for a device_id.
func findDevice(inventory *gpu.Inventory, name string) (gpu.Device, bool) {
	for _, d := range inventory.Devices {
		if d.ID == name {
			return d, true
		}
	}
	n, err := strconv.Atoi(name)
	if err != nil || !isNumber(name) {
		return gpu.Device{}, false
	}
	return inventory.Device(gpu.Ref(n))
}

func isNumber(name string) bool { return strings.Trim(name, "0123456789") == "" }

// parseHistoryAsk reads the query; ID is as it was given. Errors name the field and say what is allowed.
func parseHistoryAsk(r *http.Request, now time.Time) (HistoryQuery, error) {
	values, err := query(r, "device", "metric", "from", "to", "points")
	if err != nil {
		return HistoryQuery{}, err
	}
	ask := HistoryQuery{ID: values.Get("device"), Metric: gpu.Metric(values.Get("metric"))}
	if ask.ID == "" || len(ask.ID) > maxDeviceIDLength || ask.ID == gpu.CPU.String() {
		return HistoryQuery{}, invalid("device", "is %q; wanted is a device_id, or the id of a GPU as GET /api/v1/inventory gives it", cut(ask.ID))
	}
	if !slices.Contains(gpu.Metrics, ask.Metric) {
		return HistoryQuery{}, invalid("metric", "is %q; allowed are %s", cut(string(ask.Metric)), metricNames())
	}
	now = now.UTC().Truncate(time.Millisecond)
	if ask.To, err = moment(values, "to", now, now); err != nil {
		return HistoryQuery{}, err
	}
	if ask.From, err = moment(values, "from", now, ask.To.Add(-defaultHistoryRange)); err != nil {
		return HistoryQuery{}, err
	}
	if !ask.From.Before(ask.To) {
		return HistoryQuery{}, invalid("from", "is %s, which is not before to, %s", ask.From.Format(time.RFC3339), ask.To.Format(time.RFC3339))
	}
	ask.Points, err = number(values, "points", defaultHistoryPoints, 1, maxHistoryPoints)
	return ask, err
}

func metricNames() string {
	names := make([]string, len(gpu.Metrics))
	for i, m := range gpu.Metrics {
		names[i] = string(m)
	}
	return strings.Join(names, ", ")
}

var seconds = regexp.MustCompile(`^-?[0-9]{1,12}(\.[0-9]{1,9})?$`)

// moment reads a time: RFC 3339, Unix seconds, or negative seconds from now on. It lies in the years 1 to 9999, as JSON wants.
func moment(values url.Values, name string, now, fallback time.Time) (time.Time, error) {
	text := values.Get(name)
	if text == "" {
		return fallback, nil
	}
	wrong := func() error {
		return invalid(name, "is %q; allowed are RFC 3339 (2026-11-23T12:00:00Z), Unix seconds, and negative seconds before now (-3600)", cut(text))
	}
	if !seconds.MatchString(text) {
		at, err := time.Parse(time.RFC3339, strings.Replace(text, " ", "+", 1)) // a + that was not escaped
		if err != nil || at.UTC().Year() < 1 || at.UTC().Year() > 9999 {
			return time.Time{}, wrong()
		}
		return at.UTC(), nil
	}
	number, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return time.Time{}, wrong()
	}
	whole, part := math.Modf(number)
	at := time.Unix(int64(whole), 0).UTC()
	if strings.HasPrefix(text, "-") {
		at = time.Unix(now.Unix()+int64(whole), int64(now.Nanosecond())).UTC()
	}
	at = at.Add(time.Duration(math.Round(part*1e3)) * time.Millisecond)
	if at.Year() < 1 || at.Year() > 9999 {
		return time.Time{}, wrong()
	}
	return at, nil
}
