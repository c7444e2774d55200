package telemetry

import (
	"context"
	"time"

	"muster/shared/gpu"
)

const (
	// firstReportWait is how long after the first tick the first report waits for devices that are slow to tell their details.
	firstReportWait = time.Second
	// urgentGap is the least time between a report and one that something unexpected calls for.
	urgentGap = time.Second
	// describeDeadline is how long a report waits for the names of its processes: /proc/PID/cmdline can hang on a process that
	// the kernel has stopped.
	describeDeadline = 500 * time.Millisecond
)

// rounds is what the sampler knows of the reports it made. All fields belong to the sampler's loop.
type rounds struct {
	epoch      time.Time     // the first tick, from which phases count
	period     time.Duration // of Details
	reported   time.Time     // when the last report was made; zero: never
	due        time.Time     // when the next one is, if something is new by then
	urgent     bool          // a fault or a change of state is not in the last report
	revision   uint64        // of the inventory of the last report
	states     []gpu.State   // of the devices when the last report was made
	describing *call         // nil when nobody describes processes
	pending    *gpu.Report   // waits for the names of its processes
}

func (r *rounds) begin(now time.Time) {
	if r.epoch.IsZero() {
		r.epoch, r.due = now, now.Add(firstReportWait)
	}
}

// noteStates makes a change of state urgent.
func (r *rounds) noteStates(snap *gpu.Snapshot) {
	for i := range min(len(r.states), len(snap.GPUs)) {
		r.urgent = r.urgent || snap.GPUs[i].State != r.states[i]
	}
}

// Report is the newest one published; nil before the first, which comes about a second after the first tick at the latest.
func (s *Sampler) Report() *gpu.Report { return s.newest.Load() }

// reportWhenDue publishes a report if it is time, and says how long to wait before asking again.
func (s *Sampler) reportWhenDue(now time.Time) time.Duration {
	r := &s.rounds
	if r.pending != nil {
		if !r.describing.late(now) {
			return r.describing.since.Add(describeDeadline).Sub(now)
		}
		s.announce(r.pending)
	}
	at := s.reportDue(now)
	if now.Before(at) {
		return at.Sub(now)
	}
	s.report(now)
	return s.reportWhenDue(now)
}

// reportDue gives when the next report is to be made, as things stand.
func (s *Sampler) reportDue(now time.Time) time.Time {
	r := &s.rounds
	complete, fresh := s.roundIs(now)
	switch {
	case r.reported.IsZero() && !complete:
		return r.due
	case r.reported.IsZero(), r.revision != s.inventory.Load().Revision, complete && fresh:
		return now
	case r.urgent:
		return r.reported.Add(urgentGap)
	case fresh:
		return r.due
	}
	return now.Add(time.Hour)
}

// roundIs says whether every device that can has answered since the last report, and whether one brought something. The first
// report waits for first readings too.
func (s *Sampler) roundIs(now time.Time) (complete, fresh bool) {
	complete = true
	for _, readers := range s.devices {
		for _, w := range readers {
			if d := w.details; d != nil {
				fresh = fresh || d.fresh
				wants := w.wantsDetails() || w.state == "" && s.rounds.reported.IsZero()
				complete = complete && (d.answered || !wants || w.missing || w.late(now))
			}
		}
	}
	return complete, fresh
}

// report makes a report of what is known, and publishes it once its processes have names.
func (s *Sampler) report(now time.Time) {
	report := s.compile()
	r := &s.rounds
	r.reported, r.due, r.urgent, r.revision = now, now.Add(r.period), false, report.Revision
	for _, readers := range s.devices {
		for _, w := range readers {
			if w.details != nil {
				w.details.answered, w.details.fresh = false, false
			}
		}
	}
	if !s.describe(now, report) {
		s.announce(report)
	}
}

// compile joins what the readers of each device told, in the order of the inventory.
func (s *Sampler) compile() *gpu.Report {
	inv, snap := s.inventory.Load(), s.snapshot.Load()
	report := &gpu.Report{Revision: inv.Revision, Devices: make([]gpu.Details, len(s.devices))}
	s.rounds.states = make([]gpu.State, len(s.devices))
	for i, readers := range s.devices {
		s.rounds.states[i] = snap.GPUs[i].State
		report.Devices[i] = s.detailsOf(readers, &snap.GPUs[i])
	}
	return report
}

// detailsOf joins what the readers of one device told.
func (s *Sampler) detailsOf(readers []*worker, reading *gpu.Reading) gpu.Details {
	var details gpu.Details
	for _, w := range readers {
		if w.details != nil {
			own := w.details.last
			own.Faults = w.details.faults
			details = combineDetails(details, own)
		}
	}
	details.Absent = stillAbsent(details.Absent, reading, &details)
	details.Disagreements = append(s.disagreements(readers), details.Disagreements...)
	return details
}

// describe has the processes of the report named, by a goroutine of its own and in a copy; false when there is nothing to name,
// or nobody free to do it.
func (s *Sampler) describe(now time.Time, report *gpu.Report) bool {
	r := &s.rounds
	described, processes := ownProcesses(report)
	if r.describing == nil || len(processes) == 0 {
		return false
	}
	begun := r.describing.begin(now, errand{describeDeadline, func(context.Context) func() {
		_, err := guard(func() (struct{}, error) { s.config.DescribeProcesses(processes); return struct{}{}, nil })
		return func() {
			if err != nil {
				s.logFailure("processes", "host", "", err)
			}
			if r.pending == report {
				s.announce(described)
			}
		}
	}})
	if begun {
		r.pending = report
	}
	return begun
}

// ownProcesses copies a report with its processes, which all stand in one slice.
func ownProcesses(report *gpu.Report) (*gpu.Report, []gpu.Process) {
	count := 0
	for i := range report.Devices {
		count += len(report.Devices[i].Processes)
	}
	all := make([]gpu.Process, 0, count)
	described := &gpu.Report{Revision: report.Revision, Devices: make([]gpu.Details, len(report.Devices))}
	for i, d := range report.Devices {
		if len(d.Processes) > 0 {
			from := len(all)
			all = append(all, d.Processes...)
			d.Processes = all[from:len(all):len(all)]
		}
		described.Devices[i] = d
	}
	return described, all
}

// announce publishes a report, unless the devices have been numbered anew since it was made: then another is due already.
func (s *Sampler) announce(report *gpu.Report) {
	s.rounds.pending = nil
	if report.Revision != s.inventory.Load().Revision {
		return
	}
	s.newest.Store(report)
	if s.config.PublishReport != nil {
		s.config.PublishReport(report)
	}
}
