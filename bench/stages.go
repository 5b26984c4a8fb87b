package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"ecadx/dit"
)

// stageRuns is how often text encoder and decoder run, after one run that warms up, when repeats are automatic.
const stageRuns = 3

// repeat measures one stage.
func (b *bench) repeat(ctx context.Context, do func() error) ([]float64, error) {
	runs := b.cfg.Repeats
	if runs == 0 {
		runs = stageRuns
	}
	var ms []float64
	for i := range runs + 1 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		start := time.Now()
		if err := do(); err != nil {
			return nil, err
		}
		if i > 0 {
			ms = append(ms, milliseconds(time.Since(start)))
		}
	}
	return ms, nil
}

// textWeights is the number of weights of the model's text encoders.
func textWeights(m *dit.Model) (all int64, err error) {
	for _, part := range m.Parts() {
		if part != dit.TextEncoder && part != dit.TextEncoder2 {
			continue
		}
		t, err := m.Snapshot().OpenTensors(part)
		if err != nil {
			return 0, err
		}
		all += t.Parameters()
		if err := t.Close(); err != nil {
			return 0, err
		}
	}
	return all, nil
}

// measureText times the text encoders on the batch's prompts, where the model has them and they fit.
func (b *bench) measureText(ctx context.Context) (err error) {
	if b.cfg.TransformerOnly || !b.cfg.Model.HasText() {
		return nil
	}
	weights, err := textWeights(b.cfg.Model)
	if err != nil {
		return err
	}
	need := 4 * weights
	if free := availableBytes(); free > 0 && need > free {
		b.remark("text_ms left out: the text encoder needs about %.1f GB, %.1f GB are free", float64(need)/1e9, float64(free)/1e9)
		return nil
	}
	e, err := b.cfg.Model.OpenPromptEncoder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	prompts := make([]string, b.cfg.Batch)
	for i := range prompts {
		prompts[i] = fmt.Sprintf("a photograph of a lighthouse on a cliff above the sea, number %d", i+1)
	}
	if b.cfg.Model.Guided(b.cfg.Guidance) {
		prompts = append(prompts, "")
	}
	b.text, err = b.repeat(ctx, func() error {
		_, err := e.Encode(ctx, b.dev, b.cfg.DType, prompts)
		return err
	})
	return err
}

// measureDecode times the decoder on the batch, where the model has one.
func (b *bench) measureDecode(ctx context.Context) (err error) {
	s := b.cfg.Model.Snapshot()
	if b.cfg.TransformerOnly || s == nil || !s.Has(dit.VAE, "config.json") {
		return nil
	}
	d, err := b.cfg.Model.OpenImageDecoder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	b.decode, err = b.repeat(ctx, func() error {
		_, err := d.Decode(ctx, b.dev, b.cfg.DType, b.inputs.Latents, b.cfg.Batch, b.size.LatentHeight, b.size.LatentWidth)
		return err
	})
	return err
}

func (b *bench) remark(format string, args ...any) {
	if b.cfg.Remark != nil {
		b.cfg.Remark(fmt.Sprintf(format, args...))
	}
}
