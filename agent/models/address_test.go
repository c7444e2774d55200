package models

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
)

// The rule of addresses holds after names were resolved, and at every redirect.
func TestRedirectsAreJudgedAgain(t *testing.T) {
	t.Parallel()
	content := sd1(1 << 20)
	for name, test := range map[string]struct {
		location string
		want     []string
	}{
		"to a private address":       {"https://192.168.1.10/tiny.safetensors", []string{"192.168.1.10", "private network"}},
		"to this machine":            {"https://[::1]:8000/tiny.safetensors", []string{"this machine"}},
		"to a name that leads there": {"https://inside.test/tiny.safetensors", []string{"inside.test", "169.254.169.254"}},
		"to http":                    {"http://files.test/tiny.safetensors", []string{"https"}},
		"to a file":                  {"file:///etc/passwd", []string{"https"}},
		"to nowhere":                 {"", []string{"nowhere"}},
		"with a password":            {"https://a:b@files.test/x.gguf", []string{"password"}},
		"round and round":            {fileURL, []string{"more than 10 times"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.names["inside.test"] = netip.MustParseAddr("169.254.169.254")
				w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
					out.Header().Set("Location", test.location)
					out.WriteHeader(http.StatusTemporaryRedirect)
				})
				s := newShelf(t, w)
				wantFailed(t, s.ended(s.ask(Request{URL: fileURL}).ID), test.want...)
				if len(w.refused) > 0 {
					t.Errorf("dialed %v", w.refused)
				}
			})
		})
	}
	t.Run("ten of them", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w, hops := newWorld(t), 0
			w.host("files.test", func(out http.ResponseWriter, r *http.Request) {
				if hops++; hops <= 10 {
					out.Header().Set("Location", "next") // relative
					out.WriteHeader(http.StatusFound)
					return
				}
				serveFile(content, `"a"`)(out, r)
			})
			s := newShelf(t, w)
			wantInstalled(t, s, s.ended(s.ask(Request{URL: fileURL}).ID), "tiny.safetensors", content)
		})
	})
}

// The default refuses this machine: by its address, by a name, and where a name leads. No test double stands in between.
func TestTheDefaultRefusesPrivateAddresses(t *testing.T) {
	t.Parallel()
	hub := must1(url.Parse(DefaultHub))
	for _, host := range []string{"127.0.0.1", "[::1]", "localhost", "10.1.2.3", "[::ffff:127.0.0.1]", "0.0.0.0", "[fe80::1]", "[64:ff9b::7f00:1]"} {
		_, err := newWeb(Network{}, hub, "").get(t.Context(), "https://"+host+":9/x.gguf", nil)
		var refused *addressError
		if !errors.As(err, &refused) {
			t.Errorf("%s: %v", host, err)
		}
		if tryAgain(err) {
			t.Errorf("%s would be tried again", host)
		}
	}
	rebinding := Network{Resolve: func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}}
	_, err := newWeb(rebinding, hub, "").get(t.Context(), "https://public.example/x.gguf", nil)
	if err == nil || !strings.Contains(err.Error(), "public.example is not downloaded from") {
		t.Errorf("%v", err)
	}
	// The last look is where the kernel takes the address.
	if _, err := (Network{Allow: PublicOnly}).dial(t.Context(), netip.MustParseAddrPort("127.0.0.1:9")); err == nil || !strings.Contains(err.Error(), "this machine") {
		t.Errorf("%v", err)
	}
}

func TestPublicOnly(t *testing.T) {
	t.Parallel()
	for address, public := range map[string]bool{
		"93.184.216.34": true, "1.1.1.1": true, "2606:2800:220:1::1": true, "2a00:1450:4001::8a": true, "64:ff9b::5db8:d822": true, "2002:5db8:d822::1": true, "::ffff:93.184.216.34": true,
		"127.0.0.1": false, "127.255.0.1": false, "0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "172.16.0.1": false, "172.31.255.255": false, "172.32.0.1": true,
		"192.168.0.1": false, "100.64.0.1": false, "100.127.255.255": false, "100.128.0.1": true, "169.254.169.254": false, "224.0.0.1": false, "255.255.255.255": false, "240.0.0.1": false,
		"192.0.0.8": false, "192.0.2.1": false, "198.18.0.1": false, "198.51.100.1": false, "203.0.113.1": false, "192.88.99.1": false,
		"::": false, "::1": false, "fe80::1": false, "fe80::1%eth0": false, "2606:2800:220:1::1%eth0": false, "fc00::1": false, "fd12::1": false, "ff02::1": false, "2001:db8::1": false, "2001::1": false, "3fff::1": false,
		"::ffff:10.0.0.1": false, "64:ff9b::a00:1": false, "64:ff9b:1::1": false, "2002:a00:1::1": false, "2002:7f00:1::": false, "::10.0.0.1": false, "::93.184.216.34": false, "100::1": false, "fec0::1": false, "5f00::1": false,
	} {
		if err := PublicOnly(netip.MustParseAddr(address)); (err == nil) != public {
			t.Errorf("%s: %v", address, err)
		}
	}
	if PublicOnly(netip.Addr{}) == nil {
		t.Error("no address counts as public")
	}
}

func TestUnknownHostsAndBadCertificates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host("files.test", serveFile(sd1(1), `"a"`))
		w.names["other.test"] = w.names["files.test"] // its certificate is for another name
		s := newShelf(t, w)
		wantFailed(t, s.ended(s.ask(Request{URL: "https://nowhere.test/a.gguf"}).ID), "there is no host nowhere.test")
		wantFailed(t, s.ended(s.ask(Request{URL: "https://other.test/b.gguf"}).ID), "certificate")
		w.names["dead.test"] = netip.MustParseAddr("93.184.216.200")
		wantFailed(t, s.ended(s.ask(Request{URL: "https://dead.test/c.gguf"}).ID), "given up after 8 attempts", "connection refused")
	})
}
