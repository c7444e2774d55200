package queue

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"

	"muster/shared/job"
	"muster/shared/pool"
)

const (
	insertDevice = "INSERT OR REPLACE INTO devices (id, control) VALUES (?, ?)"
	deleteDevice = "DELETE FROM devices WHERE id = ?"
)

// Steering gives everything that people decided, from memory; it is never nil. Nobody may change it: a change makes a new one.
func (q *Queue) Steering() *pool.Steering { return q.mirror.decided() }

// Steer keeps what a person decided about a device, by its stable ID ("cpu" for the processor), in place of what was decided
// before; the zero Control forgets the device. When it returns, the decision is on the disk and in Steering. The error of a
// Control that is not valid is a *pool.FieldError.
func (q *Queue) Steer(ctx context.Context, deviceID string, c pool.Control) (pool.Control, error) {
	if deviceID == "" || len(deviceID) > job.MaxNameBytes {
		return pool.Control{}, fmt.Errorf("steer: %.80q is no stable ID of a device", deviceID)
	}
	if err := c.Validate(); err != nil {
		return pool.Control{}, err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return pool.Control{}, fmt.Errorf("steer: %w", err)
	}
	var own pool.Control // shares no pointer with the caller's
	if err := json.Unmarshal(text, &own); err != nil {
		return pool.Control{}, fmt.Errorf("steer: %w", err)
	}
	err = q.change(ctx, func(b *batch) error {
		next := b.steer()
		if c.IsZero() {
			b.exec(deleteDevice, deviceID)
			delete(next.Devices, deviceID)
		} else {
			b.exec(insertDevice, deviceID, string(text))
			next.Devices[deviceID] = own
		}
		return b.failed
	})
	return own, err
}

// SteerPool keeps what a person decided about all devices together, as Steer does.
func (q *Queue) SteerPool(ctx context.Context, s pool.Settings) error {
	if err := s.Validate(); err != nil {
		return err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("steer: %w", err)
	}
	var own pool.Settings
	if err := json.Unmarshal(text, &own); err != nil {
		return fmt.Errorf("steer: %w", err)
	}
	return q.change(ctx, func(b *batch) error {
		b.steer().Pool = own
		b.exec(updateMeta, string(text), metaPool)
		return b.failed
	})
}

// steer gives this transaction's own copy of the decisions, to be changed.
func (b *batch) steer() *pool.Steering {
	if b.steering == nil {
		now := *b.w.mirror.decided()
		now.Devices = maps.Clone(now.Devices)
		b.steering = &now
	}
	return b.steering
}

// readSteering gives the decisions on the disk.
func readSteering(ctx context.Context, conn *sql.Conn) (*pool.Steering, error) {
	s := &pool.Steering{Devices: map[string]pool.Control{}}
	text, err := meta(ctx, conn, metaPool)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(text), &s.Pool); err != nil {
		return nil, fmt.Errorf("settings of the pool: %w: %w", ErrCorrupt, err)
	}
	rows, err := conn.QueryContext(ctx, "SELECT id, control FROM devices")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, text string
		var c pool.Control
		if err := rows.Scan(&id, &text); err != nil {
			return nil, err
		}
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			return nil, fmt.Errorf("control of device %s: %w: %w", id, ErrCorrupt, err)
		}
		s.Devices[id] = c
	}
	return s, rows.Err()
}
