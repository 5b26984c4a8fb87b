package mini

import (
	"errors"
	"image"
	"math"
	"sync"
)

// Fault says why a picture is not strictly right.
type Fault uint8

// The faults, in the order in which they are looked for.
const (
	None            Fault = iota // strictly right
	WrongBackground              // the named background does not hold most of the picture
	MissingObject                // hardly anything has the colour of a named object
	WrongShape                   // an object of that colour has another shape, or none
	WrongSize                    // its radius is on the wrong side of the middle between the sizes
	WrongRelation                // the objects stand otherwise to each other
	ExtraObject                  // something else stands there as well
	faultCount
)

var faultNames = [faultCount]string{"none", "background", "missing", "shape", "size", "relation", "extra"}

// String names the fault in one word.
func (f Fault) String() string { return name(faultNames[:], int(f)) }

// Result is the judgement of one picture.
type Result struct {
	// Strict: the picture shows what the caption says, and nothing else.
	Strict bool
	// Smooth is 1 for a perfect picture and falls to 0 with every departure from the nearest picture that the
	// training set could hold: wrong or blurred outlines, places, sizes, colours, background.
	Smooth float64
	// Fault says why Strict is false.
	Fault Fault
}

// Score judges a picture by its caption. Pictures that are not [PictureSize] pixels wide and high are resampled first.
// It is deterministic, may be called by several goroutines and takes about a millisecond. The error says that the
// caption is not of the grammar or that the picture is empty.
func Score(img image.Image, caption string) (Result, error) {
	scene, err := ParseScene(caption)
	if err != nil {
		return Result{}, err
	}
	return ScoreScene(img, scene)
}

// ScoreScene judges a picture by a scene, like [Score].
func ScoreScene(img image.Image, scene Scene) (Result, error) {
	if !scene.valid() {
		return Result{}, errors.New("ecadx/mini: the scene has a member that is no known constant")
	}
	j := judges.Get().(*judge)
	defer judges.Put(j)
	if err := j.load(img); err != nil {
		return Result{}, err
	}
	fault := j.strict(scene)
	return Result{Strict: fault == None, Smooth: j.smooth(scene), Fault: fault}, nil
}

const pixelCount = PictureSize * PictureSize

// judge holds one picture and the scratch memory of its judgement.
type judge struct {
	pixels     [pixelCount][3]float64 // 0 to 255
	labels     [pixelCount]uint8      // nearest palette colour: colours first, then backgrounds
	mask       [pixelCount]bool       // opened mask of one label
	parts      [pixelCount]uint16     // connected component of each pixel, 0 for none
	stack      []int32
	components []component
	member     [pixelCount]float64 // share of an object's colour in each pixel
}

var judges = sync.Pool{New: func() any { return new(judge) }}

const paletteSize = int(colourCount) + int(backgroundCount)

func palette(label int) RGB {
	if label < int(colourCount) {
		return colourRGB[label]
	}
	return groundRGB[label-int(colourCount)]
}

// load copies the picture, by area averages (or nearest pixels, if it is smaller) where its size is another one.
func (j *judge) load(img image.Image) error {
	b := img.Bounds()
	if b.Empty() {
		return errors.New("ecadx/mini: cannot score an empty picture")
	}
	rgba, direct := img.(*image.RGBA)
	read := func(x, y int) [3]float64 {
		if direct {
			p := rgba.Pix[rgba.PixOffset(x, y):]
			return [3]float64{float64(p[0]), float64(p[1]), float64(p[2])}
		}
		r, g, b, _ := img.At(x, y).RGBA()
		return [3]float64{float64(r) / 257, float64(g) / 257, float64(b) / 257}
	}
	span := func(i, size int) (int, int) {
		lo, hi := i*size/PictureSize, (i+1)*size/PictureSize
		return lo, max(hi, lo+1)
	}
	for y := range PictureSize {
		y0, y1 := span(y, b.Dy())
		for x := range PictureSize {
			x0, x1 := span(x, b.Dx())
			var sum [3]float64
			for v := y0; v < y1; v++ {
				for u := x0; u < x1; u++ {
					p := read(b.Min.X+u, b.Min.Y+v)
					for k := range sum {
						sum[k] += p[k]
					}
				}
			}
			for k := range sum {
				sum[k] /= float64((y1 - y0) * (x1 - x0))
			}
			j.pixels[y*PictureSize+x] = sum
		}
	}
	return nil
}

// How the smooth score judges colours: a pixel off by so many levels (Euclidean, of 255) counts 1/e.
const colourTolerance = 60.0

func agreement(squared float64) float64 {
	return math.Exp(-squared / (colourTolerance * colourTolerance))
}

// smooth is the mean over the objects of the squared soft intersection over union of the object's colour with the
// best template of its shape within the ranges of its size and place, times the agreement of the background around
// them.
func (j *judge) smooth(s Scene) float64 {
	var sum float64
	var found [2]Placed
	objects := [2]Object{s.A, s.B}
	for i := range s.Objects() {
		window := s.side(i)
		j.measureMembership(objects[i].Colour, s.Background, window)
		var iou float64
		found[i], iou = j.fitTemplate(objects[i], s.where(i), window)
		sum += iou * iou
	}
	return sum / float64(s.Objects()) * j.backgroundAgreement(s.Background, found[:s.Objects()])
}

// rect is a range of pixels, ends excluded.
type rect struct{ x0, x1, y0, y1 int }

// side is the part of the picture in which object i is looked for.
func (s Scene) side(i int) rect {
	r := rect{0, PictureSize, 0, PictureSize}
	lo, hi := &r.x0, &r.x1
	if s.Layout == Stacked {
		lo, hi = &r.y0, &r.y1
	}
	if s.Layout != Single {
		if i == 0 {
			*hi = PictureSize / 2
		} else {
			*lo = PictureSize / 2
		}
	}
	return r
}

// measureMembership sets member: how much of each pixel of the window has the object's colour, taken as a mixture
// with the background, times how well such a mixture explains it.
func (j *judge) measureMembership(colour Colour, ground Background, window rect) {
	var base, line [3]float64
	var length float64
	for k := range base {
		base[k] = float64(groundRGB[ground][k])
		line[k] = float64(colourRGB[colour][k]) - base[k]
		length += line[k] * line[k]
	}
	for y := window.y0; y < window.y1; y++ {
		for x := window.x0; x < window.x1; x++ {
			p := &j.pixels[y*PictureSize+x]
			var dot, squared float64
			for k := range base {
				dot += (p[k] - base[k]) * line[k]
			}
			share := min(1, max(0, dot/length))
			for k := range base {
				d := p[k] - base[k] - share*line[k]
				squared += d * d
			}
			j.member[y*PictureSize+x] = share * agreement(squared)
		}
	}
}

// backgroundAgreement is the mean agreement with the named background of all pixels, each weighted by how much of it
// the objects leave free.
func (j *judge) backgroundAgreement(ground Background, objects []Placed) float64 {
	var sum, weights float64
	for y := range PictureSize {
		for x := range PictureSize {
			free := 1.0
			for _, o := range objects {
				// A pixel more than the outline, so that smooth edges do not count.
				free -= coverage(o.Shape, float64(x)+0.5-o.X, float64(y)+0.5-o.Y, o.R+1)
			}
			if free <= 0 {
				continue
			}
			var squared float64
			for k, v := range groundRGB[ground] {
				d := j.pixels[y*PictureSize+x][k] - float64(v)
				squared += d * d
			}
			sum += free * agreement(squared)
			weights += free
		}
	}
	return sum / weights
}

// fitTemplate finds the placement of the object within its ranges with the largest soft intersection over union with
// member, by a pattern search: steps along each parameter, halved when none helps.
func (j *judge) fitTemplate(o Object, a area, window rect) (Placed, float64) {
	radii := radiusRange[o.Size]
	clip := func(p Placed) Placed {
		p.X, p.Y, p.R = min(a.x1, max(a.x0, p.X)), min(a.y1, max(a.y0, p.Y)), min(radii[1], max(radii[0], p.R))
		return p
	}
	best := clip(Placed{o, (a.x0 + a.x1) / 2, (a.y0 + a.y1) / 2, (radii[0] + radii[1]) / 2})
	x, y, total := j.centroid(window)
	if total < 1 { // next to nothing there
		return best, 0
	}
	best = clip(Placed{o, x, y, best.R})
	value := j.overlap(best, window, total)
	for step := 1.0; step > 0.1; {
		improved := false
		for k := range 6 {
			d := step * float64(1-2*(k&1))
			next := best
			*[...]*float64{&next.X, &next.Y, &next.R}[k/2] += d
			if next = clip(next); next == best {
				continue
			}
			if v := j.overlap(next, window, total); v > value {
				best, value, improved = next, v, true
			}
		}
		if !improved {
			step /= 2
		}
	}
	return best, value
}

// centroid and sum of member over the window.
func (j *judge) centroid(window rect) (x, y, sum float64) {
	for v := window.y0; v < window.y1; v++ {
		for u := window.x0; u < window.x1; u++ {
			m := j.member[v*PictureSize+u]
			sum += m
			x += m * (float64(u) + 0.5)
			y += m * (float64(v) + 0.5)
		}
	}
	return x / sum, y / sum, sum
}

// overlap is the soft intersection over union, sum of minima by sum of maxima, of a template with member, whose sum
// over the window is total.
func (j *judge) overlap(o Placed, window rect, total float64) float64 {
	box := o.box(window)
	var both, own float64
	for y := box.y0; y < box.y1; y++ {
		row := j.member[y*PictureSize:][:PictureSize]
		dy := float64(y) + 0.5 - o.Y
		for x := box.x0; x < box.x1; x++ {
			c := coverage(o.Shape, float64(x)+0.5-o.X, dy, o.R)
			own += c
			both += min(row[x], c)
		}
	}
	return both / (total + own - both)
}

// box holds every pixel of the window that the object may cover; no shape reaches further than 1.13 r sideways.
func (o Placed) box(window rect) rect {
	reach := 1.13*o.R + 1
	return rect{
		max(window.x0, int(o.X-reach)), min(window.x1, int(o.X+reach)+1),
		max(window.y0, int(o.Y-reach)), min(window.y1, int(o.Y+reach)+1),
	}
}
