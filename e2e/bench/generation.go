package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"muster/e2e/harness"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

// generations are how many images each of the two ways makes.
const generations = 60

// generationFigures times one image through the agent, from the command to the whole file in the client's hands, beside the same
// image asked of the same generator's process directly.
func generationFigures(ctx context.Context) (figures []figure, err error) {
	dir, err := os.MkdirTemp("", "muster-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	flags, _, err := sdServers(ctx, dir)
	if err != nil {
		return nil, err
	}
	agent, err := harness.Start(dir+"/data", flags...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, agent.Stop()) }()
	c := &caller{Agent: agent, ended: make(chan job.Job, 16)}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		_ = agent.View(ctx, wire.SubprotocolBinary, func(event wire.Event, _ int) {
			if event.Job != nil && event.Job.State.Terminal() {
				c.ended <- *event.Job
			}
		})
	}()
	if err := c.image(ctx, 0); err != nil { // starts the generator
		return nil, err
	}
	server, err := c.generator(ctx)
	if err != nil {
		return nil, err
	}
	var through, direct []time.Duration
	for i := range generations {
		began := time.Now()
		if err := c.image(ctx, i+1); err != nil {
			return nil, err
		}
		through = append(through, time.Since(began))
		began = time.Now()
		if err := directly(ctx, server, i+1); err != nil {
			return nil, err
		}
		direct = append(direct, time.Since(began))
	}
	over := median(through) - median(direct)
	slices.Sort(through)
	slices.Sort(direct)
	return []figure{{"one image through the agent, p50 beyond the generator's own time", fmt.Sprintf("%.1f ms", over.Seconds()*1000), "≤ 20 ms",
		fmt.Sprintf("through the agent p50 / p99 %s, directly %s", quantiles(through), quantiles(direct))}}, nil
}

// caller is a client of the agent that learns of ended jobs on the socket.
type caller struct {
	*harness.Agent
	ended chan job.Job
}

// image asks for one on device 0 and reads it.
func (c *caller) image(ctx context.Context, seed int) error {
	var accepted struct {
		Jobs []job.Job `json:"jobs"`
	}
	spec := job.Spec{Prompt: "a lighthouse", Width: 512, Height: 512, Steps: 20, Seed: new(int64(seed)), DeviceID: new(gpu.Ref(0))}
	if status, err := c.Do(ctx, "POST", "/api/v1/jobs", spec, &accepted); err != nil || status != http.StatusAccepted {
		return fmt.Errorf("submit: status %d: %w", status, err)
	}
	for {
		select {
		case j := <-c.ended:
			if j.ID != accepted.Jobs[0].ID {
				continue
			}
			if j.State != job.Succeeded {
				return fmt.Errorf("the image was not made: %s", j.Error)
			}
			return c.read(ctx, j.ImageID)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Minute):
			return errors.New("no image after a minute")
		}
	}
}

func (c *caller) read(ctx context.Context, imageID string) error {
	request, err := http.NewRequestWithContext(ctx, "GET", c.URL+"/api/v1/images/"+imageID, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+c.Token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// generator gives the address of device 0's.
func (c *caller) generator(ctx context.Context) (address string, err error) {
	var list struct {
		Generators []wire.Generator `json:"generators"`
	}
	if _, err := c.Do(ctx, "GET", "/api/v1/generators", nil, &list); err != nil {
		return "", err
	}
	for _, g := range list.Generators {
		if g.Device != nil && *g.Device == 0 && g.Address != "" {
			return "http://" + g.Address, nil
		}
	}
	return "", fmt.Errorf("device 0 has no running generator: %+v", list.Generators)
}

// directly asks an sd-server for the same image as caller.image does, and looks at its job every 2 ms.
func directly(ctx context.Context, server string, seed int) error {
	var answer struct {
		ID, Status string
		Result     struct {
			Images []struct {
				PNG []byte `json:"b64_json"`
			}
		}
	}
	exchange := func(method, path, body string) error {
		request, err := http.NewRequestWithContext(ctx, method, server+path, bytes.NewReader([]byte(body)))
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		return json.NewDecoder(response.Body).Decode(&answer)
	}
	order := fmt.Sprintf(`{"prompt":"a lighthouse","width":512,"height":512,"seed":%d,"batch_count":1,"output_format":"png",`+
		`"sample_params":{"sample_steps":20,"guidance":{"txt_cfg":7}}}`, seed)
	if err := exchange("POST", "/sdcpp/v1/img_gen", order); err != nil {
		return err
	}
	for id := answer.ID; answer.Status != "completed"; {
		if answer.Status == "failed" {
			return errors.New("the generator failed")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
		if err := exchange("GET", "/sdcpp/v1/jobs/"+id, ""); err != nil {
			return err
		}
	}
	if len(answer.Result.Images) != 1 || len(answer.Result.Images[0].PNG) == 0 {
		return errors.New("completed without an image")
	}
	return nil
}
