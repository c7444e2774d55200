package wire

import "muster/shared/pool"

// Pool is the answer of GET and PUT /api/v1/pool: what people decided about all devices together, and each device.
type Pool struct {
	Pool    pool.Settings `json:"pool"`
	Devices []PoolDevice  `json:"devices"`
}

// PoolDevice is a device with what people decided about it, what that means now, and what it does for us.
type PoolDevice struct {
	Steered
	Name string `json:"name"`
	// Loaded are the models that its generators hold, Running the ids of the jobs that it makes.
	Loaded  []string `json:"loaded"`
	Running []string `json:"running"`
}
