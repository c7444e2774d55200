package attach

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"muster/agent/backend"
	"muster/agent/durable"
	"muster/shared/sampler"
)

// memoryVersion is raised when older agents would misread the file.
const memoryVersion = 1

// memoryFile is the file of a Memory.
type memoryFile struct {
	Version int                   `json:"version"`
	Servers map[string]pastInFile `json:"generators"`
}

// pastInFile is a past whose models share their lists of samplers: written with each of thousands they would fill megabytes.
type pastInFile struct {
	past
	Models   []modelInFile   `json:"models"`
	Samplers []*sampler.List `json:"samplers,omitempty"`
}

type modelInFile struct {
	backend.Model
	Samplers int `json:"samplers_of,omitempty"` // position among those of the server, from 1; 0 for not known
}

func (p past) inFile() pastInFile {
	out := pastInFile{past: p, Models: make([]modelInFile, len(p.Models))}
	for i, m := range p.Models {
		out.Models[i].Model = m
		out.Models[i].Model.Samplers = nil
		if m.Samplers == nil {
			continue
		}
		at := slices.Index(out.Samplers, m.Samplers)
		if at < 0 {
			at = len(out.Samplers)
			out.Samplers = append(out.Samplers, m.Samplers)
		}
		out.Models[i].Samplers = at + 1
	}
	return out
}

func (p pastInFile) read() past {
	out := p.past
	out.Models = make([]backend.Model, len(p.Models))
	for i, m := range p.Models {
		out.Models[i] = m.Model
		if m.Samplers > 0 && m.Samplers <= len(p.Samplers) {
			out.Models[i].Samplers = p.Samplers[m.Samplers-1]
		}
	}
	return out
}

// readMemory reads a Memory's file; what it gives is never nil. No file is no error.
func readMemory(path string) (map[string]past, error) {
	empty := map[string]past{}
	// Whatever stands there must not keep the agent from starting: a pipe would, without O_NONBLOCK.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no ordinary file")
	}
	if err != nil {
		return empty, err
	}
	raw, err := io.ReadAll(io.LimitReader(file, maxMemoryBytes+1))
	if err == nil && len(raw) > maxMemoryBytes {
		err = fmt.Errorf("it has more than %d bytes", maxMemoryBytes)
	}
	if err != nil {
		return empty, err
	}
	servers, err := parseMemory(raw)
	if err != nil {
		return empty, err
	}
	return servers, nil
}

// parseMemory gives what a file holds, within the bounds.
func parseMemory(raw []byte) (map[string]past, error) {
	var file memoryFile
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	if file.Version != memoryVersion {
		return nil, fmt.Errorf("it is of version %d, and this agent reads %d", file.Version, memoryVersion)
	}
	servers := map[string]past{}
	for id, inFile := range file.Servers {
		p := inFile.read()
		if len(p.Title) > maxPastText || len(p.Device) > maxPastText {
			continue
		}
		p.Models = rememberable(p.Models)
		servers[id] = p
	}
	return servers, nil
}

// writeMemory replaces a Memory's file.
func writeMemory(path string, servers map[string]past) error {
	raw, err := encodeMemory(servers)
	if err != nil {
		return err
	}
	return durable.Replace(path, raw)
}

// encodeMemory never gives a file that would not be read again: too many models of too many servers are an error.
func encodeMemory(servers map[string]past) ([]byte, error) {
	file := memoryFile{Version: memoryVersion, Servers: map[string]pastInFile{}}
	for id, p := range servers {
		file.Servers[id] = p.inFile()
	}
	raw, err := json.MarshalIndent(file, "", " ")
	if err == nil && len(raw) > maxMemoryBytes {
		err = fmt.Errorf("they have so many models that their list takes %d bytes, more than %d", len(raw), maxMemoryBytes)
	}
	return raw, err
}
