package dit

import (
	"io/fs"

	"ecadx/dit/mini"
)

// builtin is a model that is part of the binary.
type builtin struct {
	tree func() fs.FS
	own  ownDefaults
}

var builtins = map[string]builtin{
	DefaultModel: {tree: mini.PixArt, own: ownDefaults{guidance: mini.PixArtGuidance}},
	"mini-flux":  {tree: mini.Flux, own: ownDefaults{guidance: mini.FluxGuidance, latentSize: mini.FluxLatents}},
}

// ownDefaults are what suits one model where it is not its family's; zero means the family's.
type ownDefaults struct {
	guidance   float64
	latentSize int
	textTokens int
}

// apply puts them into the family's.
func (o ownDefaults) apply(d Defaults) Defaults {
	if o.guidance != 0 {
		d.Guidance = o.guidance
	}
	if o.latentSize != 0 {
		d.LatentSize = o.latentSize
	}
	if o.textTokens != 0 {
		d.TextTokens = o.textTokens
	}
	return d
}
