package live

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"muster/shared/gpu"
	"muster/shared/model"
)

// ModelAct is what a person asks of the agent about models.
type ModelAct string

// The acts.
const (
	EnableModel  ModelAct = "enable"
	DisableModel ModelAct = "disable"
	RemoveModel  ModelAct = "remove" // its file too
	LoadModel    ModelAct = "load"   // into a device's memory
	InstallModel ModelAct = "install"
	StopInstall  ModelAct = "stop"  // an installation
	AgainInstall ModelAct = "again" // an installation that failed or was stopped
)

// ModelCommand is an act and what it is about. It goes by HTTP and, like a Decision, is never kept for later.
type ModelCommand struct {
	Act     ModelAct
	Model   string   // name of the one that exists
	Install string   // ID of the installation that exists
	Device  *gpu.Ref // where to load it; nil for nowhere, with InstallModel only
	Source  Source   // of InstallModel
}

// Source is where a model comes from: an address, or a file of a repository on the hub.
type Source struct {
	URL    string `json:"url,omitempty"`
	Repo   string `json:"repo,omitempty"`   // "owner/name"
	File   string `json:"file,omitempty"`   // path in the repository
	Name   string `json:"name,omitempty"`   // that the model shall have; "" is the file's
	SHA256 string `json:"sha256,omitempty"` // that the file must have, in hex; "" when the asker does not know it
}

// Request gives the method, path and JSON body that carry the command.
func (c ModelCommand) Request() (method, path, body string) {
	const models = "/api/v1/models/"
	one, install := models+url.PathEscape(c.Model), models+"installs/"+url.PathEscape(c.Install)
	switch c.Act {
	case InstallModel:
		return "POST", models + "install", written(struct {
			Source
			Device *gpu.Ref `json:"device_id,omitempty"`
		}{c.Source, c.Device})
	case StopInstall:
		return "DELETE", install, ""
	case AgainInstall:
		return "POST", install + "/again", ""
	case RemoveModel:
		return "DELETE", one, ""
	case LoadModel:
		return "POST", one + "/load", written(map[string]*gpu.Ref{"device_id": c.Device})
	default:
		return "POST", one + "/" + string(c.Act), ""
	}
}

// maxRecommendations bounds what is shown: a catalogue is for reading.
const maxRecommendations = 100

// DecodeRecommendations reads the answer of GET /api/v1/models/recommendations. Its errors are for people; a refusal is what the
// agent said.
func DecodeRecommendations(status int, body []byte) ([]model.Recommendation, error) {
	if status != 200 {
		return nil, refusal(status, body)
	}
	var answer model.Recommendations
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("the agent's answer can't be read: %w", err)
	}
	list := answer.Recommendations
	for i := range list {
		if list[i].Repo == "" || list[i].File == "" || list[i].Bytes < 0 {
			return nil, errors.New("the agent's answer contradicts itself")
		}
	}
	return list[:min(len(list), maxRecommendations)], nil
}
