package feed

import (
	"sync"

	"muster/shared/wire"
)

// frame is one event, encoded at most once per format by whoever takes it first; the others wait for that one.
type frame struct {
	feed    *Feed
	event   wire.Event
	encoded [2]struct { // by wire.Format
		once  sync.Once
		bytes []byte // nil when the event can't be encoded
	}
}

func (f *Feed) frame(e wire.Event) *frame { return &frame{feed: f, event: e} }

// bytes gives the frame in a format; nil when the event can't be encoded, which is reported once.
func (fr *frame) bytes(format wire.Format) []byte {
	e := &fr.encoded[format]
	e.once.Do(func() {
		encoded, err := format.Encode(fr.event)
		if err != nil {
			fr.feed.log.Error("encode event", "error", err)
			return
		}
		fr.feed.encodings.Add(1)
		e.bytes = encoded
	})
	return e.bytes
}
