package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// options are the arguments that change what the fake does.
type options struct {
	listen, cudaDevice, previews string
	port                         int
	cpu, noMetadata              bool
	output, temp, input, user    string
	base                         string
	extra                        []string
}

// flags are those of comfy/cli_args.py that somebody may give it, with what follows each: "" nothing, "?" perhaps a value.
var flags = map[string]string{
	"--listen": "?", "--port": "PORT", "--tls-keyfile": "FILE", "--tls-certfile": "FILE", "--enable-cors-header": "?", "--max-upload-size": "MB",
	"--base-directory": "DIR", "--extra-model-paths-config": "PATH", "--output-directory": "DIR", "--temp-directory": "DIR", "--input-directory": "DIR",
	"--auto-launch": "", "--disable-auto-launch": "", "--cuda-device": "DEVICE_ID", "--default-device": "ID", "--preview-method": "METHOD",
	"--preview-size": "SIZE", "--cache-lru": "N", "--cache-none": "", "--gpu-only": "", "--highvram": "", "--lowvram": "", "--novram": "", "--cpu": "",
	"--reserve-vram": "GB", "--disable-smart-memory": "", "--disable-metadata": "", "--disable-all-custom-nodes": "", "--multi-user": "",
	"--user-directory": "DIR", "--database-url": "URL", "--verbose": "?", "--log-stdout": "", "--dont-print-server": "", "--disable-api-nodes": "",
}

func (p *program) known(name string) bool {
	_, ok := flags[name]
	return ok && !slices.Contains(p.settings.Without, name)
}

// help has the shape of argparse's.
func (p *program) help() string {
	var names []string
	for name := range flags {
		if p.known(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var text strings.Builder
	text.WriteString("usage: main.py [-h]\n\noptions:\n  -h, --help            show this help message and exit\n")
	for _, name := range names {
		kind := flags[name]
		if kind == "?" {
			kind = "[VALUE]"
		}
		fmt.Fprintf(&text, "  %s\n                        what it is for\n", strings.TrimSpace(name+" "+kind))
	}
	return text.String()
}

// parse reads the arguments as argparse does; else its complaint.
func (p *program) parse(args []string) (o options, complaint string) {
	o = options{listen: "127.0.0.1", port: 8188, previews: "none"}
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		if !p.known(name) {
			return o, "unrecognized arguments: " + args[i]
		}
		kind := flags[name]
		if kind != "" && !joined {
			if i+1 < len(args) && !strings.HasPrefix(args[i+1], "--") {
				i++
				value = args[i]
			} else if kind != "?" {
				return o, "argument " + name + ": expected one argument"
			}
		}
		if complaint := o.set(name, value); complaint != "" {
			return o, complaint
		}
	}
	return o, ""
}

func (o *options) set(name, value string) (complaint string) {
	switch name {
	case "--listen":
		o.listen = value
		if value == "" {
			o.listen = "0.0.0.0"
		}
	case "--port":
		port, err := strconv.Atoi(value)
		if err != nil {
			return "argument --port: invalid int value: '" + value + "'"
		}
		o.port = port
	case "--cuda-device":
		o.cudaDevice = value
	case "--cpu":
		o.cpu = true
	case "--preview-method":
		if !slices.Contains([]string{"none", "auto", "latent2rgb", "taesd"}, value) {
			return "argument --preview-method: invalid choice: '" + value + "'"
		}
		o.previews = value
	case "--disable-metadata":
		o.noMetadata = true
	case "--output-directory":
		o.output = value
	case "--temp-directory":
		o.temp = value
	case "--input-directory":
		o.input = value
	case "--user-directory":
		o.user = value
	case "--base-directory":
		o.base = value
	case "--extra-model-paths-config":
		o.extra = append(o.extra, value)
	}
	return ""
}
