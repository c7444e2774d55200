package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// options are the arguments that change what the fake does.
type options struct {
	ip, model, backend, loras string
	parts                     []string // files beside the model's own
	port                      int
	eager                     bool
	seed                      int64
	width, height, steps      int
	guidance                  float64
	disableEmbedImage         bool
}

// flag is one of the help text.
type flag struct {
	short, long, kind, text string
	group                   int
}

var groups = []string{"Svr Options:", "Context Options:", "Default Generation Options:"}

// flags are those of the real program that somebody may give it.
var flags = []flag{
	{"-l", "--listen-ip", "<string>", "server listen ip (default: 127.0.0.1)", 0},
	{"", "--serve-html-path", "<string>", "path to HTML file to serve at root (optional)", 0},
	{"", "--listen-port", "<int>", "server listen port (default: 1234)", 0},
	{"-v", "--verbose", "", "print extra info", 0},
	{"", "--color", "", "colors the logging tags according to level", 0},
	{"-h", "--help", "", "show this help message and exit", 0},
	{"-m", "--model", "<string>", "path to full model", 1},
	{"", "--clip_l", "<string>", "path to the clip-l text encoder", 1},
	{"", "--clip_g", "<string>", "path to the clip-g text encoder", 1},
	{"", "--t5xxl", "<string>", "path to the t5xxl text encoder", 1},
	{"", "--llm", "<string>", "path to the llm text encoder. For example: (qwenvl2.5 for qwen-image, mistral-small3.2 for flux2, ...)", 1},
	{"", "--diffusion-model", "<string>", "path to the standalone diffusion model", 1},
	{"", "--vae", "<string>", "path to standalone vae model", 1},
	{"", "--tae", "<string>", "alias of --taesd", 1},
	{"", "--lora-model-dir", "<string>", "lora model directory", 1},
	{"", "--hires-upscalers-dir", "<string>", "highres fix upscaler model directory", 1},
	{"", "--backend", "<string>", "runtime backend assignment, e.g. cpu or clip=cpu,vae=cuda0,diffusion=vulkan0", 1},
	{"", "--params-backend", "<string>", "parameter backend assignment, e.g. disk, cpu, or diffusion=disk,clip=cpu", 1},
	{"", "--max-vram", "<string>", "maximum VRAM budget in GiB for graph-cut segmented execution", 1},
	{"-t", "--threads", "<int>", "number of threads to use during computation (default: -1)", 1},
	{"", "--eager-load", "", "load all params into the params backend at model-load time instead of lazily on first use (defaults to false)", 1},
	{"", "--auto-fit", "", "pick the diffusion/te/vae device placements automatically", 1},
	{"", "--offload-to-cpu", "", "place the weights in RAM to save VRAM", 1},
	{"", "--mmap", "", "whether to memory-map model", 1},
	{"", "--fa", "", "use flash attention", 1},
	{"", "--diffusion-fa", "", "use flash attention in the diffusion model only", 1},
	{"", "--type", "", "weight type (examples: f32, f16, q4_0)", 1},
	{"", "--list-devices", "", "list available ggml backend devices (one 'name<TAB>description' per line) and exit", 1},
	{"-p", "--prompt", "<string>", "the prompt to render", 2},
	{"-n", "--negative-prompt", "<string>", "the negative prompt (default: \"\")", 2},
	{"-H", "--height", "<int>", "image height, in pixel space (default: 512)", 2},
	{"-W", "--width", "<int>", "image width, in pixel space (default: 512)", 2},
	{"", "--sampling-method", "", "sampling method, one of [" + strings.Join(samplers, ", ") + "], default: euler for Flux/SD3/Wan, euler_a otherwise", 2},
	{"", "--scheduler", "", "denoiser sigma scheduler, one of [" + strings.Join(slices.DeleteFunc(slices.Clone(schedulers), func(name string) bool { return name == "normal" }), ", ") + "], alias: normal=discrete, default: model-specific", 2},
	{"", "--steps", "<int>", "number of sample steps (default: 20)", 2},
	{"", "--cfg-scale", "<float>", "unconditional guidance scale: (default: 7.0)", 2},
	{"", "--vae-tiling", "", "process vae in tiles to reduce memory usage", 2},
	{"", "--disable-image-metadata", "", "do not embed generation metadata on image files", 2},
	{"-s", "--seed", "", "RNG seed (default: 42, use random seed for < 0)", 2},
}

// valued are the flags whose help shows no type although they take a value.
var valued = []string{"--seed", "--type", "--sampling-method", "--scheduler"}

// parse reads the arguments; done says that the program ends with the code given.
func (p *program) parse(args []string) (o options, code int, done bool) {
	o = options{ip: "127.0.0.1", port: 1234, seed: 42, width: 512, height: 512, steps: 20, guidance: 7}
	for i := 0; i < len(args); i++ {
		f, ok := p.known(args[i])
		if !ok {
			return o, p.usageError("common.cpp", 325, "error: unknown argument: %s", args[i]), true
		}
		switch f.long {
		case "--help":
			return o, p.probe(p.help()), true
		case "--list-devices":
			return o, p.probe(p.listing()), true
		}
		if f.kind == "" && !slices.Contains(valued, f.long) {
			o.eager = o.eager || f.long == "--eager-load"
			o.disableEmbedImage = o.disableEmbedImage || f.long == "--disable-image-metadata"
			continue
		}
		if i++; i == len(args) {
			return o, p.usageError("common.cpp", 325, "error: missing value of %s", f.long), true
		}
		if !o.set(f.long, args[i]) {
			return o, p.usageError("common.cpp", 325, "error: invalid value of %s", f.long), true
		}
	}
	switch {
	case o.model == "":
		return o, p.usageError("common.cpp", 742, "error: the following arguments are required: model_path/diffusion_model"), true
	case o.port < 0 || o.port > 65535:
		return o, p.usageError("runtime.cpp", 225, "error: listen_port should be in the range [0, 65535]"), true
	}
	return o, 0, false
}

func (p *program) known(arg string) (flag, bool) {
	for _, f := range flags {
		if (arg == f.long || arg == f.short && f.short != "") && !slices.Contains(p.settings.Without, f.long) {
			return f, true
		}
	}
	return flag{}, false
}

// set takes a value; false when it is no number where one belongs.
func (o *options) set(name, value string) bool {
	var err error
	switch name {
	case "--listen-ip":
		o.ip = value
	case "--model", "--diffusion-model":
		o.model = value
	case "--clip_l", "--clip_g", "--t5xxl", "--llm", "--vae":
		o.parts = append(o.parts, value)
	case "--backend":
		o.backend = value
	case "--lora-model-dir":
		o.loras = value
	case "--listen-port":
		o.port, err = strconv.Atoi(value)
	case "--seed":
		o.seed, err = strconv.ParseInt(value, 10, 64)
	case "--width":
		o.width, err = strconv.Atoi(value)
	case "--height":
		o.height, err = strconv.Atoi(value)
	case "--steps":
		o.steps, err = strconv.Atoi(value)
	case "--cfg-scale":
		o.guidance, err = strconv.ParseFloat(value, 64)
	}
	return err == nil
}

// usageError prints the help on stdout and the error on stderr.
func (p *program) usageError(file string, number int, format string, args ...any) int {
	fmt.Fprint(p.out, p.help())
	return p.refuse(line("ERROR", file, number, format, args...))
}

// help has the shape of the real one: version, usage, groups, two columns.
func (p *program) help() string {
	var text strings.Builder
	fmt.Fprintf(&text, "stable-diffusion.cpp version %s, commit %s\nUsage: %s [options]\n", p.settings.Version, commit(p.settings.Version), os.Args[0])
	for group, title := range groups {
		fmt.Fprintf(&text, "\n%s\n", title)
		for _, f := range flags {
			if f.group != group || slices.Contains(p.settings.Without, f.long) {
				continue
			}
			name := f.long
			if f.short != "" {
				name = f.short + ", " + f.long
			}
			fmt.Fprintf(&text, "  %-40s %s\n", strings.TrimSpace(name+" "+f.kind), wrap(f.text))
		}
	}
	return text.String()
}

// wrap breaks a text of the second column as the real program does.
func wrap(text string) string {
	const width, indent = 77, 43
	var out strings.Builder
	at := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case at+1+len(word) > width:
			out.WriteString("\n" + strings.Repeat(" ", indent))
			at = 0
		default:
			out.WriteByte(' ')
			at++
		}
		out.WriteString(word)
		at += len(word)
	}
	return out.String()
}
