package live

import (
	"fmt"
	"strings"
	"syscall/js"
)

// LocalStorage is the browser's store of this origin. Where the browser forbids it, nothing is kept.
type LocalStorage struct{}

var _ Store = LocalStorage{}

// Get gives the text under a key; "" when there is none.
func (LocalStorage) Get(key string) (value string) {
	defer func() { _ = recover() }() // a browser that forbids storage throws
	if v := js.Global().Get("localStorage").Call("getItem", key); v.Type() == js.TypeString {
		return v.String()
	}
	return ""
}

// Set keeps a text; an error says that the store is full or forbidden.
func (LocalStorage) Set(key, value string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("localStorage %s: %v", key, r)
		}
	}()
	js.Global().Get("localStorage").Call("setItem", key, value)
	return nil
}

// Delete forgets a key.
func (LocalStorage) Delete(key string) {
	defer func() { _ = recover() }()
	js.Global().Get("localStorage").Call("removeItem", key)
}

// All gives every entry whose key has the prefix.
func (s LocalStorage) All(prefix string) (entries map[string]string) {
	entries = map[string]string{}
	defer func() { _ = recover() }()
	storage := js.Global().Get("localStorage")
	for i := range storage.Get("length").Int() {
		if key := storage.Call("key", i).String(); strings.HasPrefix(key, prefix) {
			entries[key] = s.Get(key)
		}
	}
	return entries
}
