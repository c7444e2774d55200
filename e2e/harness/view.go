package harness

import (
	"context"

	"github.com/coder/websocket"

	"muster/shared/wire"
)

// View reads the agent's events in that subprotocol until ctx ends, and hands each to see with the size of its frame in bytes.
func (a *Agent) View(ctx context.Context, protocol string, see func(event wire.Event, size int)) error {
	socket, _, err := websocket.Dial(ctx, a.URL+"/api/v1/events", &websocket.DialOptions{
		Subprotocols: []string{protocol}, HTTPHeader: map[string][]string{"Authorization": {"Bearer " + a.Token}},
	})
	if err != nil {
		return err
	}
	defer socket.CloseNow()
	socket.SetReadLimit(16 << 20)
	for {
		_, frame, err := socket.Read(ctx)
		if err != nil {
			return err
		}
		event, err := wire.Decode(wire.FormatOf(protocol), frame)
		if err != nil {
			return err
		}
		see(event, len(frame))
	}
}
