package telemetry

import (
	"context"
	"log/slog"
	"time"

	"muster/shared/gpu"
	"muster/shared/wire"
)

type Config struct {
	Readers  []Reader
	Host     HostReader
	Interval time.Duration
	Publish  func(*gpu.Inventory, *gpu.Snapshot)
	Log      *slog.Logger
}

type Sampler struct{}

type TemperaturePoint struct {
	Time    time.Time
	Celsius float64
}

func NewSampler(c Config) *Sampler { return &Sampler{} }

func (s *Sampler) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (s *Sampler) Inventory() *gpu.Inventory { return nil }

func (s *Sampler) Snapshot() *gpu.Snapshot { return nil }

func (s *Sampler) History(window time.Duration, points int) wire.History { return wire.History{} }

func (s *Sampler) Temperatures(ref gpu.Ref) []TemperaturePoint { return nil }
