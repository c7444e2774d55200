package openai

import (
	"time"

	"muster/shared/job"
)

// clock estimates how far an image is, by how long earlier ones with the same model took: seconds per step and megapixel. Its owner
// alone may use it.
type clock struct {
	paces map[string]float64 // by model; seconds per step and megapixel
	last  string             // model of the last image: a first one holds the time of loading, too
}

// maxPaces bounds how many models are remembered.
const maxPaces = 1000

// work is what an image costs, in steps times megapixels.
func work(width, height, steps int) float64 {
	return float64(width) * float64(height) / 1e6 * float64(steps)
}

// takes is how long an image is expected to take; 0 when nothing is known of the model.
func (c *clock) takes(model string, width, height, steps int) time.Duration {
	return time.Duration(c.paces[model] * work(width, height, steps) * float64(time.Second))
}

// learn takes the time of a finished image. What came with loading counts only while nothing better is known.
func (c *clock) learn(model string, width, height, steps int, took time.Duration) {
	first := c.last != model
	c.last = model
	pace := took.Seconds() / work(width, height, steps)
	if c.paces == nil || len(c.paces) > maxPaces {
		c.paces = map[string]float64{}
	}
	known, seen := c.paces[model]
	switch {
	case !seen:
	case first:
		return
	case pace < known/2: // the one before held something else, such as loading
	default:
		pace = (known + pace) / 2
	}
	c.paces[model] = pace
}

// estimate is the progress of an image after some time: never its last step, which is told with the image. Its time left ends at 0
// when it takes longer than expected.
func estimate(steps int, expected, elapsed time.Duration) job.Progress {
	p := job.Progress{Steps: steps}
	if expected <= 0 {
		return p
	}
	p.Step = min(int(float64(steps)*elapsed.Seconds()/expected.Seconds()), steps-1)
	left := max(0, (expected - elapsed).Seconds())
	p.ETASeconds = &left
	return p
}
