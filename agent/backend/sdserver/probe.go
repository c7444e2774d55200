package sdserver

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"muster/agent/backend/exchange"
	"muster/agent/backend/fleet"
	"muster/agent/process"
	"muster/shared/sampler"
)

// build is what an sd-server program says of itself.
type build struct {
	version string // "master-827-97d2990+"; "" when it does not say
	number  int    // 827; 0 when it does not say
	flags   map[string]bool
	devices []listedDevice // nil when it has no --list-devices (before 747)
	// samplers are those that its help lists; nil when it lists none.
	samplers *sampler.List
}

// listedDevice is a line of --list-devices.
type listedDevice struct {
	kind        string // lower case, without number: "cuda", "rocm", "vulkan", "cpu"
	ordinal     int    // 0 for names without number
	description string
}

// usable says what the program lacks; nil when it can be driven.
func (b build) usable() error {
	const advice = "update stable-diffusion.cpp to build 747 or newer"
	switch {
	case !b.flags["--listen-port"]:
		return fmt.Errorf("the program is not an sd-server (its help names no --listen-port): give stable-diffusion.cpp's examples/server program")
	case !b.flags["--backend"]:
		return fmt.Errorf("this sd-server (%s) has no --backend, so it can't be tied to a device: %s", b.name(), advice)
	}
	return nil
}

func (b build) name() string {
	if b.version == "" {
		return "version unknown"
	}
	return b.version
}

// probed is what asking the program gave.
type probed struct {
	build build
	err   error // why it could not be asked
}

// ask probes the program and keeps what it learnt.
func (f *Fleet) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, f.limits.probe)
	defer cancel()
	b, err := probe(ctx, f.cfg)
	if err == nil {
		err = b.usable()
	}
	if err != nil {
		f.cfg.Log.Warn("sd-server can't be used", "program", f.cfg.Program, "error", err)
	} else {
		f.cfg.Log.Info("sd-server found", "program", f.cfg.Program, "version", b.version, "devices", len(b.devices))
	}
	f.program.Store(&probed{b, err})
}

func (f *Fleet) askUntilAnswered(ctx context.Context) {
	fleet.AskUntil(ctx, func() bool { return f.program.Load().err == nil }, f.ask)
}

// probe asks the program for its version, flags and devices. It runs unmasked, and ends with ctx.
func probe(ctx context.Context, cfg Config) (build, error) {
	version, err := ask(ctx, cfg, "--version") // must be the first argument
	if err != nil {
		return build{}, err
	}
	help, err := ask(ctx, cfg, "-h")
	if err != nil {
		return build{}, err
	}
	b := build{flags: parseFlags(help), samplers: parseSamplers(help)}
	b.version, b.number = parseVersion(version + "\n" + help)
	if !b.flags["--list-devices"] {
		return b, nil
	}
	devices, err := ask(ctx, cfg, "--list-devices")
	if err != nil {
		return build{}, err
	}
	b.devices = parseDevices(devices)
	return b, nil
}

// ask runs the program with one argument and gives its stdout.
func ask(ctx context.Context, cfg Config, arg string) (string, error) {
	complaint := ""
	dir := filepath.Join(cfg.Dir, "probe")
	out, exit, err := fleet.Answer(ctx, process.Command{
		Path: cfg.Program, Args: []string{arg}, Env: environment(cfg, dir), Dir: dir, Stderr: func(line string) { complaint = line },
	})
	switch {
	case errors.Is(err, fleet.ErrSilent):
		return "", fmt.Errorf("sd-server %s did not answer in time: a driver may hang, see dmesg; asking again", arg)
	case err != nil:
		return "", fmt.Errorf("sd-server does not start: %w", err)
	case exit.Code != 0 && out == "":
		return "", fmt.Errorf("sd-server %s failed (%s): %s", arg, exit, orNothing(exchange.Clean(complaint)))
	}
	return out, nil
}

func orNothing(said string) string {
	if said == "" {
		return "it said nothing"
	}
	return said
}

var versionPattern = regexp.MustCompile(`version ([A-Za-z0-9._/-]*?-?(\d+)-[0-9a-f]+\+?)`)

// parseVersion finds "stable-diffusion.cpp version master-827-97d2990+, commit 97d29908".
func parseVersion(text string) (version string, number int) {
	m := versionPattern.FindStringSubmatch(text)
	if m == nil {
		return "", 0
	}
	number, err := strconv.Atoi(m[2])
	if err != nil {
		return m[1], 0
	}
	return m[1], number
}

var flagPattern = regexp.MustCompile(`(?m)^\s+(?:-[A-Za-z], )?(--[A-Za-z0-9][A-Za-z0-9_-]*)`)

// parseFlags finds the options that a help text explains.
func parseFlags(help string) map[string]bool {
	flags := map[string]bool{}
	for _, m := range flagPattern.FindAllStringSubmatch(help, -1) {
		flags[m[1]] = true
	}
	return flags
}

var (
	samplersPattern  = regexp.MustCompile(`(?m)^\s+--sampling-method\s[^\[]*\[([^\]]*)\]`)
	schedulesPattern = regexp.MustCompile(`(?m)^\s+--scheduler\s[^\[]*\[([^\]]*)\]`)
)

// parseSamplers finds the choices "one of [euler, euler_a, …]" that a help text gives for samplers and schedules; nil when it gives none.
func parseSamplers(help string) *sampler.List {
	choices := func(pattern *regexp.Regexp) []sampler.Name {
		m := pattern.FindStringSubmatch(help)
		if m == nil {
			return nil
		}
		return sampler.Named(strings.FieldsFunc(m[1], func(r rune) bool { return r == ',' || unicode.IsSpace(r) })...)
	}
	list := &sampler.List{Samplers: choices(samplersPattern), Schedules: choices(schedulesPattern)}
	if len(list.Samplers) == 0 {
		return nil
	}
	return list
}

var devicePattern = regexp.MustCompile(`^([A-Za-z][A-Za-z_]*?)(\d*)$`)

// parseDevices reads the "name<TAB>description" lines of --list-devices; other lines are a driver's chatter.
func parseDevices(text string) []listedDevice {
	devices := []listedDevice{}
	for line := range strings.Lines(text) {
		name, description, ok := strings.Cut(strings.TrimRight(line, "\r\n"), "\t")
		m := devicePattern.FindStringSubmatch(name)
		if !ok || m == nil {
			continue
		}
		ordinal := 0
		if m[2] != "" {
			n, err := strconv.Atoi(m[2])
			if err != nil {
				continue
			}
			ordinal = n
		}
		devices = append(devices, listedDevice{strings.ToLower(m[1]), ordinal, strings.TrimSpace(description)})
	}
	return devices
}
