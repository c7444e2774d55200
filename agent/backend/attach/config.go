// Package attach is what muster knows of a generator that somebody else runs: where it is, whether it answers, what it can make, and
// on which device it works. The packages of the single kinds (comfyui, sdapi, openai) give it a Probe and make the images.
//
// An image is never credited to a device that did not make it: while it is not certain which device a server uses, or when its
// process works on another one than was said, it takes no work and says what a person has to do.
package attach

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"muster/shared/gpu"
)

// Config says where a server is. It comes from the administrator alone: flags, environment, configuration file.
type Config struct {
	Kind string // "comfyui", "sdapi", "openai": a job's backend
	Base string // scheme, host and port: "http://127.0.0.1:8188"
	// User and Password are what it asks for; openai sends the password as its API key. "" for none.
	User, Password string
	// Device is what a person said of where it works: a number, a stable ID, "cpu"; "" finds out.
	Device string
	// Models are those of its models that it is used for; none is all that it names.
	Models []string
}

// Parse reads "http://[USER:PASSWORD@]HOST:PORT[?model=NAME&model=NAME][#DEVICE]". Its errors say what is allowed, and repeat no
// password.
func Parse(kind, text string) (Config, error) {
	fail := func(format string, args ...any) (Config, error) {
		return Config{}, fmt.Errorf(format+"; want an address such as %s, with #0 behind it when it works on device 0", append(args, example(kind))...)
	}
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return fail("is no address of a server") // url's own error repeats the text
	}
	c := Config{Kind: kind, Device: u.Fragment}
	switch port := u.Port(); {
	case u.Scheme != "http" && u.Scheme != "https":
		return fail("%q is no scheme that is spoken here", u.Scheme)
	case u.Hostname() == "":
		return fail("names no host")
	case !loopback(u.Hostname()) && u.Port() == "" && !strings.ContainsAny(u.Hostname(), ".:"):
		return fail("%q is no address", u.Hostname())
	case !loopback(u.Hostname()):
		return fail("%s is another machine, or another name of this one: muster spreads work over the devices of its own machine, so write 127.0.0.1 if it runs here, or run muster there", u.Hostname())
	case u.Path != "" && u.Path != "/":
		return fail("%s is a path, where only host and port are wanted", u.Path)
	case port != "":
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return fail("port %s does not exist", port)
		}
	}
	c.Base = u.Scheme + "://" + u.Host
	if u.User != nil {
		c.User = u.User.Username()
		c.Password, _ = u.User.Password()
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fail("has a query that can't be read")
	}
	for key, values := range query {
		if key != "model" {
			return fail("%q is no setting of a server; there is model=NAME", key)
		}
		c.Models = values
	}
	if slices.Contains(c.Models, "") {
		return fail("names a model without a name")
	}
	if _, err := c.wants(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// example is the address at which a kind of servers usually is.
func example(kind string) string {
	switch kind {
	case "sdapi":
		return "http://127.0.0.1:7860"
	case "openai":
		return "http://127.0.0.1:8080"
	}
	return "http://127.0.0.1:8188"
}

// loopback says whether a host is this machine by its own name for itself. Names are not looked up: they could lead elsewhere later.
func loopback(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Zone() == "" && address.Unmap().IsLoopback()
}

// Address is host and port, for people.
func (c Config) Address() string { return c.Base[strings.Index(c.Base, "//")+2:] }

// ID tells it from every other generator.
func (c Config) ID() string { return c.Kind + " " + c.Address() }

// Port is where it listens: on loopback a port is one server's, whatever the host is called.
func (c Config) Port() string { return strconv.Itoa(c.port()) }

func (c Config) port() int {
	_, port, err := net.SplitHostPort(c.Address())
	if err != nil {
		if strings.HasPrefix(c.Base, "https:") {
			return 443
		}
		return 80
	}
	n, _ := strconv.Atoi(port) // checked by Parse
	return n
}

// wish is what a person said of a server's device.
type wish struct {
	ref gpu.Ref // by number; meaningless with an id
	id  string  // by stable ID; "" by number
}

// wants gives the wish; nil when there is none.
func (c Config) wants() (*wish, error) {
	switch {
	case c.Device == "":
		return nil, nil
	case c.Device == gpu.CPU.String():
		return &wish{ref: gpu.CPU}, nil
	}
	if n, err := strconv.Atoi(c.Device); err == nil {
		if n < 0 || n > 1<<16 {
			return nil, errors.New("#" + c.Device + " is no device: want its number, cpu, or its stable ID")
		}
		return &wish{ref: gpu.Ref(n)}, nil
	}
	return &wish{id: c.Device}, nil
}
