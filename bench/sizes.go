package bench

import (
	"encoding/json"
	"errors"
	"fmt"

	"ecadx/dit"
	"ecadx/schedule"
)

// Size is the size of pictures and of their latents.
type Size struct {
	Height, Width             int // pixels
	LatentHeight, LatentWidth int
}

// latentPixels is how many pixels a latent spans in the autoencoders of all released models, for models that come without one.
const latentPixels = 8

// ErrSize is wrapped by SizeOf's error about a size that the model cannot make.
var ErrSize = errors.New("resolution")

// SizeOf translates a size in pixels, 0 for the model's own, to latents. A size that the model cannot make is an error that says which it can, and
// wraps ErrSize.
func SizeOf(m *dit.Model, height, width int) (Size, error) {
	factor, err := pixelFactor(m)
	if err != nil {
		return Size{}, err
	}
	d := m.Defaults()
	if height == 0 {
		height = d.LatentSize * factor
	}
	if width == 0 {
		width = d.LatentSize * factor
	}
	step := factor * d.LatentMultiple
	if height < step || width < step || height%step != 0 || width%step != 0 {
		return Size{}, fmt.Errorf("%w %dx%d: height and width must be multiples of %d", ErrSize, height, width, step)
	}
	return Size{Height: height, Width: width, LatentHeight: height / factor, LatentWidth: width / factor}, nil
}

func pixelFactor(m *dit.Model) (int, error) {
	if s := m.Snapshot(); s == nil || !s.Has(dit.VAE, "config.json") {
		return latentPixels, nil
	}
	d, err := m.OpenImageDecoder()
	if err != nil {
		return 0, err
	}
	return d.Factor(), d.Close()
}

// Resolution is a size in pixels. In JSON it is what --resolution takes: a number when both sides are equal, else "HEIGHTxWIDTH".
type Resolution struct{ Height, Width int }

func (r Resolution) String() string {
	if r.Height == r.Width {
		return fmt.Sprint(r.Height)
	}
	return fmt.Sprintf("%dx%d", r.Height, r.Width)
}

// MarshalJSON writes the number or the text.
func (r Resolution) MarshalJSON() ([]byte, error) {
	if r.Height == r.Width {
		return json.Marshal(r.Height)
	}
	return json.Marshal(r.String())
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *Resolution) UnmarshalJSON(data []byte) error {
	if n := 0; json.Unmarshal(data, &n) == nil {
		*r = Resolution{n, n}
		return nil
	}
	text := ""
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	if n, err := fmt.Sscanf(text, "%dx%d", &r.Height, &r.Width); n != 2 || err != nil {
		return fmt.Errorf("resolution %q: a number or \"HEIGHTxWIDTH\"", text)
	}
	return nil
}

// ModelDims are the sizes by which a model's MACs are counted for one image: dit.Model.Dims for latents of that size.
func ModelDims(m *dit.Model, size Size, guidance float64) (schedule.Dims, error) {
	d := m.Dims(size.LatentHeight, size.LatentWidth, guidance)
	return d, d.Validate()
}
