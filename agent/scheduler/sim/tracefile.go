package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// traceFile is a trace as it is written (BENCHMARKS.md 1). nil is left out.
type traceFile struct {
	Box        traceBox              `json:"box"`
	Models     map[string]traceModel `json:"models"`
	Sets       []traceSet            `json:"sets"`
	Events     []traceEvent          `json:"events"`
	Noise      *float64              `json:"noise"`
	Seed       *uint64               `json:"seed"`
	StaleS     *float64              `json:"stale_s"`
	PriorError *float64              `json:"prior_error"`
	Warm       string                `json:"warm"`
}

type traceBox struct {
	Devices    []traceDevice `json:"devices"`
	LoadBaseS  *float64      `json:"load_base_s"`
	DiskGBps   *float64      `json:"disk_gbps"`
	CachedGBps *float64      `json:"cached_gbps"`
	Warm       string        `json:"warm"`
}

type traceDevice struct {
	Speed   *float64 `json:"speed"`
	VRAMGiB *float64 `json:"vram_gib"`
}

type traceModel struct {
	FileGB  *float64 `json:"file_gb"`
	VRAMGiB *float64 `json:"vram_gib"`
	Seconds *float64 `json:"seconds"`
}

type traceSet struct {
	T     float64 `json:"t"`
	Model string  `json:"model"`
	Count *int    `json:"count"`
}

type traceEvent struct {
	T       float64  `json:"t"`
	Device  *int     `json:"device"`
	Kind    Kind     `json:"kind"`
	ForS    *float64 `json:"for_s"`
	Compute *float64 `json:"compute"`
	VRAM    *float64 `json:"vram"`
	Speed   *float64 `json:"speed"`
}

// decodeTrace reads a trace's JSON. strange names a field that is not one of a trace's: other programs add names and remarks.
func decodeTrace(raw []byte) (file traceFile, strange, err error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err == nil {
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return file, nil, errors.New("there is more after the object")
		}
		return file, nil, nil
	} else {
		strange = err
	}
	file = traceFile{}
	if json.Unmarshal(raw, &file) != nil {
		return file, nil, strange
	}
	return file, strange, nil
}
