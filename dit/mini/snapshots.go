package mini

import (
	"embed"
	"io/fs"
)

// What no file of the miniatures' snapshots holds.
const (
	// PictureSize is the height and width of the pictures in pixels.
	PictureSize = 64
	// PixArtGuidance and FluxGuidance are the guidance scales at which the miniatures draw most captions right.
	PixArtGuidance = 3.5
	FluxGuidance   = 3.5
	// FluxLatents is the height and width of the miniature FLUX's latents; PixArt's configuration holds its own.
	FluxLatents = 16
)

//go:embed pixart flux
var snapshots embed.FS

// PixArt returns the miniature PixArt: a snapshot in the Hugging Face layout (model_index.json, scheduler,
// text_encoder, tokenizer, transformer, vae; float16 weights, about 8 MB), embedded in the binary and read-only.
func PixArt() fs.FS { return snapshot("pixart") }

// Flux returns the miniature FLUX in the same way (its text encoders are CLIP in text_encoder and T5 in text_encoder_2, each with its
// tokenizer; about 8 MB).
func Flux() fs.FS { return snapshot("flux") }

func snapshot(name string) fs.FS {
	tree, err := fs.Sub(snapshots, name)
	if err != nil { // cannot happen: the names above are valid paths
		return snapshots
	}
	return tree
}
