package server

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// keyPrefix begins the path of a program that has no field for a key: its server's address is http://HOST:PORT/key/TOKEN. Many
// clients of the sdapi know no other way.
const keyPrefix = "/key/"

// keyInPath takes the token out of such a path and puts it where the guard looks for it. It stands before everything, so that no
// log and no redirect shows the token. Only the doors of other programs are reached so; elsewhere what follows the prefix is taken
// away, and so it is of paths that are not written exactly so but would mean the same.
func keyInPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if meansKey(r.URL.Path) {
			token, path := "", keyPrefix
			if escaped, ok := strings.CutPrefix(r.URL.EscapedPath(), keyPrefix); ok {
				token, path = cutKey(escaped)
			}
			at := *r.URL
			at.Path, at.RawPath = path, ""
			with := r.WithContext(r.Context())
			with.URL, with.RequestURI = &at, at.RequestURI()
			if path != keyPrefix {
				with.Header = r.Header.Clone()
				with.Header.Set("Authorization", "Bearer "+token) // some send an empty one beside it
			}
			r = with
		}
		next.ServeHTTP(w, r)
	})
}

// meansKey says whether a path begins with keyPrefix in some writing: //key/, /./key/, /x/../key/, /KEY/, or escaped more than once.
func meansKey(path string) bool {
	for range 4 {
		depth := 0
		for segment := range strings.SplitSeq(path, "/") {
			switch {
			case segment == "", segment == ".":
			case segment == "..":
				depth = max(0, depth-1)
			case depth == 0 && strings.EqualFold(segment, "key"):
				return true
			default:
				depth++
			}
		}
		again, err := url.PathUnescape(path)
		if err != nil || again == path {
			return false
		}
		path = again
	}
	return false
}

// manySlashes are taken for one: an address with a slash in the end is put before a path with one in the beginning.
var manySlashes = regexp.MustCompile(`//+`)

// cutKey splits TOKEN/v1/models. The token is a path's segment, escaped where it has to be. path is keyPrefix when it is no door's.
func cutKey(escaped string) (token, path string) {
	segment, rest, _ := strings.Cut(escaped, "/")
	token, err := url.PathUnescape(segment)
	if err != nil {
		return "", keyPrefix
	}
	if path, err = url.PathUnescape(manySlashes.ReplaceAllString("/"+rest, "/")); err != nil || doorOf(path) == ownDoor {
		return "", keyPrefix
	}
	return token, path
}
