package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"muster/agent/backend/backendtest"
)

// request is an order after the server's own defaults and bounds.
type request struct {
	prompt, negative, format    string
	sampler, schedule           string // "" for the model's own
	seed                        int64
	width, height, steps, batch int
	guidance                    float64
	metadata                    bool
}

// bar is one progress line as sd-server draws it: 50 places, a head unless it loads, "erase to the end of the line", a newline
// only behind the last.
func bar(step, steps int, speed string, mark byte, head bool) string {
	const places = 50
	current := step * places / steps
	var b strings.Builder
	b.WriteString("\r  |")
	for i := range places {
		switch {
		case i > current:
			b.WriteByte(' ')
		case i == current && head && i != places-1:
			b.WriteByte('>')
		default:
			b.WriteByte(mark)
		}
	}
	fmt.Fprintf(&b, "| %d/%d - %s\x1b[K", step, steps, speed)
	if step == steps {
		b.WriteByte('\n')
	}
	return b.String()
}

func speed(took time.Duration) string {
	seconds := took.Seconds()
	if seconds > 0 && seconds < 1 {
		return fmt.Sprintf("%.2fit/s", 1/seconds)
	}
	return fmt.Sprintf("%.2fs/it", seconds)
}

// make generates the images of one request, saying what the real one says. message is why it failed.
func (s *server) make(r request) (images [][]byte, message string) {
	s.making.Lock()
	defer s.making.Unlock()
	s.made++
	n, begun := s.made, time.Now()
	s.info("stable-diffusion.cpp", 5628, "generate_image %dx%d", r.width, r.height)
	s.info("denoiser.hpp", 1051, "get_sigmas with discrete scheduler")
	s.info("stable-diffusion.cpp", 4380, "sampling using Euler A method")
	s.load()
	s.noise(n)
	s.info("stable-diffusion.cpp", 5296, "get_learned_condition completed, taking 0.00s")
	for i := range r.batch {
		s.info("stable-diffusion.cpp", 5679, "generating image: %d/%d - seed %d", i+1, r.batch, r.seed+int64(i))
		sampling := time.Now()
		for step := 1; step <= r.steps; step++ {
			if message := s.stepFault(n, step); message != "" {
				return nil, message
			}
			at := time.Now()
			time.Sleep(s.takes(max(1, s.scenario.StepMilliseconds)))
			fmt.Fprint(s.out, bar(step, r.steps, speed(time.Since(at)), '=', true))
		}
		s.info("stable-diffusion.cpp", 5711, "sampling completed, taking %.2fs", time.Since(sampling).Seconds())
	}
	s.info("stable-diffusion.cpp", 5723, "generating %d latent images completed, taking %.2fs", r.batch, time.Since(begun).Seconds())
	s.info("stable-diffusion.cpp", 5321, "decoding %d latents", r.batch)
	if message := s.stepFault(n, r.steps+1); message != "" {
		return nil, message
	}
	s.tiles()
	time.Sleep(s.takes(s.scenario.DecodeMilliseconds))
	for i := range r.batch {
		images = append(images, s.draw(r, r.seed+int64(i)))
		s.info("stable-diffusion.cpp", 5387, "latent %d decoded, taking 0.00s", i+1)
	}
	s.info("stable-diffusion.cpp", 5391, "decode_first_stage completed, taking 0.00s")
	s.info("stable-diffusion.cpp", 5861, "generate_image completed in %.2fs", time.Since(begun).Seconds())
	return images, ""
}

// takes is what a time of the scenario becomes on the device that it runs on.
func (s *server) takes(milliseconds int) time.Duration {
	slower := 1.0
	for _, d := range s.settings.Devices {
		if d.ID == s.start.Device && d.Slower > 0 {
			slower = d.Slower
		}
	}
	return time.Duration(slower * float64(milliseconds) * float64(time.Millisecond))
}

// noise prints what must not be taken for progress.
func (s *server) noise(job int) {
	if _, ok := s.fault(job, -1, backendtest.EarlyTiles); ok {
		s.tiles()
	}
	if _, ok := s.fault(job, -1, backendtest.LoadingBars); ok {
		for i := 1; i <= 10; i++ {
			fmt.Fprint(s.out, bar(i, 10, "1.21GB/s", '#', false))
		}
	}
	if _, ok := s.fault(job, -1, backendtest.LongLine); ok {
		fmt.Fprint(s.out, strings.Repeat("x", 1<<20))
		fmt.Fprintln(s.out)
	}
	if f, ok := s.fault(job, -1, backendtest.OtherError); ok {
		fmt.Fprintln(os.Stderr, line("ERROR", "util.cpp", 1, "%s", f.Text))
	}
}

func (s *server) tiles() {
	for i := 1; i <= s.scenario.Tiles; i++ {
		fmt.Fprint(s.out, bar(i, s.scenario.Tiles, "9.80it/s", '=', true))
	}
}

// stepFault does what goes wrong before a step. A text returned is the message of the failed job.
func (s *server) stepFault(job, step int) string {
	f, ok := s.fault(job, step, backendtest.Crash, backendtest.Abort, backendtest.Hang, backendtest.Fail, backendtest.OutOfMemory)
	if !ok {
		return ""
	}
	switch f.Do {
	case backendtest.Crash:
		die(syscall.SIGSEGV)
	case backendtest.Abort:
		fmt.Fprintln(os.Stderr, f.Text)
		die(syscall.SIGABRT)
	case backendtest.Hang:
		hang()
	case backendtest.OutOfMemory:
		fmt.Fprintln(os.Stderr, line("ERROR", "stable-diffusion.cpp", 2790, "diffusion model compute failed"))
		fmt.Fprintln(os.Stderr, line("ERROR", "stable-diffusion.cpp", 2901, "Diffusion model sampling failed"))
		fmt.Fprintln(os.Stderr, line("ERROR", "stable-diffusion.cpp", 5716, "sampling for image 1/1 failed after 0.64s"))
		return "generate_image returned no results"
	}
	return f.Text
}

// draw gives a PNG that depends on everything the real image would depend on.
func (s *server) draw(r request, seed int64) []byte {
	file := backendtest.Paint(backendtest.Picture{
		Prompt: r.prompt, Negative: r.negative, Sampler: r.sampler + r.schedule, Model: filepath.Base(s.options.model) + strings.Join(s.options.parts, " "), Seed: seed,
		Width: r.width, Height: r.height, Steps: r.steps, Guidance: r.guidance, Grain: s.scenario.Grain,
	})
	if !r.metadata {
		return file
	}
	return withText(file, s.parameters(r, seed))
}

// parameters is the text that the real one embeds, as captured but for the JSON behind "SDCPP:", which is shorter here.
func (s *server) parameters(r request, seed int64) string {
	return fmt.Sprintf("%s\nSteps: %d, CFG scale: %f, Guidance: 3.500000, Eta: inf, Seed: %d, Size: %dx%d, Model: %s, RNG: cuda, Sampler: NONE, Version: stable-diffusion.cpp, SDCPP: {\"schema\":\"sdcpp.image.params/v1\",\"seed\":%d}",
		r.prompt, r.steps, r.guidance, seed, r.width, r.height, filepath.Base(s.options.model), seed)
}

// withText puts a tEXt chunk "parameters" behind the header of a PNG.
func withText(file []byte, text string) []byte {
	const header = 8 + 25 // signature and IHDR
	body := append([]byte("tEXtparameters\x00"), text...)
	chunk := binary.BigEndian.AppendUint32(nil, uint32(len(body)-4))
	chunk = append(chunk, body...)
	chunk = binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE(body))
	return append(append(append([]byte{}, file[:header]...), chunk...), file[header:]...)
}
