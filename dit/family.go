package dit

import (
	"fmt"
	"slices"
	"strings"

	"ecadx/dit/hfconfig"
	"ecadx/dit/program"
	"ecadx/schedule"
)

// family is what the package knows about the architecture of one opened model. Adding an architecture means one
// implementation of family and one of network, and an entry in architectures.
type family interface {
	// shape is what schedules of this model range over.
	shape(steps int) schedule.Shape
	// tensors are the weights the architecture has.
	tensors() []TensorSpec
	// traits are what is constant about the model.
	traits() traits
	// dims are the sizes by which the work on one row is counted, for latents of a size that check accepts.
	dims(height, width int) schedule.Dims
	// first is the same architecture with at most n blocks of each kind.
	first(n int) family
	// check says whether the model can run with these sizes.
	check(g geometry) error
	// network starts the code of one program.
	network(b *program.Builder, g geometry) network
}

// traits are the constants of one model.
type traits struct {
	Defaults
	architecture Architecture
	// outputChannels is how many channels one call predicts, with those that a sampler drops.
	outputChannels int
	// sampling is why no sampler can use the prediction, nil if one can.
	sampling error
	// ignored are names that a checkpoint may hold besides the tensors.
	ignored []string
	// adopt turns tensors of other layouts into the architecture's, nil if there are none.
	adopt func(*Tensors) error
	// pipeline is diffusers' class of the pipeline, parts are its parts in the order of a run.
	pipeline string
	parts    []Part
	// scheduler is the released scheduler_config.json, for models without one.
	scheduler string
}

// network emits the ops of one program. Its prologue is emitted once, then any number of steps.
type network interface {
	// prologue emits what depends on the prompt or on the timestep alone, for all steps.
	prologue()
	// step emits one call of the model on latents [B, Cz, Hz, Wz] and writes the prediction of every row to out
	// [R, channels, Hz, Wz], of which it may leave out the last channels. row holds a decision per block and component in genome order; nil computes everything.
	step(latents program.Tensor, row []schedule.Decision, out program.Tensor)
}

// architecture is a kind of transformer, by the names that diffusers' configurations give its class.
type architecture struct {
	classes  []string // the first is the one that is written
	read     func(config []byte, pipeline string) (family, error)
	released []released
}

// released is a released checkpoint whose shape `random:` can take.
type released struct {
	name     string
	pipeline string // diffusers' class
	config   []byte // transformer/config.json
}

// architectures are all that can be run.
var architectures = []*architecture{&pixartArchitecture, &fluxArchitecture}

// readFamily picks the architecture that a config.json describes. pipeline is the class that model_index.json names, empty without one.
func readFamily(config []byte, pipeline string) (family, error) {
	var class struct {
		Name string `json:"_class_name"`
	}
	if err := hfconfig.Decode(config, &class); err != nil {
		return nil, err
	}
	var known []string
	for _, a := range architectures {
		if slices.Contains(a.classes, class.Name) {
			return a.read(config, pipeline)
		}
		known = append(known, a.classes...)
	}
	return nil, fmt.Errorf("key \"_class_name\": %q is not supported: use one of %s", class.Name, strings.Join(known, ", "))
}

// geometry is the sizes of one program.
type geometry struct {
	batch         int // B, images
	rows          int // R, rows the model runs on: batch, or twice as many with classifier-free guidance
	height, width int // of the latents
	tokens        int // L, text tokens at most
	conditions    int // rows of micro-conditions: 1 for all alike, or R
	dtype         DType
	timesteps     []float64
	guidance      float64 // of models that are told it
}

// DType is the arithmetic of a program.
type DType uint8

// The arithmetics. In bfloat16 the inputs of matrix products, cache slots and cross-attention keys and values are bfloat16; the residual
// stream, modulations and latents stay float32. Float64 is for the reference backend.
const (
	Float32 DType = iota
	BFloat16
	Float64
)

var dtypeNames = [...]string{"float32", "bfloat16", "float64"}

func (d DType) String() string {
	if int(d) < len(dtypeNames) {
		return dtypeNames[d]
	}
	return fmt.Sprintf("dtype %d", d)
}

// ParseDType reads the name of an arithmetic.
func ParseDType(name string) (DType, error) {
	for i, n := range dtypeNames {
		if n == name {
			return DType(i), nil
		}
	}
	return 0, fmt.Errorf("dtype %q: use float32 or bfloat16", name)
}

// activation is the dtype of what feeds matrix products.
func (d DType) activation() program.DType {
	return [...]program.DType{Float32: program.Float32, BFloat16: program.BFloat16, Float64: program.Float64}[d]
}

// stream is the dtype of the residual stream, modulations and latents.
func (d DType) stream() program.DType {
	if d == Float64 {
		return program.Float64
	}
	return program.Float32
}

// Guiding is what a model does with a guidance scale.
type Guiding uint8

// The kinds of guidance.
const (
	ClassifierFree Guiding = iota // a scale above 1 adds an unconditional row per image
	Embedded                      // the model was trained to be told the scale
	Unguided                      // distilled without: the scale means nothing
)

// Defaults is how a model is run when the user says nothing else.
type Defaults struct {
	Steps          int
	Guidance       float64
	Guiding        Guiding
	LatentChannels int
	LatentSize     int // native height and width of the latents
	LatentMultiple int // latent height and width are multiples of it
	TextTokens     int // a prompt is cut there
	TextWidth      int // of the embeddings
	// Unmasked: padding of the text takes part in attention, so that all prompts of a batch have equally many tokens and none is dropped.
	Unmasked    bool
	PooledWidth int  // of the pooled embedding of a prompt; 0: the model takes none
	Micro       bool // conditioned on resolution and aspect ratio
}

// Guided tells whether a guidance scale doubles the batch.
func (d Defaults) Guided(scale float64) bool { return d.Guiding == ClassifierFree && scale > 1 }

// Architecture are the sizes of a transformer, for those who look at a model.
type Architecture struct {
	Heads            int     `json:"heads"`
	HeadDim          int     `json:"head_dim"`
	Width            int     `json:"width"`
	Layers           int     `json:"layers"`
	SingleLayers     int     `json:"single_layers,omitempty"` // FLUX: single-stream blocks, after the double-stream blocks of Layers
	InChannels       int     `json:"in_channels"`
	OutChannels      int     `json:"out_channels"`
	PatchSize        int     `json:"patch_size"`
	TextWidth        int     `json:"text_width"`
	PooledWidth      int     `json:"pooled_width,omitempty"`
	RopeAxes         []int   `json:"rope_axes,omitempty"`
	Interpolation    float64 `json:"interpolation_scale,omitempty"`
	MicroConditioned bool    `json:"micro_conditioned"`
	GuidanceEmbedded bool    `json:"guidance_embedded"`
}
