package queue

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"muster/shared/gpu"
	"muster/shared/job"
)

// selectJobs is completed by conditions on j. CROSS JOIN keeps SQLite from reading all sets first.
const selectJobs = `SELECT j.id, j.set_id, s.key, s.spec, j.ordinal, j.seq, j.state, j.attempt, j.failures, j.device, j.device_key,
	j.simulated, j.backend, j.seed, j.reason, j.image_id, j.error, j.created, j.started, j.finished
	FROM jobs j CROSS JOIN sets s ON s.id = j.set_id `

const (
	selectJob    = selectJobs + "WHERE j.id = ?"
	selectSet    = selectJobs + "WHERE j.set_id = ? ORDER BY j.id"
	selectState  = selectJobs + "WHERE j.state = ? ORDER BY j.id"
	selectAfter  = selectJobs + "WHERE j.seq > ? ORDER BY j.seq LIMIT ?"
	selectNewest = selectJobs + "ORDER BY j.id DESC LIMIT ?"
	selectKey    = "SELECT id, spec, asked FROM sets WHERE key = ?"
	selectSeq    = `SELECT max(coalesce((SELECT max(seq) FROM events), 0), floor), floor
	FROM (SELECT CAST(value AS INTEGER) AS floor FROM meta WHERE name = '` + metaPruned + `')`
	selectLastID = "SELECT max(coalesce((SELECT max(id) FROM jobs), ''), value) FROM meta WHERE name = '" + metaLastID + "'"
	insertSet    = "INSERT INTO sets (id, key, spec, asked) VALUES (?, ?, ?, ?)"
	insertJob    = `INSERT INTO jobs (id, set_id, ordinal, seq, state, attempt, failures, device, device_key, simulated, backend, seed,
	reason, image_id, error, created, started, finished) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`
	updateJob = `UPDATE jobs SET seq = ?, state = ?, attempt = ?, failures = ?, device = ?, device_key = ?, simulated = ?, backend = ?,
	reason = ?, image_id = ?, error = ?, started = ?, finished = ? WHERE id = ? AND state = ? AND attempt = ?`
	insertEvent = "INSERT INTO events (seq, job_id, state, attempt, at, detail) VALUES (?, ?, ?, ?, ?, ?)"
	updateMeta  = "UPDATE meta SET value = ? WHERE name = ?"
)

// scanner reads jobs; consecutive images of a set share one reading of its spec.
type scanner struct {
	set  string
	spec job.Spec
}

func (s *scanner) all(rows *sql.Rows, err error) ([]job.Job, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var jobs []job.Job
	for rows.Next() {
		j, err := s.scan(rows)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, j)
	}
	return jobs, rows.Err()
}

func (s *scanner) scan(rows *sql.Rows) (job.Job, error) {
	var (
		j                         job.Job
		key                       sql.NullString
		spec                      sql.RawBytes
		device, started, finished sql.NullInt64
		created                   int64
	)
	err := rows.Scan(&j.ID, &j.SetID, &key, &spec, &j.Ordinal, &j.Seq, &j.State, &j.Attempt, &j.Failures, &device, &j.DeviceKey,
		&j.Simulated, &j.Backend, &j.Seed, &j.Reason, &j.ImageID, &j.Error, &created, &started, &finished)
	if err != nil {
		return job.Job{}, err
	}
	if s.set != j.SetID {
		s.spec = job.Spec{}
		if err := json.Unmarshal(spec, &s.spec); err != nil {
			return job.Job{}, fmt.Errorf("spec of set %s: %w: %w", j.SetID, ErrCorrupt, err)
		}
		s.set = j.SetID
	}
	describe(&j, key.String, s.spec)
	if device.Valid {
		ref := gpu.Ref(device.Int64)
		j.DeviceID = &ref
	}
	j.Created = time.UnixMilli(created).UTC()
	j.Started, j.Finished = instant(started), instant(finished)
	if j.State == job.Succeeded {
		j.Progress = complete(j)
	}
	return j, nil
}

// describe copies what a command says of each of its images.
func describe(j *job.Job, key string, spec job.Spec) {
	j.Key = key
	j.PinnedTo, j.PinnedKey = spec.DeviceID, spec.DeviceKey
	j.Prompt, j.NegativePrompt = spec.Prompt, spec.NegativePrompt
	j.Model, j.Sampler = spec.Model, spec.Sampler
	j.Width, j.Height, j.Steps = spec.Width, spec.Height, spec.Steps
	if spec.Guidance != nil {
		j.Guidance = *spec.Guidance
	}
	j.Priority, j.ClientID = spec.Priority, spec.ClientID
}

// complete is the progress of a job that succeeded: progress is not kept, but then it is known.
func complete(j job.Job) job.Progress { return job.Progress{Step: j.Steps, Steps: j.Steps} }

func instant(n sql.NullInt64) *time.Time {
	if !n.Valid {
		return nil
	}
	t := time.UnixMilli(n.Int64).UTC()
	return &t
}

func milliseconds(t *time.Time) any {
	if t == nil {
		return nil
	}
	return t.UnixMilli()
}

func device(j job.Job) any {
	if j.DeviceID == nil {
		return nil
	}
	return int64(*j.DeviceID)
}

// statements holds what the writer runs, prepared once per connection.
type statements map[string]*sql.Stmt

func prepare(ctx context.Context, conn *sql.Conn) (statements, error) {
	prepared := statements{}
	for _, text := range []string{
		selectJob, selectSet, selectAfter, selectKey, selectSeq, insertSet, insertJob, updateJob, insertEvent, updateMeta,
		insertSession, deleteSession, deleteExpired, insertDevice, deleteDevice, putSetting, selectActive, countImage, keepLastID,
		deleteEvents, deleteJobs, deleteSet, trimEvents, "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK",
	} {
		s, err := conn.PrepareContext(ctx, text)
		if err != nil {
			return nil, fmt.Errorf("prepare %q: %w", text, err)
		}
		prepared[text] = s
	}
	return prepared, nil
}
