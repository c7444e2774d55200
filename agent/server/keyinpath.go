package server

import (
	"net/http"
	"net/url"
	"strings"
)

// keyPrefix begins the path of a program that has no field for a key: its server's address is http://HOST:PORT/key/TOKEN. Many
// clients of the sdapi know no other way.
const keyPrefix = "/key/"

// keyInPath takes the token out of such a path and puts it where the guard looks for it. It stands before everything, so that no
// log shows the token. Only the doors of other programs are reached so.
func keyInPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token, path, ok := cutKey(r.URL); ok {
			at := *r.URL
			at.Path, at.RawPath = path, ""
			with := r.WithContext(r.Context())
			with.URL, with.RequestURI = &at, at.RequestURI()
			with.Header = r.Header.Clone()
			with.Header.Set("Authorization", "Bearer "+token) // some send an empty one beside it
			r = with
		}
		next.ServeHTTP(w, r)
	})
}

// cutKey splits /key/TOKEN/v1/models. The token is a path's segment, escaped where it has to be.
func cutKey(u *url.URL) (token, path string, ok bool) {
	rest, ok := strings.CutPrefix(u.EscapedPath(), keyPrefix)
	if !ok {
		return "", "", false
	}
	segment, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return "", "", false
	}
	token, err := url.PathUnescape(segment)
	if err != nil {
		return "", "", false
	}
	path, err = url.PathUnescape("/" + rest)
	return token, path, err == nil && doorOf(path) != ownDoor
}
