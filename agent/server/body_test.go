package server

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// A body that does not come holds nobody up for longer than bodyTimeout, on routes that read it, on those that do not, and where
// the request is refused before it is looked at.
func TestBodiesThatDoNotComeAreGivenUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		head   string
		status int
	}{
		"read":           {"POST /api/v1/jobs HTTP/1.1\r\nAuthorization: Bearer " + testToken + "\r\nContent-Length: 100", 400},
		"chunked":        {"POST /api/v1/jobs HTTP/1.1\r\nAuthorization: Bearer " + testToken + "\r\nTransfer-Encoding: chunked", 400},
		"not read":       {"POST /api/v1/session/link HTTP/1.1\r\nAuthorization: Bearer " + testToken + "\r\nContent-Length: 100", 200},
		"of a stranger":  {"POST /api/v1/jobs HTTP/1.1\r\nContent-Length: 100", 401},
		"public":         {"GET /healthz HTTP/1.1\r\nContent-Length: 100", 200},
		"without a body": {"GET /healthz HTTP/1.1", 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := pipes{make(chan net.Conn), make(chan struct{})}
				a := serveOn(t, l)
				conn, other := net.Pipe()
				defer conn.Close()
				l.conns <- other
				began := time.Now()
				fmt.Fprintf(conn, "%s\r\nHost: %s\r\n\r\n", test.head, a.addr)
				if err := conn.SetReadDeadline(began.Add(10 * bodyTimeout)); err != nil {
					t.Fatal(err)
				}
				r, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatalf("after %s: %v", time.Since(began), err)
				}
				r.Body.Close()
				if took := time.Since(began); r.StatusCode != test.status || took > bodyTimeout+time.Second {
					t.Errorf("%d after %s, want %d", r.StatusCode, took, test.status)
				}
			})
		})
	}
}
