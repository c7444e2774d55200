package comfyui

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"muster/agent/backend/exchange"
	"muster/agent/backend/fleet"
	"muster/agent/process"
)

// install is a ComfyUI on this machine, as far as it is known without starting it.
type install struct {
	premises
	flags map[string]bool // that it knows
	err   error           // why it could not be asked; nil when it could
}

// premises are what its folder has.
type premises struct {
	python  string // the interpreter that it is run with
	version string // "0.3.64"; "" when it does not say
	fault   error  // why it can't be run from there; nil when it can
}

// examine looks at the folder and at the interpreter. It lasts as long as their disks do: both are read, for a program that is started from
// a disk that hangs would hold up every other start of one.
func (f *Fleet) examine() premises {
	if info, err := os.Stat(f.main()); err != nil || !info.Mode().IsRegular() {
		return premises{fault: fmt.Errorf("there is no main.py in %s: give the folder of ComfyUI that has it", f.cfg.Folder)}
	}
	python, err := findPython(f.cfg.Folder, f.cfg.Python)
	if err != nil {
		return premises{fault: err}
	}
	touch(f.main())
	touch(python)
	return premises{python: python, version: readVersion(f.cfg.Folder)}
}

// touch reads the beginning of a file, whatever comes of it.
func touch(path string) {
	if file, err := os.Open(path); err == nil {
		_, _ = file.Read(make([]byte, 1))
		_ = file.Close()
	}
}

// examined has the folder looked at by a goroutine, and waits for it for a while. One that does not return is waited for again the next
// time. ok is false when it did not.
func (f *Fleet) examined(ctx context.Context) (found premises, ok bool) {
	if f.examining == nil {
		examined := make(chan premises, 1)
		f.examining = examined
		go func() { examined <- f.cfg.examine() }()
	}
	patience := time.NewTimer(f.limits.scanned)
	defer patience.Stop()
	select {
	case found = <-f.examining:
		f.examining = nil
		return found, true
	case <-patience.C:
	case <-ctx.Done():
	}
	return premises{}, false
}

func (i install) title() string { return strings.TrimSpace("ComfyUI " + i.version) }

// pythons are where an interpreter is looked for in ComfyUI's folder, and beside it: the portable package has its own there.
var pythons = []string{"venv/bin/python", ".venv/bin/python", "env/bin/python", "python_embeded/bin/python3", "../python_embeded/bin/python3", "../venv/bin/python", "../.venv/bin/python"}

// findPython gives the interpreter that ComfyUI is run with: as configured, of its own environment, else the system's.
func findPython(folder, configured string) (string, error) {
	if configured != "" {
		path, err := exec.LookPath(configured)
		if err != nil {
			return "", fmt.Errorf("interpreter %s can't be run: %w: name the Python that ComfyUI is run with (--comfyui-python)", configured, process.Cause(err))
		}
		return filepath.Abs(path)
	}
	for _, place := range pythons {
		path := filepath.Join(folder, filepath.FromSlash(place))
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil // not resolved: an environment is known by the path that it is called by
		}
	}
	path, err := exec.LookPath("python3")
	if err != nil {
		return "", fmt.Errorf("no Python interpreter in %s/venv, nor python3 on PATH: name the one that ComfyUI is run with", folder)
	}
	return filepath.Abs(path)
}

var versionPattern = regexp.MustCompile(`(?m)^__version__\s*=\s*["']([0-9A-Za-z.+-]{1,40})["']`)

// readVersion reads comfyui_version.py; "" when it is not there, as before 2025.
func readVersion(folder string) string {
	text, err := os.ReadFile(filepath.Join(folder, "comfyui_version.py"))
	if err != nil || len(text) > 1<<16 {
		return ""
	}
	if m := versionPattern.FindSubmatch(text); m != nil {
		return string(m[1])
	}
	return ""
}

var flagPattern = regexp.MustCompile(`--[a-z0-9][a-z0-9-]*`)

// parseFlags finds the options of a help text.
func parseFlags(help string) map[string]bool {
	flags := map[string]bool{}
	for _, flag := range flagPattern.FindAllString(help, -1) {
		flags[flag] = true
	}
	return flags
}

// needed are the options without which no instance can be started as it must be.
var needed = []string{"--listen", "--port", "--output-directory", "--temp-directory", "--extra-model-paths-config"}

// ask asks ComfyUI which options it knows, and keeps what it learnt.
func (f *Fleet) ask(ctx context.Context) {
	found, ok := f.examined(ctx)
	if ctx.Err() != nil {
		return // the agent stops
	}
	i := install{premises: found, err: found.fault}
	if !ok {
		i.err = fmt.Errorf("the folder of ComfyUI, %s, does not answer: its disk or network may hang; it is asked again and again", f.cfg.Folder)
	}
	if i.err == nil {
		i.flags, i.err = f.options(ctx, found.python)
	}
	if i.err != nil {
		f.cfg.Log.Warn("ComfyUI can't be used", "folder", f.cfg.Folder, "error", i.err)
	} else {
		f.cfg.Log.Info("ComfyUI found", "folder", f.cfg.Folder, "version", i.version, "python", i.python)
	}
	f.install.Store(&i)
}

// options gives those that ComfyUI knows.
func (f *Fleet) options(ctx context.Context, python string) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, f.limits.probe)
	defer cancel()
	help, err := f.help(ctx, python)
	flags := parseFlags(help)
	if err == nil {
		for _, flag := range needed {
			if !flags[flag] {
				err = fmt.Errorf("this ComfyUI has no %s: update it", flag)
				break
			}
		}
	}
	return flags, err
}

// help runs main.py --help, which ends before PyTorch is imported.
func (f *Fleet) help(ctx context.Context, python string) (string, error) {
	said := newOutput()
	dir := filepath.Join(f.cfg.Dir, "probe")
	out, exit, err := fleet.Answer(ctx, process.Command{
		Path: python, Args: []string{f.main(), "--help"}, Env: f.environment(dir), Dir: dir, Stderr: said.line,
	})
	switch {
	case errors.Is(err, fleet.ErrSilent):
		return "", errors.New("ComfyUI did not answer --help in time; asking again")
	case err != nil:
		return "", fmt.Errorf("ComfyUI does not start: %w", err)
	case exit.Code != 0:
		return "", fmt.Errorf("ComfyUI can't be run with %s (%s): %s: name the Python of its own environment with --comfyui-python, or install what it needs with %s -m pip install -r %s",
			python, exit, orNothing(said.complaint()), python, filepath.Join(f.cfg.Folder, "requirements.txt"))
	}
	return out, nil
}

func (f *Fleet) askUntilAnswered(ctx context.Context) {
	fleet.AskUntil(ctx, func() bool { return f.install.Load().err == nil }, f.ask)
}

// modelExtensions are the files that ComfyUI lists.
var modelExtensions = []string{".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".pt2", ".bin", ".pkl"}

// maxVisited bounds the files and folders that are looked at below one models folder.
const maxVisited = 50_000

// scan lists the files of ComfyUI's models folder and of muster's, as ComfyUI will: what is known before the first start. It lasts as
// long as the disk does.
func (f *Fleet) scan() listing {
	l := listing{catalogue: catalogue{files: map[string][]string{}}, extra: f.extraFolders()}
	at := func(folder string) string { return filepath.Join(f.cfg.Folder, "models", folder) }
	for folder, dirs := range map[string][]string{
		folderCheckpoints: {at("checkpoints")}, folderDiffusion: {at("unet"), at("diffusion_models")},
		folderEncoders: {at("text_encoders"), at("clip")}, folderVAE: {at("vae")},
	} {
		for _, extra := range l.extra {
			if extra.folder == folder {
				dirs = append(dirs, extra.path)
			}
		}
		for _, dir := range dirs {
			files, all := listFiles(dir, maxVisited)
			l.files[folder] = append(l.files[folder], files...)
			if !all {
				l.cut = max(l.cut, dir) // always the same one of several
			}
		}
		slices.Sort(l.files[folder])
		l.files[folder] = slices.Compact(l.files[folder])
	}
	return l
}

// listFiles lists the model files below a folder, relative to it. Links to files count, those to folders are not followed. all is
// false when more than so many files and folders are there: those behind are not seen.
func listFiles(dir string, visits int) (files []string, all bool) {
	all = true
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if visits--; visits < -1 || len(files) >= maxFiles { // the folder itself is visited too
			all = false
			return fs.SkipAll
		}
		if err != nil {
			return nil // a folder that can't be read has nothing
		}
		name, err := filepath.Rel(dir, path)
		if err == nil && !entry.IsDir() && slices.Contains(modelExtensions, strings.ToLower(filepath.Ext(path))) && usableFile(name) {
			files = append(files, name)
		}
		return nil
	})
	return files, all
}

// extraFolder is a folder of muster's that ComfyUI looks into too.
type extraFolder struct{ folder, path string }

// extraFolders are muster's models folder, whose files are checkpoints, and those below it that are called as ComfyUI's are.
func (f *Fleet) extraFolders() []extraFolder {
	if f.cfg.Models == "" {
		return nil
	}
	extra := []extraFolder{{folderCheckpoints, f.cfg.Models}}
	for _, folder := range []string{folderDiffusion, folderEncoders, folderVAE, "loras"} {
		path := filepath.Join(f.cfg.Models, folder)
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			extra = append(extra, extraFolder{folder, path})
		}
	}
	return extra
}

// modelPaths is the file for --extra-model-paths-config. A quoted Go string is one of YAML's too, as long as it has no other escapes
// than these.
func modelPaths(extra []extraFolder) (string, error) {
	if len(extra) == 0 {
		return "", nil
	}
	var text strings.Builder
	text.WriteString("# written by muster with every start\nmuster:\n")
	for _, e := range extra {
		if strings.ContainsFunc(e.path, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) {
			return "", fmt.Errorf("the models folder %q has a name that ComfyUI can't be told: call it otherwise", exchange.Clean(e.path))
		}
		fmt.Fprintf(&text, "    %s: \"%s\"\n", e.folder, e.path)
	}
	return text.String(), nil
}
