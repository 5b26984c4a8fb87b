package dit

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"sync"

	ecad "ecadx/cgo"
	"ecadx/dit/hfconfig"
	"ecadx/dit/program"
)

// ImageDecoder turns latents into pictures with the decoder of a snapshot's autoencoder. Safe for concurrent use.
type ImageDecoder struct {
	CheckFinite bool // see PipelineConfig; set before use

	cfg     *VAEConfig
	path    string
	old     bool
	weights *Weights

	mu       sync.Mutex
	programs map[decoderKey]*Loaded
}

type decoderKey struct {
	dev         *ecad.Device
	batch, h, w int
	dtype       DType
}

// OpenImageDecoder opens the model's autoencoder. A model without one is an error that says what is missing.
func (m *Model) OpenImageDecoder() (*ImageDecoder, error) {
	s := m.Snapshot()
	if s == nil {
		return nil, fmt.Errorf("%s: this model has no autoencoder, so it makes no pictures: use a snapshot", m.Ref())
	}
	config, err := s.ReadFile(VAE, configFile, hfconfig.MaxSize)
	if err != nil {
		return nil, err
	}
	where := s.Folder(VAE).Path(configFile)
	d := &ImageDecoder{path: s.Folder(VAE).Path(""), programs: map[decoderKey]*Loaded{}}
	if d.cfg, err = decodeVAE(config); err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	if want := m.Defaults().LatentChannels; d.cfg.LatentChannels != want {
		return nil, fmt.Errorf("%s: key \"latent_channels\": %d, but the transformer makes %d: the parts belong to different models", where, d.cfg.LatentChannels, want)
	}
	if d.cfg.OutChannels != 3 {
		return nil, fmt.Errorf("%s: key \"out_channels\": %d: pictures have 3", where, d.cfg.OutChannels)
	}
	t, err := s.OpenTensors(VAE)
	if err != nil {
		return nil, err
	}
	if _, ok := t.Describe(attnKey("to_q.weight", true)); ok {
		d.old = true
	}
	// What is left of the autoencoder is its encoder, which nobody needs here.
	if err := t.verify(d.cfg.specs(d.old)).Err(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	d.weights = NewWeights(t)
	return d, nil
}

// Factor is how many pixels a latent spans in each direction.
func (d *ImageDecoder) Factor() int { return d.cfg.Factor() }

// Decode makes pictures of latents [batch, Cz, h, w] as the sampler leaves them. Source of the last step: diffusers VaeImageProcessor (x/2 +
// 0.5, clamped, times 255, half to even).
func (d *ImageDecoder) Decode(ctx context.Context, dev *ecad.Device, dtype DType, latents []float32, batch, h, w int) ([]*image.NRGBA, error) {
	if want := batch * d.cfg.LatentChannels * h * w; len(latents) != want || want < 1 {
		return nil, fmt.Errorf("decode: %d values of latents for %d pictures of %d x %d x %d", len(latents), batch, d.cfg.LatentChannels, h, w)
	}
	p, err := d.program(decoderKey{dev, batch, h, w, dtype})
	if err != nil {
		return nil, err
	}
	items, err := p.Schedule(0)
	if err != nil {
		return nil, err
	}
	state, err := p.NewState()
	if err != nil {
		return nil, err
	}
	defer state.Close()
	if err := writeFloats(state, p.Program, IOLatents, latents); err != nil {
		return nil, err
	}
	if _, err := state.Run(ctx, p.Program, items, ecad.RunOptions{CheckFinite: d.CheckFinite}); err != nil {
		return nil, fmt.Errorf("%s: %w", d.path, explainFinite(err, d.CheckFinite))
	}
	f := d.Factor()
	pixels, err := readFloats(state, p.Program, ioImage)
	if err != nil {
		return nil, err
	}
	pictures := make([]*image.NRGBA, batch)
	for i := range pictures {
		n := h * f * w * f * 3
		if pictures[i], err = toPicture(pixels[i*n:(i+1)*n], h*f, w*f); err != nil {
			return nil, fmt.Errorf("%s: picture %d: %w", d.path, i, err)
		}
	}
	return pictures, nil
}

// toPicture quantises [h, w, 3] values of about -1..1.
func toPicture(values []float32, h, w int) (*image.NRGBA, error) {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range h * w {
		for c := range 3 {
			v := values[3*i+c]
			if v != v {
				return nil, errors.New("it holds NaN: run with --check-finite to find the first op that made one")
			}
			x := min(max(v/2+0.5, 0), 1)
			img.Pix[4*i+c] = uint8(math.RoundToEven(float64(x * 255)))
		}
		img.Pix[4*i+3] = 255
	}
	return img, nil
}

// Compile makes the decoder for latents [batch, Cz, height, width] as the sampler leaves them. Its ios are latents and image, float32
// [batch, H, W, 3], about -1 to 1.
func (d *ImageDecoder) Compile(batch, height, width int, dtype DType) (*program.Program, error) {
	return d.cfg.compile(batch, height, width, dtype, d.old)
}

func (d *ImageDecoder) program(key decoderKey) (*Loaded, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p, ok := d.programs[key]; ok {
		return p, nil
	}
	compiled, err := d.Compile(key.batch, key.h, key.w, key.dtype)
	if err != nil {
		return nil, err
	}
	p, err := d.weights.Load(key.dev, compiled)
	if err == nil {
		d.programs[key] = p
	}
	return p, err
}

// Close releases programs and weights. The device stays open.
func (d *ImageDecoder) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, p := range d.programs {
		errs = append(errs, p.Close())
	}
	d.programs = map[decoderKey]*Loaded{}
	return errors.Join(append(errs, d.weights.Close())...)
}
