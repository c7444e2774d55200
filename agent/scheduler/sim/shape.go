package sim

import "math"

// An image of the benchmark is told in the words of a command: steps of so many pixels. Its size says how much work it is, and a
// slot's speed how much of that the device does in a second, so that with right speeds the scheduler's first predictions are
// right too, as those of the other policies are (SED knows what every image takes). An image of 512x512 and 20 steps is sd15's
// 1.5 s at speed 1.
const (
	usualSteps      = 20
	usualPixels     = 512 * 512
	usualSeconds    = 1.5
	largeSide       = 1024
	largeFrom       = 4.0 // seconds at speed 1 from which an image is a large one
	leastSide       = 8
	speedOfOne      = (usualSteps + tailSteps) / usualSeconds // steps of usualPixels that a device of speed 1 does in a second
	secondsPerPixel = 1 / speedOfOne / usualPixels            // of one step at speed 1
	mostReports     = 40                                      // of one image's steps; of more only every second is told, and so on
)

// shape is what a command says of its images, and after how many steps each is reported.
type shape struct{ steps, width, height, stride int }

// shapeOf gives the shape of images that take so many seconds: 512 pixels wide, or 1024 the longer ones, with as many steps as they
// need to be no higher than wide, and as high as makes their work right.
func shapeOf(seconds float64) shape {
	s := shape{steps: usualSteps, width: 512}
	if seconds >= largeFrom {
		s.width = largeSide
	}
	square := float64(s.width*s.width) * secondsPerPixel // seconds of a step
	s.steps = max(s.steps, int(math.Ceil(seconds/square-tailSteps-1e-9)))
	height := seconds / (float64(s.steps) + tailSteps) / secondsPerPixel / float64(s.width)
	s.height = max(leastSide, int(math.Round(height)))
	s.stride = (s.steps + mostReports - 1) / mostReports
	return s
}

// shapes gives the shape of each model's images.
func (w *World) shapes() []shape {
	shapes := make([]shape, len(w.Models))
	for i, m := range w.Models {
		shapes[i] = shapeOf(m.Seconds)
	}
	return shapes
}
