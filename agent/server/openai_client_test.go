package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"muster/agent/images"
	"muster/agent/queue"
	"muster/shared/gpu"
	"muster/shared/job"
	"muster/shared/wire"
)

// official is OpenAI's own client, told where the agent is and nothing else.
func (s *served) official(more ...option.RequestOption) openai.Client {
	return openai.NewClient(append([]option.RequestOption{option.WithBaseURL("http://" + s.addr + "/v1"), option.WithAPIKey(testToken)}, more...)...)
}

func TestOfficialClient(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	a.generate(func(job.Job) string { return "" })
	client := a.official()
	got, err := client.Images.Generate(t.Context(), openai.ImageGenerateParams{
		Prompt: "a fox", Model: "gpt-image-1", N: openai.Int(4), Size: openai.ImageGenerateParamsSize1024x1536, Quality: openai.ImageGenerateParamsQualityHigh,
		Background: openai.ImageGenerateParamsBackgroundAuto, Moderation: openai.ImageGenerateParamsModerationLow, SafetyIdentifier: openai.String("anna"),
	})
	if err != nil || len(got.Data) != 4 || got.Created == 0 || got.OutputFormat != "png" || got.Quality != "high" || got.Usage.TotalTokens != 0 || !got.JSON.Usage.Valid() {
		t.Fatalf("%v, %+v", err, got)
	}
	for i, image := range got.Data {
		raw, err := base64.StdEncoding.DecodeString(image.B64JSON)
		if err != nil || !bytes.Equal(raw, picture(t, 8, uint8(i))) || image.URL != "" {
			t.Errorf("image %d: %d bytes, %v, URL %q", i, len(raw), err, image.URL)
		}
	}
	jobs, _, err := a.queue.List(t.Context(), queue.Filter{})
	if err != nil || len(jobs) != 4 || jobs[0].Width != 1024 || jobs[0].Height != 1536 || jobs[0].Steps != 30 || jobs[0].ClientID != "openai anna" || jobs[0].SetID != jobs[3].SetID {
		t.Errorf("%v, %+v", err, jobs)
	}
}

// A link is fetched as a browser would: without the key.
func TestOfficialClientGetsLinks(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	a.generate(func(job.Job) string { return "" })
	client := a.official()
	for _, params := range []openai.ImageGenerateParams{
		{Prompt: "a fox", Model: "dall-e-3", N: openai.Int(4)},
		{Prompt: "a fox", Model: "sketch", N: openai.Int(4), ResponseFormat: openai.ImageGenerateParamsResponseFormatURL},
	} {
		got, err := client.Images.Generate(t.Context(), params)
		if err != nil || len(got.Data) != 4 {
			t.Fatalf("%v, %+v", err, got)
		}
		for i, image := range got.Data {
			if !strings.HasPrefix(image.URL, "http://"+a.addr+"/v1/images/files/") || image.B64JSON != "" {
				t.Fatalf("image %d: URL %q, %d bytes", i, image.URL, len(image.B64JSON))
			}
			r, err := http.Get(image.URL)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := io.ReadAll(r.Body)
			r.Body.Close()
			if err != nil || r.StatusCode != 200 || r.Header.Get("Content-Type") != "image/png" || !bytes.Equal(raw, picture(t, 8, uint8(i))) {
				t.Errorf("image %d: %d %v, %d bytes, %v", i, r.StatusCode, r.Header, len(raw), err)
			}
		}
	}
}

func TestOfficialClientListsModels(t *testing.T) {
	t.Parallel()
	client := serveAgent(t).official()
	page, err := client.Models.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range page.Data {
		names = append(names, m.ID)
	}
	if !slices.Equal(names, []string{"sketch", "sd15"}) {
		t.Errorf("%v", names)
	}
	if one, err := client.Models.Get(t.Context(), "sd15"); err != nil || one.ID != "sd15" || one.OwnedBy != "muster" {
		t.Errorf("%+v, %v", one, err)
	}
}

func TestOfficialClientUnderstandsErrors(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	a.generate(func(job.Job) string { return "out of memory" })
	client := a.official()
	for name, test := range map[string]struct {
		params openai.ImageGenerateParams
		more   []option.RequestOption
		want   openai.Error
	}{
		"no prompt":     {openai.ImageGenerateParams{Model: "sketch"}, nil, openai.Error{StatusCode: 400, Type: "invalid_request_error", Code: "invalid_value", Param: "prompt"}},
		"too many":      {openai.ImageGenerateParams{Prompt: "x", N: openai.Int(1_000_000)}, nil, openai.Error{StatusCode: 400, Type: "invalid_request_error", Code: "invalid_value", Param: "n"}},
		"size":          {openai.ImageGenerateParams{Prompt: "x", Size: "4097x64"}, nil, openai.Error{StatusCode: 400, Type: "invalid_request_error", Code: "invalid_value", Param: "size"}},
		"unknown model": {openai.ImageGenerateParams{Prompt: "x", Model: "sd-9"}, nil, openai.Error{StatusCode: 404, Type: "invalid_request_error", Code: "model_not_found", Param: "model"}},
		"wrong key":     {openai.ImageGenerateParams{Prompt: "x"}, []option.RequestOption{option.WithAPIKey("sk-proj")}, openai.Error{StatusCode: 401, Type: "invalid_request_error", Code: "invalid_api_key"}},
		"all failed":    {openai.ImageGenerateParams{Prompt: "x", N: openai.Int(2)}, nil, openai.Error{StatusCode: 500, Type: "server_error", Code: "generation_failed"}},
	} {
		var got *openai.Error
		_, err := client.Images.Generate(t.Context(), test.params, test.more...)
		if !errors.As(err, &got) || got.StatusCode != test.want.StatusCode || got.Type != test.want.Type || got.Code != test.want.Code || got.Param != test.want.Param || got.Message == "" {
			t.Errorf("%s: %v: %+v", name, err, got)
		}
	}
	// The client repeats what failed by itself, unless it is told not to: every image was tried once.
	jobs, _, err := a.queue.List(t.Context(), queue.Filter{})
	if err != nil || len(jobs) != 2 {
		t.Errorf("%d jobs, %v", len(jobs), err)
	}
}

// The client repeats what it is told to repeat: a generator that starts is worth to wait for.
func TestOfficialClientRetriesWhatIsNotReady(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	var asked int
	capacity := a.server.config.Capacity
	a.server.config.Capacity = func() wire.Capacity {
		if asked++; asked == 2 { // the first is for the model's name
			return wire.Capacity{Models: []wire.Model{{Name: "sketch"}}, Slots: []wire.Slot{{Device: 0, Models: []string{"sketch"}, Problem: "it starts"}}}
		}
		return capacity()
	}
	a.generate(func(job.Job) string { return "" })
	began := time.Now()
	waited := option.WithMiddleware(func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
		response, err := next(r)
		if err == nil && response.StatusCode == http.StatusServiceUnavailable {
			if response.Header.Get("Retry-After") != "30" {
				t.Errorf("%v", response.Header)
			}
			response.Header.Set("Retry-After-Ms", "1") // half a minute is long for a test
		}
		return response, err
	})
	client := a.official(waited)
	got, err := client.Images.Generate(t.Context(), openai.ImageGenerateParams{Prompt: "x"})
	if err != nil || len(got.Data) != 1 {
		t.Errorf("after %s: %v, %+v", time.Since(began), err, got)
	}
}

func TestOfficialClientStreams(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	client := a.official()
	// They end in another order than they were asked for in, and each is sent before the next one is made.
	next := make(chan int, 1)
	next <- 2
	go func() {
		a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 3 })
		waiting := a.queue.Active()
		for i := range next {
			a.finish(t.Context(), waiting[i], "")
		}
	}()
	stream := client.Images.GenerateStreaming(t.Context(), openai.ImageGenerateParams{Prompt: "x", Model: "gpt-image-1", N: openai.Int(3), PartialImages: openai.Int(3)})
	defer stream.Close()
	for at, i := range []int{2, 0, 1} {
		if at > 0 {
			next <- i
		}
		if !stream.Next() {
			t.Fatalf("image %d: %v", i, stream.Err())
		}
		event, ok := stream.Current().AsAny().(openai.ImageGenCompletedEvent)
		raw, err := base64.StdEncoding.DecodeString(event.B64JSON)
		if !ok || err != nil || !bytes.Equal(raw, picture(t, 8, uint8(i))) || event.Size != "8x8" || event.OutputFormat != "png" || event.CreatedAt == 0 || event.Quality != "medium" {
			t.Errorf("image %d: %+v, %v", i, event, err)
		}
		if index := event.JSON.ExtraFields["index"].Raw(); index != fmt.Sprint(i) {
			t.Errorf("image %d has index %s", i, index)
		}
	}
	close(next)
	if stream.Next() || stream.Err() != nil {
		t.Errorf("after the last: %v", stream.Err())
	}
}

// Pictures of an unfinished image come as many as were asked for, spread over its steps.
func TestOfficialClientStreamsPartialImages(t *testing.T) {
	t.Parallel()
	previews := &images.Previews{}
	a := serveAgent(t, func(c *Config) { c.Previews = previews })
	client := a.official()
	steps := make(chan int, 1)
	steps <- 7 // of 20: a third
	end := sync.OnceFunc(func() { close(steps) })
	defer end()
	var making sync.WaitGroup // it writes into the test's folder, which goes when the test ends
	making.Go(func() {
		a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 1 })
		j := a.queue.Active()[0]
		a.startAll([]job.Job{j})
		previews.Put(j.ID, images.Preview{Data: picture(t, 8, 50), Type: "image/png"})
		for step := range steps {
			a.queue.Progress(j.ID, 1, job.Progress{Step: step, Steps: 20, Preview: step})
		}
		id, err := a.images.Put(t.Context(), picture(t, 8, 1))
		if err != nil {
			t.Error(err)
		}
		if _, err := a.queue.Succeed(t.Context(), j.ID, 1, id); err != nil {
			t.Error(err)
		}
	})
	stream := client.Images.GenerateStreaming(t.Context(), openai.ImageGenerateParams{Prompt: "x", PartialImages: openai.Int(2), Size: "512x256", OutputFormat: "jpeg"})
	defer stream.Close()
	for i, step := range []int{14, 20} {
		if !stream.Next() {
			t.Fatalf("picture %d: %v", i, stream.Err())
		}
		event, ok := stream.Current().AsAny().(openai.ImageGenPartialImageEvent)
		if raw, err := base64.StdEncoding.DecodeString(event.B64JSON); !ok || err != nil || !bytes.Equal(raw, picture(t, 8, 50)) || event.PartialImageIndex != int64(i) || event.OutputFormat != "png" || event.Size != "512x256" {
			t.Errorf("picture %d: %+v, %v", i, stream.Current(), err)
		}
		steps <- step // no third one comes of the last
	}
	end()
	if !stream.Next() {
		t.Fatal(stream.Err())
	}
	if event, ok := stream.Current().AsAny().(openai.ImageGenCompletedEvent); !ok || event.OutputFormat != "jpeg" {
		t.Errorf("at the end: %+v", stream.Current())
	}
	if stream.Next() || stream.Err() != nil {
		t.Errorf("after the end: %v", stream.Err())
	}
	making.Wait()
}

func TestOfficialClientStreamsWhatFails(t *testing.T) {
	t.Parallel()
	a := serveAgent(t)
	a.generate(func(j job.Job) string {
		if j.Ordinal == 0 || j.Width == 64 {
			return "out of memory"
		}
		return ""
	})
	client := a.official()
	stream := client.Images.GenerateStreaming(t.Context(), openai.ImageGenerateParams{Prompt: "x", N: openai.Int(3)})
	images := 0
	for stream.Next() {
		images++
	}
	if err := stream.Err(); images != 2 || err == nil || !strings.Contains(err.Error(), "1 of 3 images could not be made: out of memory") {
		t.Errorf("some: %d images, %v", images, err)
	}
	stream = client.Images.GenerateStreaming(t.Context(), openai.ImageGenerateParams{Prompt: "x", N: openai.Int(2), Size: "64x64"})
	var refused *openai.Error
	if stream.Next() || !errors.As(stream.Err(), &refused) || refused.StatusCode != 500 || refused.Code != "generation_failed" {
		t.Errorf("all: %v", stream.Err())
	}
}

// An impatient client's context ends: what has not started is given up, what runs is finished.
func TestOfficialClientThatGivesUp(t *testing.T) {
	t.Parallel()
	for _, streaming := range []bool{false, true} {
		a := serveAgent(t)
		client := a.official()
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		done := make(chan struct{})
		go func() {
			defer close(done)
			params := openai.ImageGenerateParams{Prompt: "x", N: openai.Int(3)}
			if streaming {
				stream := client.Images.GenerateStreaming(ctx, params)
				for stream.Next() {
				}
				return
			}
			_, _ = client.Images.Generate(ctx, params)
		}()
		a.waitFor(func(jobs []job.Job) bool { return len(jobs) == 3 })
		if _, err := a.queue.Start(t.Context(), a.queue.Active()[0].ID, 0, queue.Placement{Device: gpu.Ref(0), Backend: "builtin"}); err != nil {
			t.Fatal(err)
		}
		leave()
		<-done
		a.waitFor(func(jobs []job.Job) bool { return inState(jobs, job.Cancelled) == 2 && inState(jobs, job.Running) == 1 })
	}
}
