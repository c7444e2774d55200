package wire

// Workflow is one that the administrator imported for ComfyUI: a model of that name.
type Workflow struct {
	Name string `json:"name"`
	// Slots are what a command may choose in it: "prompt", "negative", "seed", "steps", "cfg", "width", "height" and the like.
	Slots []string `json:"slots"`
	// Problem is why it can't be used, in words for people; "" when it can.
	Problem string `json:"problem,omitempty"`
	// Lacks says what running generators lack to make images with it, in words for people, each with the generator that lacks it. It is
	// told when a workflow is imported, and only of generators that answered then.
	Lacks []string `json:"lacks,omitempty"`
}
