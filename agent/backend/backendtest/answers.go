package backendtest

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Actions of generators that are spoken to over HTTP alone, beside those of sd-server.
const (
	Bomb        Action = "bomb"         // a small PNG that says it has 50000 x 50000 pixels
	WrongSeed   Action = "wrong-seed"   // the image of another seed, and it says so
	ErrorBody   Action = "error-body"   // 200 with an error in place of an image
	Dropped     Action = "dropped"      // the connection ends without an answer
	Interrupted Action = "interrupted"  // somebody else interrupts before the step
	SwitchFails Action = "switch-fails" // the model can't be loaded
	OtherModel  Action = "other-model"  // the image is made with whatever model was loaded
)

// Spoil answers in place of answer, which is what a sound server would send, when do is one of the faults of transport; false when
// it is none and nothing was sent. quit ends answers that never come.
func Spoil(w http.ResponseWriter, do Action, answer []byte, quit <-chan struct{}) bool {
	switch do {
	case Garbage:
		_, _ = io.WriteString(w, "<html>not JSON at all</html>")
	case HalfJSON:
		w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
		_, _ = w.Write(answer[:len(answer)/2])
		panic(http.ErrAbortHandler)
	case Dropped:
		panic(http.ErrAbortHandler)
	case Huge:
		flood(w)
	case Drip:
		drip(w, answer, quit)
	case HeldAnswer:
		<-quit
	default:
		return false
	}
	return true
}

// flood answers with 10 GB that begin as an answer with an image does.
func flood(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"images":["`)
	block := bytes.Repeat([]byte("A"), 1<<20)
	for range 10 << 10 {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// drip answers with a byte a second.
func drip(w http.ResponseWriter, text []byte, quit <-chan struct{}) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	for i := range text {
		if _, err := w.Write(text[i : i+1]); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-quit:
			return
		case <-time.After(time.Second):
		}
	}
}

// SpoilPNG gives a copy of an image that is spoilt as do says; the image itself for any other action.
func SpoilPNG(file []byte, do Action) []byte {
	file = bytes.Clone(file)
	switch do {
	case CutPNG:
		return file[:len(file)/2]
	case DamagedPNG:
		file[len(file)/2] ^= 1
	case Bomb:
		const header = 8 + 8 // signature, and length and type of IHDR
		binary.BigEndian.PutUint32(file[header:], 50000)
		binary.BigEndian.PutUint32(file[header+4:], 50000)
		binary.BigEndian.PutUint32(file[header+13:], crc32.ChecksumIEEE(file[header-4:header+13]))
	}
	return file
}
