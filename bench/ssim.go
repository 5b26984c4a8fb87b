package bench

import (
	"fmt"
	"image"
	"math"
)

// The window and the constants of SSIM.
const (
	ssimRadius = 5
	ssimSigma  = 1.5
	ssimC1     = (0.01 * 255) * (0.01 * 255)
	ssimC2     = (0.03 * 255) * (0.03 * 255)
)

// ssimQuality is the structural similarity to the uncached picture.
type ssimQuality struct{}

func (ssimQuality) Name() string    { return "ssim" }
func (ssimQuality) Reference() bool { return true }
func (ssimQuality) Score(_ string, picture, uncached *image.NRGBA) (float64, error) {
	return SSIM(picture, uncached)
}

// SSIM is the mean structural similarity of two pictures of one size, 1 for equal ones. Per channel of the 8-bit RGB values and for every
// place where a window of 11 x 11 pixels fits, with means, variances and covariance weighted by a Gaussian of sigma 1.5:
//
//	(2 mx my + C1) (2 sxy + C2) / ((mx^2 + my^2 + C1) (sxx + syy + C2)),  C1 = (0.01 255)^2, C2 = (0.03 255)^2
//
// Source: Wang, Bovik, Sheikh, Simoncelli 2004, sections III.B and C; the mean over the channels is that of scikit-image.
func SSIM(a, b *image.NRGBA) (float64, error) {
	w, h := a.Rect.Dx(), a.Rect.Dy()
	if w != b.Rect.Dx() || h != b.Rect.Dy() {
		return 0, fmt.Errorf("ssim: pictures of %v and %v: sizes must be equal", a.Rect.Size(), b.Rect.Size())
	}
	if w <= 2*ssimRadius || h <= 2*ssimRadius {
		return 0, fmt.Errorf("ssim: pictures of %v: at least %d pixels each way are needed", a.Rect.Size(), 2*ssimRadius+1)
	}
	total := 0.0
	maps := [5][]float64{}
	for i := range maps {
		maps[i] = make([]float64, w*h)
	}
	rows := make([]float64, w*h)
	for c := range 3 {
		for y := range h {
			for x := range w {
				p, q := float64(a.Pix[y*a.Stride+4*x+c]), float64(b.Pix[y*b.Stride+4*x+c])
				i := y*w + x
				maps[0][i], maps[1][i], maps[2][i], maps[3][i], maps[4][i] = p, q, p*p, q*q, p*q
			}
		}
		for i := range maps {
			blur(maps[i], rows, w, h)
		}
		for y := range h - 2*ssimRadius {
			for x := range w - 2*ssimRadius {
				i := y*w + x
				mx, my := maps[0][i], maps[1][i]
				sxx, syy, sxy := maps[2][i]-mx*mx, maps[3][i]-my*my, maps[4][i]-mx*my
				total += (2*mx*my + ssimC1) * (2*sxy + ssimC2) / ((mx*mx + my*my + ssimC1) * (sxx + syy + ssimC2))
			}
		}
	}
	return total / float64(3*(w-2*ssimRadius)*(h-2*ssimRadius)), nil
}

// ssimWeights are those of the window along one axis; they sum to 1.
var ssimWeights = func() (k [2*ssimRadius + 1]float64) {
	sum := 0.0
	for i := range k {
		d := float64(i - ssimRadius)
		k[i] = math.Exp(-d * d / (2 * ssimSigma * ssimSigma))
		sum += k[i]
	}
	for i := range k {
		k[i] /= sum
	}
	return k
}()

// blur replaces each value at x, y by the weighted mean of the window whose corner it is, where the window fits. rows is scratch of the same size.
func blur(v, rows []float64, w, h int) {
	for y := range h {
		for x := range w - 2*ssimRadius {
			sum := 0.0
			for k, weight := range ssimWeights {
				sum += weight * v[y*w+x+k]
			}
			rows[y*w+x] = sum
		}
	}
	for y := range h - 2*ssimRadius {
		for x := range w - 2*ssimRadius {
			sum := 0.0
			for k, weight := range ssimWeights {
				sum += weight * rows[(y+k)*w+x]
			}
			v[y*w+x] = sum
		}
	}
}
