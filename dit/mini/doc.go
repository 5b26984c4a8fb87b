// Package mini holds the built-in miniature model and the small world it draws.
//
// The model is a PixArt of 8 blocks with 2 heads of 72, trained from nothing by the scripts in train/ on pictures of
// coloured shapes with captions; it is embedded in the binary (see [PixArt]) and loads through the code that loads
// released snapshots.
//
// The world is small enough to be judged exactly: [ParseScene] reads what a caption asks for, [Scene.Render] draws a
// scene as the training set shows it, and [Score] says whether a picture shows what its caption says, strictly and
// as a smooth figure between 0 and 1 that a search can climb.
package mini
