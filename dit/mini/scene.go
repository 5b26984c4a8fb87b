package mini

import (
	"fmt"
	"math/rand/v2"
)

// Shape is the outline of an object.
type Shape uint8

// The shapes, in the order of train/scenes.py.
const (
	Circle Shape = iota
	Square
	Triangle
	Ring
	shapeCount
)

var shapeNames = [shapeCount]string{"circle", "square", "triangle", "ring"}

// String returns the word that captions use.
func (s Shape) String() string { return name(shapeNames[:], int(s)) }

// Colour is the colour of an object.
type Colour uint8

// The colours, in the order of train/scenes.py.
const (
	Red Colour = iota
	Orange
	Yellow
	Green
	Blue
	Purple
	colourCount
)

var colourNames = [colourCount]string{"red", "orange", "yellow", "green", "blue", "purple"}

// String returns the word that captions use.
func (c Colour) String() string { return name(colourNames[:], int(c)) }

// Background is the colour behind the objects.
type Background uint8

// The backgrounds, in the order of train/scenes.py.
const (
	White Background = iota
	Black
	Grey
	backgroundCount
)

var backgroundNames = [backgroundCount]string{"white", "black", "grey"}

// String returns the word that captions use.
func (b Background) String() string { return name(backgroundNames[:], int(b)) }

// Size is the size class of an object.
type Size uint8

// The sizes; their radii are in radiusRange.
const (
	Small Size = iota
	Large
	sizeCount
)

var sizeNames = [sizeCount]string{"small", "large"}

// String returns the first of the words that captions use.
func (s Size) String() string { return name(sizeNames[:], int(s)) }

// Layout says how many objects a scene has and how they stand to each other.
type Layout uint8

// The layouts: one object, two side by side, two one above the other.
const (
	Single Layout = iota
	Beside
	Stacked
	layoutCount
)

var layoutNames = [layoutCount]string{"single", "beside", "stacked"}

// String names the layout.
func (l Layout) String() string { return name(layoutNames[:], int(l)) }

func name(names []string, i int) string {
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("unknown(%d)", i)
}

// Object is what a caption says of one object.
type Object struct {
	Size   Size
	Colour Colour
	Shape  Shape
}

// Scene is what a caption says. A is the only, the left or the upper object; B, the zero value in scenes of one
// object, is the right or the lower one. So two captions mean the same exactly if their scenes are equal (==).
type Scene struct {
	Layout     Layout
	Background Background
	A, B       Object
}

// Objects returns the number of objects, 1 or 2.
func (s Scene) Objects() int {
	if s.Layout == Single {
		return 1
	}
	return 2
}

// valid reports whether every member is a known constant, so that none can index beyond a table.
func (s Scene) valid() bool {
	known := func(o Object) bool { return o.Size < sizeCount && o.Colour < colourCount && o.Shape < shapeCount }
	return s.Layout < layoutCount && s.Background < backgroundCount && known(s.A) && known(s.B)
}

// Pair is a colour with a shape.
type Pair struct {
	Colour Colour
	Shape  Shape
}

// heldOut are the pairs that no training scene shows.
var heldOut = [...]Pair{{Green, Ring}, {Blue, Triangle}, {Yellow, Circle}, {Purple, Square}}

// HeldOut reports whether training never showed the pair.
func (p Pair) HeldOut() bool {
	for _, h := range heldOut {
		if p == h {
			return true
		}
	}
	return false
}

// pairs returns all pairs that are held out, or all that are not.
func pairs(held bool) []Pair {
	var out []Pair
	for c := range colourCount {
		for s := range shapeCount {
			if p := (Pair{c, s}); p.HeldOut() == held {
				out = append(out, p)
			}
		}
	}
	return out
}

// singleShare is the share of scenes of one object in caption lists.
const singleShare = 0.25

// randomScene draws a scene whose pairs all come from choices; two objects never share a colour.
func randomScene(rng *rand.Rand, choices []Pair) Scene {
	draw := func() Object {
		p := choices[rng.IntN(len(choices))]
		return Object{Size(rng.IntN(int(sizeCount))), p.Colour, p.Shape}
	}
	s := Scene{Layout: Single, Background: Background(rng.IntN(int(backgroundCount))), A: draw()}
	if rng.Float64() < singleShare {
		return s
	}
	s.Layout = Layout(1 + rng.IntN(2))
	for s.B = draw(); s.B.Colour == s.A.Colour; s.B = draw() {
	}
	return s
}
