package sim

import (
	"math"
	"strconv"
	"time"

	"muster/shared/job"
)

// epoch is time 0 of every world.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func clock(seconds float64) time.Time { return epoch.Add(duration(seconds)) }

func duration(seconds float64) time.Duration { return time.Duration(math.Round(seconds * 1e9)) }

// forecast compares when images were predicted to be done, when they were submitted, with when they were.
type forecast struct {
	expected []float64 // by image: predicted seconds from its submission on; NaN when nothing was told
	counts   []bool    // by image: it was submitted after the devices had made enough for the predictions to count
	latest   []float64 // by set: the latest of its images' predictions
	missing  []int     // by set: images that nothing was told of
	left     []int     // by set: images that are not done

	made        int // images
	needed      int
	imageErrors []float64
	setErrors   []float64
}

// forecastImages is how many images a device must have made on average before predictions count.
const forecastImages = 5

func newForecast(w *World) forecast {
	return forecast{
		needed: forecastImages * len(w.Box.Devices), latest: make([]float64, len(w.Sets)), missing: make([]int, len(w.Sets)),
		left: make([]int, len(w.Sets)),
	}
}

func (f *forecast) submitted(m *Machine, n Notice) {
	set := m.Images[n.Image].Set
	f.missing[set], f.left[set] = n.Count, n.Count
	for range n.Count {
		f.expected = append(f.expected, math.NaN())
		f.counts = append(f.counts, f.made >= f.needed)
	}
}

// told takes the first prediction of each image.
func (f *forecast) told(m *Machine, outlooks map[string]job.Outlook) {
	for id, o := range outlooks {
		image, _ := strconv.Atoi(id)
		if o.Expected == nil || !math.IsNaN(f.expected[image]) {
			continue
		}
		of := m.Images[image]
		f.expected[image] = o.Expected.At.Sub(clock(of.Arrived)).Seconds()
		f.latest[of.Set] = max(f.latest[of.Set], f.expected[image])
		f.missing[of.Set]--
	}
}

// arrived compares, when an image is done.
func (f *forecast) arrived(m *Machine, image int) {
	f.made++
	of := m.Images[image]
	actual := m.Now - of.Arrived
	if !f.counts[image] || actual <= 0 {
		return
	}
	if predicted := f.expected[image]; !math.IsNaN(predicted) {
		f.imageErrors = append(f.imageErrors, math.Abs(predicted-actual)/actual)
	}
	if f.left[of.Set]--; f.left[of.Set] == 0 && f.missing[of.Set] == 0 {
		f.setErrors = append(f.setErrors, math.Abs(f.latest[of.Set]-actual)/actual)
	}
}

// errors gives what was compared.
func (f *forecast) errors() (images, sets []float64) { return f.imageErrors, f.setErrors }
