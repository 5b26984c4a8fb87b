package bench

import (
	"context"
	"errors"
	"image"
	"math"
	"time"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/ga"
)

// leafPictures makes the pictures of a run that has ended, schedule s of the tree over the images that begin at one of them. Where latents hold NaN or
// infinity there is no picture but, for those images alone, an error that names the first op that made one. failed is about all pictures.
func (e *Evaluator) leafPictures(ctx context.Context, w *dit.Worker, t *tree, r *dit.Run, s int, images []ga.ImageID, from int) (made []*image.NRGBA, bad []error, failed error) {
	latents, err := r.Latents()
	if err != nil {
		return nil, nil, err
	}
	each := len(latents) / e.cfg.Batch
	bad = make([]error, e.cfg.Batch)
	var why error
	for k := range bad {
		own := latents[k*each : (k+1)*each]
		if allFinite(own) {
			continue
		}
		if why == nil {
			why = e.firstBad(ctx, t, s, images, from)
		}
		bad[k] = why
		clear(own) // the decoder makes the other pictures
	}
	start := time.Now()
	made, err = w.Decode(ctx, latents, e.cfg.Batch, e.h, e.w)
	e.decoding.Add(int64(time.Since(start)))
	return made, bad, err
}

func allFinite(values []float32) bool {
	for _, v := range values {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return false
		}
	}
	return true
}

// firstBad runs a schedule once more, every output checked, and says which op of which step, block and component first made NaN or infinity.
func (e *Evaluator) firstBad(ctx context.Context, t *tree, s int, images []ga.ImageID, from int) error {
	run, _, err := e.start(t.loop, images, from)
	if err != nil {
		return err
	}
	defer run.Close()
	_, err = run.Do(ctx, s, ecad.RunOptions{CheckFinite: true})
	var lib *ecad.Error
	if !errors.As(err, &lib) || lib.Op < 0 {
		return errors.Join(errors.New("the latents hold NaN or infinity, no op's output does"), err)
	}
	return err
}
