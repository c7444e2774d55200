package server

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"

	"muster/agent/models"
	"muster/shared/gpu"
	"muster/shared/model"
)

// The routes of models that the earlier system had. Names of models there are those of the catalogue; names of the library's own
// are taken too.

// setupRecommendation is a model of the catalogue as the earlier system told of it, and more.
type setupRecommendation struct {
	Name            string            `json:"name"`
	Category        string            `json:"category"`
	Description     string            `json:"description"`
	SizeGB          gigabytes         `json:"size_gb"`
	MinRAMGB        int               `json:"min_ram_gb"`
	MinGPUMemoryGB  gigabytes         `json:"min_gpu_memory_gb"`
	Requirements    []string          `json:"requirements_check,omitempty"` // what this machine lacks
	Title           string            `json:"title"`
	Family          model.Family      `json:"family"`
	Licence         string            `json:"licence"`
	Installed       bool              `json:"installed"`
	FitWords        string            `json:"fit_words"`
	Fits            []model.DeviceFit `json:"fits"`
	InstalledAsName string            `json:"model_name"`
}

type setupRecommendations struct {
	Success         bool            `json:"success"`
	SystemInfo      setupSystemInfo `json:"system_info"`
	Recommendations struct {
		Installable     []setupRecommendation `json:"installable"`
		RequiresUpgrade []setupRecommendation `json:"requires_upgrade"`
		APIOnly         []setupRecommendation `json:"api_only"`
	} `json:"recommendations"`
}

type setupSystemInfo struct {
	Platform           string             `json:"platform"`
	CPUCount           int                `json:"cpu_count"`
	RAMGB              gigabytes          `json:"ram_gb"`
	GPUType            string             `json:"gpu_type"`
	GPUCount           int                `json:"gpu_count"`
	GPUMemoryGB        gigabytes          `json:"gpu_memory_gb"` // of the largest device: a model runs on one
	DiskSpaceGB        *gigabytes         `json:"disk_space_gb"` // free where the models are; null when not known
	RecommendedEngines map[string]*string `json:"recommended_engines"`
}

// setupRecommendations answers GET /api/v1/setup/ai-models/recommendations.
func (s *Server) setupRecommendations(w http.ResponseWriter, r *http.Request) error {
	inventory := s.awaitInventory(r.Context())
	if inventory == nil {
		return errNotMeasured
	}
	var library model.Library
	if s.config.Library != nil {
		library = s.config.Library.Library()
	}
	writeJSON(w, http.StatusOK, recommendationsOf(*inventory, library))
	return nil
}

// recommendationsOf is pure.
func recommendationsOf(inventory gpu.Inventory, library model.Library) setupRecommendations {
	out := setupRecommendations{Success: true, SystemInfo: setupSystemInfo{
		Platform: inventory.Host.Platform, CPUCount: inventory.Host.CPUCount, RAMGB: gib(inventory.Host.MemoryBytes),
		GPUType: gpuType(inventory.Devices), GPUCount: len(inventory.Devices), GPUMemoryGB: gib(largestMemory(inventory.Devices)),
		DiskSpaceGB: gibOf(library.FreeBytes), RecommendedEngines: map[string]*string{"image": nil},
	}}
	to := &out.Recommendations
	to.Installable, to.RequiresUpgrade, to.APIOnly = []setupRecommendation{}, []setupRecommendation{}, []setupRecommendation{}
	for _, known := range models.Recommend(inventory.Devices, library) {
		shown := setupRecommendation{
			Name: known.Name, Category: "image", Description: known.Description, SizeGB: gib(uint64(known.Bytes)),
			MinRAMGB: leastRAM(known), MinGPUMemoryGB: tenths(known.NeedBytes), Title: known.Title, Family: known.Family, Licence: known.Licence,
			Installed: known.Installed, FitWords: known.Words, Fits: known.Fits, InstalledAsName: known.ModelName,
		}
		shown.Requirements = lacking(known, inventory, library)
		if len(shown.Requirements) > 0 {
			to.RequiresUpgrade = append(to.RequiresUpgrade, shown)
			continue
		}
		to.Installable = append(to.Installable, shown)
		if out.SystemInfo.RecommendedEngines["image"] == nil {
			out.SystemInfo.RecommendedEngines["image"] = &shown.Name
		}
	}
	return out
}

// lacking says what this machine needs more of, in the earlier system's words.
func lacking(known model.Recommendation, inventory gpu.Inventory, library model.Library) (lacks []string) {
	if !known.Usable {
		lacks = append(lacks, fmt.Sprintf("Need %.1fGB GPU memory (have %.1fGB)", float64(tenths(known.NeedBytes)), float64(tenths(largestMemory(inventory.Devices)))))
	}
	if ram := inventory.Host.MemoryBytes; ram > 0 && float64(ram) < float64(leastRAM(known))*0.9*gpu.GiB { // 16 GB machines report less
		lacks = append(lacks, fmt.Sprintf("Need %dGB RAM (have %.1fGB)", leastRAM(known), float64(tenths(ram))))
	}
	if free := library.FreeBytes; free != nil && !known.Installed && *free < uint64(known.Bytes) {
		lacks = append(lacks, fmt.Sprintf("Need %.1fGB disk space (have %.1fGB)", float64(tenths(uint64(known.Bytes))), float64(tenths(*free))))
	}
	return lacks
}

// leastRAM is the main memory in GiB with which a generator can read the file: half of it is mapped at a time, beside 4 GiB for the
// rest.
func leastRAM(known model.Recommendation) int {
	return int(math.Ceil(float64(known.Bytes)/2/gpu.GiB)) + 4
}

func tenths(bytes uint64) gigabytes { return gigabytes(math.Round(float64(bytes)/gpu.GiB*10) / 10) }

func largestMemory(devices []gpu.Device) (most uint64) {
	for _, d := range devices {
		if d.MemoryBytes != nil {
			most = max(most, *d.MemoryBytes)
		}
	}
	return most
}

// setupInstallAsk names models of the catalogue, or one other source.
type setupInstallAsk struct {
	Names     []string `json:"model_names"`
	ModelType string   `json:"model_type"`
	installAsk
}

type setupInstalls struct {
	Success  bool            `json:"success"`
	Message  string          `json:"message"`
	Models   []string        `json:"models"`
	Installs []model.Install `json:"installs"`
}

// setupInstall answers POST /api/v1/setup/ai-models/install: it starts, and returns at once.
func (s *Server) setupInstall(w http.ResponseWriter, r *http.Request) error {
	var ask setupInstallAsk
	if err := decodeBody(w, r, &ask); err != nil {
		return err
	}
	requests, err := setupRequests(ask.Names, ask.ModelType, models.Request(ask.installAsk))
	if err != nil {
		return err
	}
	started, here := []model.Install{}, 0
	for i, request := range requests {
		install, err := s.install(r.Context(), request)
		switch {
		case errors.Is(err, models.ErrExists) && i < len(ask.Names) && s.has(ask.Names[i]):
			here++
		case err != nil:
			return err
		default:
			started = append(started, install)
		}
	}
	message := fmt.Sprintf("%d started", len(started))
	if here > 0 {
		message += fmt.Sprintf(", %d installed already", here)
	}
	writeJSON(w, http.StatusOK, setupInstalls{true, message, append([]string{}, ask.Names...), started})
	return nil
}

// setupRequests makes requests of names of the catalogue, or of the one source that was given instead.
func setupRequests(names []string, kind string, other models.Request) ([]models.Request, error) {
	if kind != "" && kind != "image" {
		return nil, invalid("model_type", "is %q; muster has image models alone", cut(kind))
	}
	if len(names) == 0 {
		if other.URL == "" && other.Repo == "" {
			return nil, invalid("model_names", "is empty: name models of the recommendations, or give url, or repo and file")
		}
		return []models.Request{other}, nil
	}
	if other.URL != "" || other.Repo != "" || other.Name != "" || other.SHA256 != "" {
		return nil, invalid("model_names", "and another source are given: give one of them")
	}
	var requests []models.Request
	for _, name := range names {
		request, ok := models.CatalogueRequest(name)
		if !ok {
			return nil, &refusal{status: http.StatusNotFound, code: "not_found", message: fmt.Sprintf("there is no model %q to install: the recommendations list those with a name; others are installed by url, or repo and file", cut(name))}
		}
		request.Device = other.Device
		requests = append(requests, request)
	}
	return requests, nil
}

// has says whether a model of the catalogue is in the library.
func (s *Server) has(name string) bool {
	file, _ := models.CatalogueModel(name)
	for _, m := range s.config.Library.Library().Models {
		if m.Name == file {
			return true
		}
	}
	return false
}

// setupModelName gives the library's name for one of the catalogue's; others stay as they are.
func setupModelName(name string) string {
	if file, ok := models.CatalogueModel(name); ok {
		return file
	}
	return name
}

type setupChange struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	Name    string `json:"model_name"`
	Enabled bool   `json:"enabled"`
}

type setupEnableAsk struct {
	Name    string `json:"model_name"`
	Enabled *bool  `json:"enabled"` // nil is true
}

type setupUninstallAsk struct {
	Name string `json:"model_name"`
}

// setupEnable answers POST /api/v1/setup/ai-models/enable.
func (s *Server) setupEnable(w http.ResponseWriter, r *http.Request) error {
	var ask setupEnableAsk
	if err := decodeBody(w, r, &ask); err != nil {
		return err
	}
	if strings.TrimSpace(ask.Name) == "" {
		return invalid("model_name", "is missing")
	}
	enabled := ask.Enabled == nil || *ask.Enabled
	if err := s.enable(r.Context(), setupModelName(ask.Name), enabled); err != nil {
		return err
	}
	word := "disabled"
	if enabled {
		word = "enabled"
	}
	writeJSON(w, http.StatusOK, setupChange{true, ask.Name + " is " + word, ask.Name, enabled})
	return nil
}

// setupUninstall answers POST /api/v1/setup/ai-models/uninstall.
func (s *Server) setupUninstall(w http.ResponseWriter, r *http.Request) error {
	var ask setupUninstallAsk
	if err := decodeBody(w, r, &ask); err != nil {
		return err
	}
	if strings.TrimSpace(ask.Name) == "" {
		return invalid("model_name", "is missing")
	}
	if err := s.remove(r.Context(), setupModelName(ask.Name)); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, setupChange{true, ask.Name + " is removed", ask.Name, false})
	return nil
}
