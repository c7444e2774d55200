package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/model"
)

// Format is one of the two ways an Event is written: one event, one frame.
type Format int

// The formats. JSON frames are text, binary frames are binary.
const (
	JSON Format = iota
	Binary
)

// Formats lists both.
var Formats = []Format{JSON, Binary}

// FormatOf gives the format of a negotiated subprotocol; "" is JSON.
func FormatOf(subprotocol string) Format {
	if subprotocol == SubprotocolBinary {
		return Binary
	}
	return JSON
}

// ErrMalformed is wrapped by every error of Decode and DecodeCommand.
var ErrMalformed = errors.New("malformed frame")

// kind is the second byte of a binary frame; the first is Version. Only what travels every tick or is long has a layout of
// its own (snapshot, history); the rare events carry their JSON.
type kind byte

const (
	kindHello kind = iota + 1
	kindInventory
	kindSnapshot
	kindHistory
	kindCapacity
	kindJob
	kindError
	kindDetails
	kindLibrary
)

// Encode writes one event. An event of no or several fields is a programmer's error and is refused.
func (f Format) Encode(e Event) ([]byte, error) {
	k, value, err := e.only()
	if err != nil {
		return nil, err
	}
	if f == JSON {
		return json.Marshal(e)
	}
	head := []byte{Version, byte(k)}
	switch k {
	case kindSnapshot:
		return appendSnapshot(head, e.Snapshot), nil
	case kindHistory:
		return appendHistory(head, e.History), nil
	default:
		body, err := json.Marshal(value)
		return append(head, body...), err
	}
}

func (e Event) only() (k kind, value any, err error) {
	count := 0
	set := func(is bool, as kind, v any) {
		if is {
			k, value = as, v
			count++
		}
	}
	set(e.Hello != nil, kindHello, e.Hello)
	set(e.Inventory != nil, kindInventory, e.Inventory)
	set(e.Snapshot != nil, kindSnapshot, e.Snapshot)
	set(e.Details != nil, kindDetails, e.Details)
	set(e.History != nil, kindHistory, e.History)
	set(e.Capacity != nil, kindCapacity, e.Capacity)
	set(e.Library != nil, kindLibrary, e.Library)
	set(e.Job != nil, kindJob, e.Job)
	set(e.Error != nil, kindError, e.Error)
	if count != 1 {
		return 0, nil, fmt.Errorf("event has %d fields set: want exactly one", count)
	}
	return k, value, nil
}

// Decode reads one frame. Bytes from outside never panic or allocate beyond a small multiple of their length.
func Decode(f Format, frame []byte) (Event, error) {
	var e Event
	var err error
	if f == JSON {
		err = json.Unmarshal(frame, &e)
	} else {
		e, err = decodeBinary(frame)
	}
	if err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if _, _, err := e.only(); err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return e, nil
}

func decodeBinary(frame []byte) (e Event, err error) {
	if len(frame) < 2 {
		return e, io.ErrUnexpectedEOF
	}
	if frame[0] != Version {
		return e, fmt.Errorf("codec version %d: this side speaks %d; reload the page", frame[0], Version)
	}
	body := frame[2:]
	switch kind(frame[1]) {
	case kindHello:
		e.Hello = new(Hello)
		err = json.Unmarshal(body, e.Hello)
	case kindInventory:
		e.Inventory = new(gpu.Inventory)
		err = json.Unmarshal(body, e.Inventory)
	case kindSnapshot:
		e.Snapshot, err = decodeSnapshot(body)
	case kindDetails:
		e.Details = new(gpu.Report)
		err = json.Unmarshal(body, e.Details)
	case kindHistory:
		e.History, err = decodeHistory(body)
	case kindCapacity:
		e.Capacity = new(Capacity)
		err = json.Unmarshal(body, e.Capacity)
	case kindLibrary:
		e.Library = new(model.Library)
		err = json.Unmarshal(body, e.Library)
	case kindJob:
		e.Job = new(job.Job)
		err = json.Unmarshal(body, e.Job)
	case kindError:
		e.Error = new(Error)
		err = json.Unmarshal(body, e.Error)
	default:
		err = fmt.Errorf("event of unknown kind %d", frame[1])
	}
	return e, err
}

// DecodeCommand reads a command: exactly one of submit and cancel, no unknown fields, nothing after it.
func DecodeCommand(frame []byte) (Command, error) {
	var c Command
	decoder := json.NewDecoder(bytes.NewReader(frame))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		return Command{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Command{}, fmt.Errorf("%w: something follows the command", ErrMalformed)
	}
	if (c.Submit == nil) == (c.Cancel == nil) {
		return Command{}, fmt.Errorf(`%w: want exactly one of "submit" and "cancel"`, ErrMalformed)
	}
	return c, nil
}
