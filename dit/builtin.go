package dit

import (
	"io/fs"

	"ecadx/dit/mini"
)

// builtin is a model that is part of the binary.
type builtin struct {
	tree     func() fs.FS
	guidance float64 // the scale that suits it, where it is not its family's
}

var builtins = map[string]builtin{
	DefaultModel: {tree: mini.PixArt, guidance: mini.PixArtGuidance},
}
