// Package mini holds the built-in miniature models and the small world they draw.
//
// They are a PixArt of 8 blocks with 2 heads of 72 and a FLUX of 2 double and 4 single blocks with 4 heads of 32,
// trained by the scripts in train/ on pictures of coloured shapes with captions; they are embedded in the binary (see
// [PixArt] and [Flux]) and load through the code that loads released snapshots.
//
// The world is small enough to be judged exactly: [ParseScene] reads what a caption asks for, [Scene.Render] draws a
// scene as the training set shows it, and [Score] says whether a picture shows what its caption says, strictly and
// as a smooth figure between 0 and 1 that a search can climb.
package mini
