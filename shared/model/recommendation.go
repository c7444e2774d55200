package model

import "muster/shared/gpu"

// Recommendation is a well-known model that can be installed, judged for one machine.
type Recommendation struct {
	Name        string `json:"name"`  // of the catalogue: "sdxl-1.0"
	Title       string `json:"title"` // for people
	Description string `json:"description"`
	Family      Family `json:"family"`
	Licence     string `json:"licence"`
	// Repo and File say where it stands on the hub. Revision is the hub's own default.
	Repo string `json:"repo"`
	File string `json:"file"`
	// Bytes of the file, and of those that come with it, about. NeedBytes of device memory for an image of one megapixel, about.
	Bytes     int64  `json:"bytes"`
	NeedBytes uint64 `json:"need_bytes"`
	// ModelName is what a job asks for once it is installed; Installed says that it is, with all that it needs.
	ModelName string      `json:"model_name"`
	Installed bool        `json:"installed"`
	Fits      []DeviceFit `json:"fits"`
	// Usable says that it fits a device of this machine. Words say where, or what is missing.
	Usable bool   `json:"usable"`
	Words  string `json:"words"`
}

// Offer is a model as the whole machine has it: of the library, of generators, or of both.
type Offer struct {
	Model
	// Generators are the kinds of generators that can be asked for it ("sdserver", "comfyui"); empty when none can.
	Generators []string `json:"generators"`
	// LoadedOn are the devices that hold it now.
	LoadedOn []gpu.Ref   `json:"loaded_on"`
	Fits     []DeviceFit `json:"fits"`
	FitWords string      `json:"fit_words"` // sums Fits up; "" where nothing is known
	// InLibrary says that it is a file of the library: it can be enabled, disabled and removed.
	InLibrary bool `json:"in_library"`
}

// Offers is the answer of GET /api/v1/models.
type Offers struct {
	Dir       string  `json:"dir"`
	FreeBytes *uint64 `json:"free_bytes"`
	Problem   string  `json:"problem,omitempty"`
	Models    []Offer `json:"models"`
	// Loads are the models that somebody wants loaded, and those that could not be; oldest first.
	Loads []Load `json:"loads,omitempty"`
}

// Installs is the answer of GET /api/v1/models/installs.
type Installs struct {
	Installs []Install `json:"installs"` // newest first
}

// Recommendations is the answer of GET /api/v1/models/recommendations.
type Recommendations struct {
	Recommendations []Recommendation `json:"recommendations"` // the best for this machine first
}
