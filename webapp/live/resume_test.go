package live

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"muster/shared/job"
	"muster/shared/wire"
)

// script is a Conn that gives frames at set times and then breaks.
type script struct {
	frames []frame
	at     int
}

type frame struct {
	after time.Duration
	event wire.Event
}

func (s *script) Read(context.Context) ([]byte, error) {
	if s.at == len(s.frames) {
		return nil, errors.New("broken")
	}
	f := s.frames[s.at]
	s.at++
	time.Sleep(f.after)
	if f.event == (wire.Event{}) {
		return nil, errors.New("broken")
	}
	return wire.Binary.Encode(f.event)
}
func (s *script) Write(context.Context, []byte) error { return nil }
func (s *script) Format() wire.Format                 { return wire.Binary }
func (s *script) Close()                              {}

func jobEvent(seq uint64) wire.Event {
	return wire.Event{Job: &job.Job{ID: strconv.FormatUint(seq, 10), Seq: seq, State: job.Queued}}
}

// TestResume: the point of resumption moves only when a connection lived long enough for its replay to be whole.
func TestResume(t *testing.T) {
	t.Parallel()
	const base = "ws://agent?history=600"
	whole := wire.Event{Hello: &wire.Hello{Version: wire.Version, IntervalMilliseconds: 1000, Complete: true}}
	resumed := wire.Event{Hello: &wire.Hello{Version: wire.Version, IntervalMilliseconds: 1000}}
	for _, test := range []struct {
		name  string
		conns [][]frame
		want  []string // addresses dialled
	}{
		{"broken in the replay: all again", [][]frame{{{0, whole}, {0, jobEvent(7)}, {time.Second, wire.Event{}}}, nil}, []string{base, base}},
		{"lived: resumed", [][]frame{{{0, whole}, {0, jobEvent(7)}, {replayTime + time.Second, wire.Event{}}}, nil}, []string{base, base + "&after=7"}},
		{"broken in the second replay: from the same point", [][]frame{
			{{0, whole}, {0, jobEvent(7)}, {replayTime + time.Second, wire.Event{}}}, {{0, resumed}, {0, jobEvent(9)}, {time.Second, wire.Event{}}}, nil,
		}, []string{base, base + "&after=7", base + "&after=7"}},
		{"an agent that starts from nothing", [][]frame{
			{{0, whole}, {0, jobEvent(70)}, {replayTime + time.Second, wire.Event{}}}, {{0, whole}, {0, jobEvent(2)}, {replayTime + time.Second, wire.Event{}}}, nil,
		}, []string{base, base + "&after=70", base + "&after=2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(context.Background())
				defer stop()
				var dialled []string
				link := New(Config{
					URL: "ws://agent", Session: func(context.Context) Access { return Granted },
					Dial: func(_ context.Context, address string) (Conn, error) {
						dialled = append(dialled, address)
						if len(dialled) == len(test.conns) {
							stop()
							return nil, errors.New("enough")
						}
						return &script{frames: test.conns[len(dialled)-1]}, nil
					},
				})
				if err := link.Run(ctx); !errors.Is(err, context.Canceled) {
					t.Errorf("Run: %v", err)
				}
				if len(dialled) != len(test.want) {
					t.Fatalf("dialled %q, want %q", dialled, test.want)
				}
				for i := range dialled {
					if dialled[i] != test.want[i] {
						t.Errorf("connection %d: %q, want %q", i, dialled[i], test.want[i])
					}
				}
			})
		})
	}
}
