package mini

import (
	"embed"
	"io/fs"
)

// The miniature PixArt's settings that no file of the snapshot holds.
const (
	// PixArtSize is the height and width in pixels at which the miniature was trained.
	PixArtSize = 64
	// PixArtGuidance is the guidance scale at which the miniature draws most captions right.
	PixArtGuidance = 3.5
)

//go:embed pixart
var snapshots embed.FS

// PixArt returns the miniature PixArt: a snapshot in the Hugging Face layout (model_index.json, scheduler,
// text_encoder, tokenizer, transformer, vae; float16 weights, about 8 MB), embedded in the binary and read-only.
func PixArt() fs.FS {
	snapshot, err := fs.Sub(snapshots, "pixart")
	if err != nil { // cannot happen: the name above is a valid path
		return snapshots
	}
	return snapshot
}
