package server

import (
	"context"
	"encoding/json"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"muster/shared/job"
	"muster/shared/wire"
)

// A socket may send 64 commands a second; who sends more is read more slowly.
const commandsPerSecond = 64

// readCommands carries out commands until the connection ends. Reading is also what answers pings and close.
func (s *Server) readCommands(k *socket) {
	var pace bucket
	for {
		kind, frame, err := k.conn.Read(context.Background()) // ends with the connection; a context would cut it without a word
		if err != nil {
			k.end(0, "")
			return
		}
		if wait := pace.take(time.Now(), commandsPerSecond, time.Second/commandsPerSecond); wait > 0 {
			k.sleep(wait)
			pace.take(time.Now(), commandsPerSecond, time.Second/commandsPerSecond)
		}
		if kind != websocket.MessageText {
			k.answer(invalid("", "commands are JSON text, in both subprotocols").event(""))
			continue
		}
		s.command(k, frame)
	}
}

func (k *socket) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-k.ended:
	}
}

// answer hands an event to the writer. While many wait it blocks, and so does reading: a client that does not listen can't talk.
func (k *socket) answer(e wire.Event) {
	select {
	case k.replies <- e:
	case <-k.ended:
	}
}

// command carries out one frame. What is accepted is answered by the job's own event, which comes through the feed; here only
// what the feed has no reason to tell: refusals, and the jobs of a command that was sent before.
func (s *Server) command(k *socket, frame []byte) {
	jobs, id, err := s.carryOut(k.who, frame)
	if err != nil {
		refused := refusalOf(err)
		if refused.code == "internal" {
			s.log.Error("command failed", "error", err)
		}
		k.answer(refused.event(id))
		return
	}
	for i := range jobs {
		k.answer(wire.Event{Job: &jobs[i]})
	}
}

// carryOut gives the jobs that nothing changed, and the command's id as far as it could be read.
func (s *Server) carryOut(who caller, frame []byte) (unchanged []job.Job, id string, err error) {
	id, spec := peek(frame)
	if !utf8.Valid(frame) {
		return nil, cut(id), errNotUTF8
	}
	command, err := wire.DecodeCommand(frame)
	if err != nil {
		return nil, cut(id), explainJSON(err, commandFields)
	}
	if id == "" || len(id) > job.MaxKeyBytes {
		return nil, cut(id), invalid("id", "is %d bytes long; allowed are 1 to %d", len(id), job.MaxKeyBytes)
	}
	if command.Submit != nil {
		if err := checkZeros(spec); err != nil {
			return nil, id, err
		}
		jobs, created, err := s.submit(context.Background(), who, id, command.Submit.Spec, nil)
		if err != nil || created {
			return nil, id, err
		}
		return jobs, id, nil
	}
	if command.Cancel.JobID == "" {
		return nil, id, invalid("job_id", "must name the job to cancel")
	}
	cancelled, changed, err := s.cancel(context.Background(), command.Cancel.JobID)
	switch {
	case err != nil:
		return nil, id, noJob(err)
	case changed:
		return nil, id, nil
	default:
		return []job.Job{cancelled}, id, nil
	}
}

// peek reads the id of a command, and the spec of a submission, from a frame that may be wrong elsewhere: a refusal names the
// command that it answers. id is "" when it can't be read.
func peek(frame []byte) (id string, spec []byte) {
	type part struct {
		ID   json.RawMessage `json:"id"`
		Spec json.RawMessage `json:"spec"`
	}
	var command struct{ Submit, Cancel part }
	_ = json.Unmarshal(frame, &command) // what is wrong is told by who decodes it in earnest
	for _, p := range []part{command.Submit, command.Cancel} {
		if json.Unmarshal(p.ID, &id) == nil && id != "" {
			break
		}
	}
	return id, command.Submit.Spec
}

// commandFields are the names that a command may have at any depth.
var commandFields = unique(fieldNames(wire.Command{}), fieldNames(wire.Submit{}), fieldNames(wire.Cancel{}), fieldNames(job.Spec{}))

func unique(lists ...[]string) []string {
	var names []string
	for _, name := range slices.Concat(lists...) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
