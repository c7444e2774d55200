package agent

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"

	"muster/agent/backend/attach"
	"muster/agent/models"
	"muster/agent/scheduler"
)

// Config is everything that a person can set. It is filled once, by AddFlags and Fill, checked once, by Validate, and then only
// read.
type Config struct {
	// Listen is the address of page and API, host:port; port 0 takes a free one. Only loopback addresses are allowed.
	Listen string
	// Data is the folder of jobs, images and the token. It is made with mode 0700.
	Data string
	// SysRoot is where sys, proc, opt and usr are looked for; "/" is the machine itself.
	SysRoot string
	// Simulate names devices to simulate ("2x MI25, 1x RTX 4090"); "" uses the real ones.
	Simulate string
	// Interval is the time between two snapshots.
	Interval time.Duration
	// Policy chooses the scheduler's policy by name.
	Policy string
	// SDServer is the path of a stable-diffusion.cpp sd-server; "" generates with the built-in renderer only.
	SDServer string
	// SDBackend is what sd-server's --backend gets ("cuda0", "vulkan0"); "" detects it.
	SDBackend string
	// SDThreads is what sd-server's -t gets; 0 is 1 on a GPU.
	SDThreads int
	// ComfyUI, SDAPI and OpenAI are the addresses of generators that somebody else runs: http://127.0.0.1:8188#0, where #0 is the
	// device that they work on, where that can't be found out (see attach.Parse).
	ComfyUI, SDAPI, OpenAI []string
	// ComfyUIDir is the folder of a ComfyUI that is started for each device; "" starts none. ComfyUIPython is the interpreter that runs
	// it; "" looks for the one of its own environment.
	ComfyUIDir, ComfyUIPython string
	// Models is the folder of model files; "" is Data/models, which is made.
	Models string
	// Hub is the base address of the hub from which models are installed by repository; https only. "" is models.DefaultHub.
	Hub string
	// HubToken is sent to the hub alone; "" for none. It comes from MUSTER_HUB_TOKEN only, so that no command line shows it.
	HubToken string
	// AllowHosts are further values of the Host header that are served, as name:port (for ssh -L).
	AllowHosts []string
	// Python is the interpreter whose PyTorch is reported; "" looks in $VIRTUAL_ENV and on PATH. It is never run.
	Python string
	// NVML is the path of libnvidia-ml.so.1; "" searches as the driver's own tools do, "off" leaves it alone.
	NVML string
	// AMDSMI is the path of libamd_smi.so; "" searches where ROCm and the dynamic linker put it, "off" leaves it alone.
	AMDSMI string
	// KillCollectors ends a process that hangs in a driver call by SIGKILL when the agent ends, which can hang the device for
	// good. Otherwise it is left behind.
	KillCollectors bool
	// ProcessCommands shows the command lines of programs on the devices. They can hold secrets.
	ProcessCommands bool
	// KeepFor is how long jobs that have ended are kept, with their images; 0 keeps them for ever.
	KeepFor time.Duration
	// KeepBytes is how many bytes of images are kept: beyond it the oldest sets that have ended go; 0 is no limit.
	KeepBytes Size
	// MaxClients bounds open event sockets.
	MaxClients int
	// Token is what programs send as Bearer; "" keeps the one in Data/token. It comes from MUSTER_TOKEN only, so that no
	// command line shows it.
	Token string
}

// Bounds of Interval: 10 Hz, and a pace at which a page still looks alive.
const (
	MinInterval = 100 * time.Millisecond
	MaxInterval = time.Minute
)

// The least KeepFor and KeepBytes: less is a unit that was forgotten, and what is removed is gone.
const (
	MinKeepFor   = time.Minute
	MinKeepBytes = 1_000_000
)

// EnvironmentPrefix begins the name of every environment variable that is a setting.
const EnvironmentPrefix = "MUSTER_"

// Default is the configuration of a machine on which nobody set anything.
func Default() Config {
	return Config{
		Listen: "127.0.0.1:8000", Data: defaultData(), SysRoot: "/", Interval: time.Second, Policy: string(scheduler.Predicted),
		MaxClients: 256,
	}
}

// defaultData is $XDG_DATA_HOME/muster, else ~/.local/share/muster, as the XDG base directory specification says.
func defaultData() string {
	base := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(base) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "muster-data"
		}
		base = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(base, "muster")
}

// AddFlags binds every setting to a flag whose default is the present value. The flag's name is also the key in the
// configuration file, and MUSTER_ with its capitals the environment variable.
func (c *Config) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&c.Listen, "listen", c.Listen, "address of page and API; loopback only (port 0: any free one)")
	flags.StringVar(&c.Data, "data", c.Data, "folder of jobs, images and the token")
	flags.StringVar(&c.SysRoot, "sysroot", c.SysRoot, "look for sys, proc, opt and usr below this folder")
	flags.StringVar(&c.Simulate, "simulate", c.Simulate, `simulate devices instead of reading real ones: "2x MI25, 1x RTX 4090"; "MI25 busy 30s/90s" has another program, simulated too, use it for 30 s after each 90 s`)
	flags.DurationVar(&c.Interval, "interval", c.Interval, "time between two snapshots (100ms to 1m)")
	flags.StringVar(&c.Policy, "policy", c.Policy, "how images are spread: predicted, least-loaded or round-robin")
	flags.StringVar(&c.SDServer, "sd-server", c.SDServer, "path of stable-diffusion.cpp's sd-server")
	flags.StringVar(&c.SDBackend, "sd-backend", c.SDBackend, "what sd-server's --backend gets, such as cuda0 (default: detect)")
	flags.IntVar(&c.SDThreads, "sd-threads", c.SDThreads, "CPU threads of each sd-server (default: 1 on a GPU)")
	flags.StringSliceVar(&c.ComfyUI, "comfyui", c.ComfyUI, "address of a running ComfyUI, as http://127.0.0.1:8188#0 for the one on device 0; may be repeated")
	flags.StringSliceVar(&c.SDAPI, "sdapi", c.SDAPI, "the same of A1111, Forge, SD.Next, koboldcpp or sd-server (http://USER:PASSWORD@127.0.0.1:7860#0 with --api-auth)")
	flags.StringSliceVar(&c.OpenAI, "openai", c.OpenAI, "the same of a server of OpenAI's images API, such as LocalAI (http://127.0.0.1:8080?model=NAME#0)")
	flags.StringVar(&c.ComfyUIDir, "comfyui-dir", c.ComfyUIDir, "folder of a ComfyUI (with main.py) to start for each device")
	flags.StringVar(&c.ComfyUIPython, "comfyui-python", c.ComfyUIPython, "interpreter for it (default: that of its own environment, then python3)")
	flags.StringVar(&c.Models, "models", c.Models, "folder of model files, .safetensors and .gguf (default: models in the data folder)")
	flags.StringVar(&c.Hub, "hub", c.Hub, "https address of the hub that models are installed from by repository (default: "+models.DefaultHub+")")
	flags.StringSliceVar(&c.AllowHosts, "allow-host", c.AllowHosts, "serve this Host too, as name:port (for ssh -L); may be repeated")
	flags.StringVar(&c.Python, "python", c.Python, "interpreter whose PyTorch is reported; it is not run")
	flags.StringVar(&c.NVML, "nvml", c.NVML, "path of libnvidia-ml.so.1, or off (default: search)")
	flags.StringVar(&c.AMDSMI, "amdsmi", c.AMDSMI, "path of libamd_smi.so, or off (default: search)")
	flags.BoolVar(&c.KillCollectors, "kill-collectors", c.KillCollectors, "kill what hangs in a driver call when the agent ends; it may hang the device for good")
	flags.BoolVar(&c.ProcessCommands, "process-commands", c.ProcessCommands, "show the command lines of programs on the devices, which can hold secrets")
	flags.DurationVar(&c.KeepFor, "keep-for", c.KeepFor, "remove jobs and images this long after they ended, such as 720h (0: never)")
	flags.Var(&c.KeepBytes, "keep-bytes", "remove the oldest jobs that have ended when images take more than this, such as 50GB (0: never)")
	flags.IntVar(&c.MaxClients, "max-clients", c.MaxClients, "open event sockets at most")
}

// Fill gives every flag that the command line left out its value from the environment, else from the file at path. "" is no
// file. Precedence is flags, environment, file, defaults.
func (c *Config) Fill(flags *pflag.FlagSet, path string, lookup func(string) (string, bool)) error {
	file, err := readFile(path, flags)
	if err != nil {
		return err
	}
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || failed != nil {
			return
		}
		variable := EnvironmentPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := lookup(variable)
		source := "environment variable " + variable
		if !ok {
			value, ok = file[f.Name]
			source = fmt.Sprintf("%s: key %q", path, f.Name)
		}
		if !ok {
			return
		}
		if err := f.Value.Set(value); err != nil {
			failed = fmt.Errorf("%s: %q: %w", source, value, err)
		}
	})
	if token, ok := lookup(EnvironmentPrefix + "TOKEN"); ok {
		c.Token = token
	}
	if token, ok := lookup(EnvironmentPrefix + "HUB_TOKEN"); ok {
		c.HubToken = token
	}
	return failed
}

// readFile gives the values of a TOML file by flag name. A key that is no flag is refused, for it is most likely a slip.
func readFile(path string, flags *pflag.FlagSet) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	var raw map[string]any
	if _, err := toml.DecodeFile(path, &raw); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	values := map[string]string{}
	for key, value := range raw {
		if flags.Lookup(key) == nil {
			return nil, fmt.Errorf("configuration %s: unknown key %q; the keys are the names of the flags of muster serve --help", path, key)
		}
		switch v := value.(type) {
		case string, int64, bool:
			values[key] = fmt.Sprint(v)
		case []any:
			words := make([]string, len(v))
			for i := range v {
				words[i] = fmt.Sprint(v[i])
			}
			values[key] = strings.Join(words, ",")
		default:
			return nil, fmt.Errorf("configuration %s: key %q: want a string, a whole number, a boolean or a list", path, key)
		}
	}
	return values, nil
}

// Validate checks what can be checked without touching the machine. Its errors name the flag and what is allowed.
func (c *Config) Validate() error {
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("--listen %q: want host:port, such as 127.0.0.1:8000", c.Listen)
	}
	if !loopback(host) || port == "" {
		return fmt.Errorf("--listen %q: this version serves loopback only (127.0.0.1, [::1] or localhost); reach it from elsewhere with ssh -L, see the README", c.Listen)
	}
	if c.Data == "" {
		return fmt.Errorf("--data: must name a folder")
	}
	if c.Interval < MinInterval || c.Interval > MaxInterval {
		return fmt.Errorf("--interval %s: allowed is %s to %s", c.Interval, MinInterval, MaxInterval)
	}
	if _, err := scheduler.ParsePolicy(c.Policy); err != nil {
		return fmt.Errorf("--policy: %w", err)
	}
	if c.Simulate != "" && filepath.Clean(c.SysRoot) != "/" {
		return fmt.Errorf("--simulate and --sysroot: use one of them, for a simulated machine has no files")
	}
	if c.KeepFor != 0 && c.KeepFor < MinKeepFor {
		return fmt.Errorf("--keep-for %s: want at least %s, or 0 to keep jobs for ever", c.KeepFor, MinKeepFor)
	}
	if c.KeepBytes != 0 && c.KeepBytes < MinKeepBytes {
		return fmt.Errorf("--keep-bytes %s: want at least 1MB, with its unit (such as 50GB), or 0 for no limit", c.KeepBytes)
	}
	if _, err := models.ParseHub(c.Hub); err != nil {
		return fmt.Errorf("--hub %w", err)
	}
	for _, allowed := range c.AllowHosts {
		if name, port, err := net.SplitHostPort(allowed); err != nil || name == "" || port == "" {
			return fmt.Errorf("--allow-host %q: want name:port, such as muster.local:8000", allowed)
		}
	}
	if err := c.validateAttached(); err != nil {
		return err
	}
	if c.SDServer != "" && c.ComfyUIDir != "" {
		return fmt.Errorf("--sd-server and --comfyui-dir: give one of them, for a device has one generator; a ComfyUI that you start yourself (--comfyui) may stand beside sd-server")
	}
	if c.MaxClients < 1 || c.SDThreads < 0 {
		return fmt.Errorf("--max-clients must be at least 1 and --sd-threads at least 0")
	}
	return nil
}

// validateAttached checks the addresses of generators that somebody else runs. One that is given twice would be used twice at once, and
// for two devices.
func (c *Config) validateAttached() error {
	taken := map[string]string{}
	for _, kind := range []struct {
		name      string
		addresses []string
	}{{"comfyui", c.ComfyUI}, {"sdapi", c.SDAPI}, {"openai", c.OpenAI}} {
		for _, address := range kind.addresses {
			parsed, err := attach.Parse(kind.name, address)
			if err != nil {
				return fmt.Errorf("--%s: %w", kind.name, err)
			}
			if before, twice := taken[parsed.Port()]; twice {
				return fmt.Errorf("--%s: the server on port %s is given twice (by --%s too): a server works on one device, so give it once", kind.name, parsed.Port(), before)
			}
			taken[parsed.Port()] = kind.name
		}
	}
	return nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

// ModelsDir is where model files are.
func (c *Config) ModelsDir() string {
	if c.Models != "" {
		return c.Models
	}
	return filepath.Join(c.Data, "models")
}
