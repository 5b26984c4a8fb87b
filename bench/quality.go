package bench

import (
	"fmt"
	"image"
	"math"

	"ecadx/dit/mini"
)

// Quality scores one picture; higher is better.
type Quality interface {
	Name() string
	// Reference says whether Score needs the uncached picture of the same prompt and seed.
	Reference() bool
	// Score judges a picture. It is called from several goroutines.
	Score(prompt string, picture, uncached *image.NRGBA) (float64, error)
}

// Qualities lists the names that ParseQuality knows.
func Qualities() []string { return []string{"scene", "psnr", "ssim"} }

// ParseQuality finds a quality by its name in a configuration.
func ParseQuality(name string) (Quality, error) {
	switch name {
	case "scene":
		return sceneQuality{}, nil
	case "psnr":
		return psnrQuality{}, nil
	case "ssim":
		return ssimQuality{}, nil
	}
	return nil, fmt.Errorf("quality %q: use scene (prompts of the miniature's grammar), psnr or ssim (any model)", name)
}

// sceneQuality is the smooth score of package mini: does the picture show what its caption says?
type sceneQuality struct{}

func (sceneQuality) Name() string    { return "scene" }
func (sceneQuality) Reference() bool { return false }
func (sceneQuality) Score(prompt string, picture, _ *image.NRGBA) (float64, error) {
	r, err := mini.Score(picture, prompt)
	return r.Smooth, err
}

// MaxPSNR is what equal pictures score, in dB.
const MaxPSNR = 100

// psnrQuality is the peak signal-to-noise ratio to the uncached picture in dB, over the 8-bit RGB values, at most MaxPSNR.
type psnrQuality struct{}

func (psnrQuality) Name() string    { return "psnr" }
func (psnrQuality) Reference() bool { return true }
func (psnrQuality) Score(_ string, picture, uncached *image.NRGBA) (float64, error) {
	return PSNR(picture, uncached)
}

// PSNR is 10 log10(255^2 / mean squared error) over the RGB values of two pictures of one size, at most MaxPSNR.
func PSNR(a, b *image.NRGBA) (float64, error) {
	if a.Rect.Dx() != b.Rect.Dx() || a.Rect.Dy() != b.Rect.Dy() {
		return 0, fmt.Errorf("psnr: pictures of %v and %v: sizes must be equal", a.Rect.Size(), b.Rect.Size())
	}
	sum, n := 0, 0
	for y := range a.Rect.Dy() {
		for x := range a.Rect.Dx() {
			i, j := y*a.Stride+4*x, y*b.Stride+4*x
			for c := range 3 {
				d := int(a.Pix[i+c]) - int(b.Pix[j+c])
				sum += d * d
				n++
			}
		}
	}
	if sum == 0 {
		return MaxPSNR, nil
	}
	return min(MaxPSNR, 10*math.Log10(255*255*float64(n)/float64(sum))), nil
}
