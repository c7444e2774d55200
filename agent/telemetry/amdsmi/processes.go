package amdsmi

import (
	"fmt"
	"path"

	"muster/shared/gpu"
)

// processSlack is how much is kept for each process of a list, whatever its size by the layout.
const processSlack = 1024

// decode reads a list of n processes from a buffer that was filled with the canary: nothing may have been written behind the list,
// and each of its elements must have been, to its end.
func (l processLayout) decode(b []byte, n int) ([]gpu.Process, error) {
	if n < 0 || n*l.bytes > len(b) {
		return nil, fmt.Errorf("a list of %d processes does not fit", n)
	}
	if !untouched(b[n*l.bytes:]) {
		return nil, fmt.Errorf("elements of the list are longer than %d bytes", l.bytes)
	}
	list := make([]gpu.Process, 0, n)
	for i := range n {
		element := b[i*l.bytes : (i+1)*l.bytes]
		if l.bytes > 4 && untouched(element[l.bytes-4:]) {
			return nil, fmt.Errorf("elements of the list are shorter than %d bytes", l.bytes)
		}
		p, err := l.decodeOne(element)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

func (l processLayout) decodeOne(b []byte) (gpu.Process, error) {
	pid, ok := l.pid.number(b)
	if !ok || pid == 0 || pid > maxPID {
		return gpu.Process{}, fmt.Errorf("%d is no process", pid)
	}
	name, ok := l.name.text(b)
	if !ok {
		return gpu.Process{}, fmt.Errorf("the name of a process is no text")
	}
	p := gpu.Process{PID: int(pid)}
	if name = told(name); name != "" {
		p.Name = path.Base(name)
	}
	if bytes, ok := l.memory.number(b); ok && bytes <= maxMiB<<20 {
		p.MemoryBytes = &bytes
	}
	return p, nil
}

// maxProcesses bounds a list of processes.
const maxProcesses = 8192

// processes lists the processes on a device. The list is given room for more than the library said were needed the last time, and
// grows while that is too little: new processes may start in between. Versions before ROCm 6.0 don't say how much is needed.
func (s *session) processes(h handle) ([]gpu.Process, status) {
	l := s.layout.process
	if s.distrustful(fnProcesses) != "" {
		return nil, notTrusted
	}
	for room := 32; room <= maxProcesses; {
		buf := make([]byte, room*processSlack)
		guard(buf)
		count := uint32(room)
		result := s.getProcesses(h, &count, &buf[0])
		if result == outOfResources {
			room = max(2*room, int(min(count, maxProcesses))+16)
			continue
		}
		if result != success {
			return nil, result
		}
		list, err := l.decode(buf, int(count))
		if err != nil {
			s.leaveOut(fnProcesses, err.Error())
			return nil, notTrusted
		}
		return list, success
	}
	return nil, outOfResources
}
