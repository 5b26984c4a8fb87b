package dit

import (
	"context"
	"errors"
	"fmt"
	"image"
	"runtime"
	"sync"

	ecad "ecadx/cgo"
	"ecadx/dit/noise"
)

// smallModel is the number of weights below which a model runs on several single-thread devices, each with its own images, instead of one
// device with all cores: small products do not scale across threads.
const smallModel = 50e6

// PipelineConfig says how to run a model from captions to pictures.
type PipelineConfig struct {
	Backend ecad.Backend
	Ordinal int
	Threads int // cores to use in all; 0: every one
	ISA     ecad.ISA
	GEMM    ecad.GEMM // CUDA: who multiplies matrices
	DType   DType
	// KeepEncoder keeps the text encoder open between calls. Off, it is opened and released by each Encode, for text encoders
	// larger than the transformer.
	KeepEncoder bool
	// CheckFinite makes every run of text encoder, transformer and decoder stop at the first NaN or infinity, with an error that names step,
	// block, component and op. It reads every output once more.
	CheckFinite bool
}

// Pipeline is a model with the devices it runs on. Captions become Prompts (Encode), Prompts and noise become latents (a Worker's
// Denoiser), latents become pictures (a Worker's Decode). Safe for concurrent use.
type Pipeline struct {
	Model   *Model
	Workers []*Worker // share nothing but the weights in host memory; run side by side
	DType   DType

	cfg     PipelineConfig
	mu      sync.Mutex
	encoder *PromptEncoder
	decoder *ImageDecoder
}

// Worker is one device with the programs loaded on it.
type Worker struct {
	Device   *ecad.Device
	Denoiser *Denoiser
	pipeline *Pipeline
}

// OpenPipeline opens the devices for a model: for a small model one single-thread device per core, else one device. The model must outlive
// the Pipeline.
func (m *Model) OpenPipeline(cfg PipelineConfig) (*Pipeline, error) {
	w, err := m.Weights()
	if err != nil {
		return nil, err
	}
	threads := cfg.Threads
	if threads <= 0 {
		threads = runtime.NumCPU()
	}
	devices, each := 1, threads
	if cfg.Backend == ecad.CPU && w.Tensors().Parameters() < smallModel {
		devices, each = threads, 1
	}
	p := &Pipeline{Model: m, DType: cfg.DType, cfg: cfg}
	if _, err := m.SamplerConfig(); err != nil {
		return nil, err
	}
	for range devices {
		dev, err := ecad.OpenDevice(ecad.DeviceConfig{Backend: cfg.Backend, Ordinal: cfg.Ordinal, Threads: each, ISA: cfg.ISA, GEMM: cfg.GEMM})
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		d := NewDenoiser(m, dev)
		d.CheckFinite = cfg.CheckFinite
		p.Workers = append(p.Workers, &Worker{Device: dev, Denoiser: d, pipeline: p})
	}
	return p, nil
}

// Encode turns captions into Prompts on the first worker.
func (p *Pipeline) Encode(ctx context.Context, prompts []string) ([]Prompt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.encoder == nil {
		e, err := p.Model.OpenPromptEncoder()
		if err != nil {
			return nil, err
		}
		e.CheckFinite = p.cfg.CheckFinite
		p.encoder = e
	}
	dev := p.Workers[0].Device
	out, err := p.encoder.Encode(ctx, dev, p.DType, prompts)
	if p.cfg.KeepEncoder {
		return out, err
	}
	e := p.encoder
	p.encoder = nil
	return out, errors.Join(err, e.Close())
}

// EncodeGuided encodes the prompts of a run with a guidance scale. negatives is the negative prompt alone, or nil where no row of the run would read it
// (see Model.Guided): in FLUX, whose encoders are slow to run on a CPU, ever.
func (p *Pipeline) EncodeGuided(ctx context.Context, guidance float64, negative string, texts []string) (prompts, negatives []Prompt, err error) {
	if !p.Model.Guided(guidance) {
		prompts, err = p.Encode(ctx, texts)
		return prompts, nil, err
	}
	all, err := p.Encode(ctx, append([]string{negative}, texts...))
	if err != nil {
		return nil, nil, err
	}
	return all[1:], all[:1], nil
}

// images is the decoder, opened on first use.
func (p *Pipeline) images() (*ImageDecoder, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.decoder == nil {
		d, err := p.Model.OpenImageDecoder()
		if err != nil {
			return nil, err
		}
		d.CheckFinite = p.cfg.CheckFinite
		p.decoder = d
	}
	return p.decoder, nil
}

// PixelFactor is how many pixels a latent spans in each direction.
func (p *Pipeline) PixelFactor() (int, error) {
	d, err := p.images()
	if err != nil {
		return 0, err
	}
	return d.Factor(), nil
}

// Decode turns latents [batch, Cz, h, w] into pictures on the worker's device.
func (w *Worker) Decode(ctx context.Context, latents []float32, batch, height, width int) ([]*image.NRGBA, error) {
	d, err := w.pipeline.images()
	if err != nil {
		return nil, err
	}
	return d.Decode(ctx, w.Device, w.pipeline.DType, latents, batch, height, width)
}

// Noise is the starting latents of a batch, one seed per image: each is what torch.randn(1, Cz, h, w) makes with
// torch.Generator("cpu").manual_seed(seed), in float32. Every sampler here starts from unit variance.
func (m *Model) Noise(seeds []int64, height, width int) []float32 {
	n := m.Defaults().LatentChannels * height * width
	out := make([]float32, n*len(seeds))
	for i, seed := range seeds {
		noise.New(seed).Normal(out[i*n : (i+1)*n])
	}
	return out
}

// Close releases programs and devices.
func (p *Pipeline) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	if p.encoder != nil {
		errs = append(errs, p.encoder.Close())
	}
	if p.decoder != nil {
		errs = append(errs, p.decoder.Close())
	}
	p.encoder, p.decoder = nil, nil
	weights, err := p.Model.Weights()
	errs = append(errs, err)
	for _, w := range p.Workers {
		errs = append(errs, w.Denoiser.Close())
		if weights != nil {
			errs = append(errs, weights.Forget(w.Device))
		}
		errs = append(errs, w.Device.Close())
	}
	p.Workers = nil
	return errors.Join(errs...)
}

// LatentSize translates pixels to latents and checks that the model can make the size.
func (p *Pipeline) LatentSize(height, width int) (h, w int, err error) {
	f, err := p.PixelFactor()
	if err != nil {
		return 0, 0, err
	}
	step := f * p.Model.Defaults().LatentMultiple
	if height < step || width < step || height%step != 0 || width%step != 0 {
		return 0, 0, fmt.Errorf("resolution %dx%d: height and width must be multiples of %d", height, width, step)
	}
	return height / f, width / f, nil
}
