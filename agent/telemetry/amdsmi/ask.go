package amdsmi

import (
	"bytes"
	"sync"
)

// bufferBytes is how much room each call gives the library for a struct, whatever the size by the layout: later versions have
// longer ones.
const bufferBytes = 5 << 10

var buffers = sync.Pool{New: func() any { return new([bufferBytes]byte) }}

// ask calls a function that fills a struct of that size, and decodes it. Behind the struct the buffer holds the canary. Where that
// was overwritten the struct is not the one of the layout, and neither is it where it can't be decoded: then it is left out from
// now on. A call that doesn't return keeps its buffer.
func ask[T any](s *session, function string, size int, call func(*byte) status, decode func([]byte) (T, error)) (T, status) {
	var none T
	if size == 0 {
		return none, functionMissing
	}
	if s.distrustful(function) != "" {
		return none, notTrusted
	}
	buf := buffers.Get().(*[bufferBytes]byte)
	clear(buf[:size])
	guard(buf[size:])
	result := call(&buf[0])
	defer buffers.Put(buf)
	if result != success {
		return none, result
	}
	if !untouched(buf[size:]) {
		s.leaveOut(function, "its struct is longer than that of the versions that muster knows")
		return none, notTrusted
	}
	value, err := decode(buf[:size])
	if err != nil {
		s.leaveOut(function, err.Error())
		return none, notTrusted
	}
	return value, success
}

// canary fills what the library must not write to, so that it shows when it did.
const canary = 0xa5

// guard fills the bytes with the canary.
func guard(b []byte) {
	for len(b) > 0 {
		b = b[copy(b, canaries):]
	}
}

var canaries = bytes.Repeat([]byte{canary}, bufferBytes)

// untouched says whether the bytes are as guard left them.
func untouched(b []byte) bool {
	return bytes.Count(b, []byte{canary}) == len(b)
}
