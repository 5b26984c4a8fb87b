package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"ecadx/bench"
	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/safetensors"
	"ecadx/schedule"
)

// Names of the tensors that denoise reads and writes.
const (
	tensorLatents        = "latents"
	tensorPrompt         = "prompt_embeds"
	tensorPromptMask     = "prompt_mask"
	tensorPromptCounts   = "prompt_counts"
	tensorPooled         = "pooled_prompt_embeds"
	tensorNegative       = "negative_prompt_embeds"
	tensorNegativeMask   = "negative_prompt_mask"
	tensorResolution     = "resolution"
	tensorAspectRatio    = "aspect_ratio"
	tensorOutput         = "output"
	forwardFlag          = "forward"
	denoiseResolutionTip = "for micro-conditioned models [B,2], height and width in pixels"
)

func denoiseCommand() *cli.Command {
	return &cli.Command{
		Name:      "denoise",
		Usage:     "tensors in, tensors out: run the sampler or one call of the transformer",
		UsageText: "ecadx denoise --inputs F.safetensors --out F.safetensors [flags]",
		CustomHelpTemplate: commandHelp(`Inputs: latents [B,C,H,W], prompt_embeds [B,T,D], prompt_mask [B,T] (0/1, holes allowed, at least one 1) and, unless guidance is
at most 1, negative_prompt_embeds and negative_prompt_mask ([B,...] or [1,...] for all). Micro-conditioned models also take
resolution [B,2] and aspect_ratio [B,1], 8x the latent size without them. The result is latents [B,C,H,W]; with --forward T
it is output, all channels of one call at timestep T, without sampler and classifier-free guidance. FLUX, which is told the guidance scale and attends to padding,
takes latents as they are before packing, prompt_embeds with all tokens, pooled_prompt_embeds [B,P], no masks and nothing negative. The inputs.safetensors of ecadx compile will do as well,
which has prompt_counts instead of masks: prompt_embeds [R,T,D], with guidance R = 2 B, the negative prompts first. Everything is float32 unless --dtype says otherwise.`,
			"ecadx denoise --inputs in.safetensors --out out.safetensors --steps 20 --schedule fora:2",
			"ecadx denoise --model random:pixart-alpha-256 --inputs in.safetensors --out out.safetensors --forward 500 --device reference"),
		Flags: append(runFlags(), append(commonFlags(flagSchedule),
			&cli.StringFlag{Name: "inputs", Usage: "read tensors from `FILE`"},
			&cli.StringFlag{Name: flagOut, Usage: "write tensors to `FILE`"},
			&cli.Float64Flag{Name: forwardFlag, Usage: "one transformer call at timestep `T`, 0 to 1000", DefaultText: "run the sampler"},
			commonFlag(flagCheckFinite))...),
		Action: denoise,
	}
}

// denoiseReport is denoise --json.
type denoiseReport struct {
	File     string         `json:"file"`
	Tensor   string         `json:"tensor"`
	Shape    []int          `json:"shape"`
	MS       float64        `json:"ms"`
	Model    string         `json:"model"`
	Device   string         `json:"device"`
	DType    string         `json:"dtype"`
	Steps    int            `json:"steps,omitempty"`
	Timestep *float64       `json:"timestep,omitempty"`
	Guidance float64        `json:"guidance"`
	Schedule string         `json:"schedule,omitempty"`
	Hash     *schedule.Hash `json:"schedule_hash,omitempty"`
}

func denoise(c *cli.Context) error {
	o, err := parseOptions(c)
	if err != nil {
		return err
	}
	if _, err := positional(c, 0, 0, "ecadx denoise --inputs FILE --out FILE"); err != nil {
		return err
	}
	in, out := c.String("inputs"), c.String(flagOut)
	if in == "" || out == "" {
		return usageError("%s: --inputs and --out are both needed: name two safetensors files", o.command)
	}
	forward := c.IsSet(forwardFlag)
	if t := c.Float64(forwardFlag); forward && !(t >= 0 && t <= 1000) {
		return usageError("%s: --%s: timestep %v: use 0 to 1000", o.command, forwardFlag, t)
	}
	if forward && c.IsSet(flagSchedule) {
		return usageError("%s: --%s: one call has no schedule: leave out --%s", o.command, forwardFlag, flagSchedule)
	}
	if err := o.checkAbsent(out); err != nil {
		return err
	}
	if o.dtype.auto {
		o.dtype = dtypeChoice{dtype: dit.Float32}
	}
	m, err := o.openModel()
	if err != nil {
		return err
	}
	defer m.Close()
	d := &denoising{options: o, model: m, guidance: m.Defaults().Guidance, run: ecad.RunOptions{CheckFinite: o.checkFinite}}
	if o.guidance != nil {
		d.guidance = *o.guidance
	}
	if forward && m.Defaults().Guiding == dit.ClassifierFree {
		d.guidance = 1
	}
	if err := d.read(in); err != nil {
		return err
	}
	report := &denoiseReport{File: out, Tensor: tensorLatents, Model: o.model, DType: o.dtype.dtype.String(), Guidance: d.guidance}
	var result []float32
	if forward {
		t := c.Float64(forwardFlag)
		report.Tensor, report.Timestep = tensorOutput, &t
		result, err = d.forward(c, report, t)
	} else {
		result, err = d.sample(c, report)
	}
	if err != nil {
		return err
	}
	if err := writeTensor(out, report.Tensor, report.Shape, result); err != nil {
		return err
	}
	if o.output == asJSON {
		return writeJSON(environmentOf(c).stdout, report)
	}
	_, err = fmt.Fprintf(environmentOf(c).stdout, "%s: %s %v, %s on %s, %s, %.0f ms\n", out, report.Tensor, report.Shape, report.Model, report.Device, report.DType, report.MS)
	return err
}

// denoising is the tensors of one call, checked.
type denoising struct {
	*options
	model    *dit.Model
	guidance float64
	inputs   dit.Inputs
	run      ecad.RunOptions
}

// sample runs the whole loop.
func (d *denoising) sample(c *cli.Context, r *denoiseReport) ([]float32, error) {
	ref, err := resolveSchedule(d.schedule, d.model.Shape(d.steps))
	if err != nil {
		return nil, err
	}
	loop, err := d.model.Sampler(d.steps, d.inputs.Height, d.inputs.Width)
	if err != nil {
		return nil, badInput(err)
	}
	hash := ref.schedule.Hash()
	r.Steps, r.Schedule, r.Hash = d.steps, ref.ref, &hash
	r.Shape = []int{len(d.inputs.Prompts), d.model.Defaults().LatentChannels, d.inputs.Height, d.inputs.Width}
	p := d.newProgress(environmentOf(c), "denoise", "steps", d.steps)
	defer p.end()
	d.run.OnItem = func(done, _ int) {
		if done > 1 {
			p.add(1)
		}
	}
	return d.on(c, r, func(n *dit.Denoiser) ([]float32, error) {
		return n.Denoise(c.Context, d.inputs, dit.DenoiseOptions{Sizes: dit.Sizes{DType: d.dtype.dtype}, Guidance: d.guidance, Sampler: loop,
			Schedules: []*schedule.Schedule{ref.schedule}, Names: []string{shortRef(ref.ref)}}, d.run)
	})
}

// forward makes one call of the transformer.
func (d *denoising) forward(c *cli.Context, r *denoiseReport, timestep float64) ([]float32, error) {
	result, err := d.on(c, r, func(n *dit.Denoiser) ([]float32, error) {
		return n.Predict(c.Context, d.inputs, dit.ForwardOptions{Sizes: dit.Sizes{DType: d.dtype.dtype}, Timestep: timestep, Guidance: d.guidance}, d.run)
	})
	if err != nil {
		return nil, err
	}
	b, plane := len(d.inputs.Prompts), d.inputs.Height*d.inputs.Width
	r.Shape = []int{b, len(result) / (b * plane), d.inputs.Height, d.inputs.Width}
	return result, nil
}

// on opens the device and times the work.
func (d *denoising) on(c *cli.Context, r *denoiseReport, work func(*dit.Denoiser) ([]float32, error)) ([]float32, error) {
	backend, ordinal, err := d.chooseDevice()
	if err != nil {
		return nil, err
	}
	r.Device = deviceChoice{backend: backend, ordinal: ordinal}.String()
	dev, err := ecad.OpenDevice(ecad.DeviceConfig{Backend: backend, Ordinal: ordinal, Threads: d.threads, GEMM: d.gemm})
	if err != nil {
		return nil, fmt.Errorf("--device %s: %w", r.Device, err)
	}
	defer dev.Close()
	n := dit.NewDenoiser(d.model, dev)
	defer n.Close()
	start := time.Now()
	result, err := work(n)
	r.MS = milliseconds(time.Since(start))
	if err != nil {
		return nil, badModel(err)
	}
	return result, nil
}

// read reads and checks the tensors of a file.
func (d *denoising) read(path string) error {
	f, err := safetensors.Open(path)
	if err != nil {
		return badInput(err)
	}
	defer f.Close()
	t := tensorFile{File: f, path: path}
	latents, shape, err := t.floats(tensorLatents, 4)
	if err != nil {
		return err
	}
	def := d.model.Defaults()
	switch {
	case shape[0] < 1 || shape[2] < 1 || shape[3] < 1:
		return t.fail(tensorLatents, "its shape %v is empty: write at least one image", shape)
	case shape[1] != def.LatentChannels:
		return t.fail(tensorLatents, "it has %d channels, %s has %d: write [B,%d,H,W]", shape[1], d.model.Ref(), def.LatentChannels, def.LatentChannels)
	case shape[2]%def.LatentMultiple != 0 || shape[3]%def.LatentMultiple != 0:
		return t.fail(tensorLatents, "height %d and width %d must be multiples of %d", shape[2], shape[3], def.LatentMultiple)
	}
	if r := d.resolution; r != (pixels{}) {
		size, err := bench.SizeOf(d.model, r.height, r.width)
		if err != nil {
			return usageError("%s: --%s: %w", d.command, flagResolution, err)
		}
		if size.LatentHeight != shape[2] || size.LatentWidth != shape[3] {
			return usageError("%s: --%s: %v makes latents of %d x %d, the file's are %d x %d: leave it out", d.command, flagResolution, r, size.LatentHeight, size.LatentWidth,
				shape[2], shape[3])
		}
	}
	batch := shape[0]
	d.inputs = dit.Inputs{Latents: latents, Height: shape[2], Width: shape[3]}
	switch _, counted := t.Tensor(tensorPromptCounts); {
	case def.Unmasked:
		err = d.readUnmasked(t, batch, def.TextWidth)
	case counted:
		err = d.readRows(t, batch, def.TextWidth)
	default:
		err = d.readPrompts(t, batch, def.TextWidth)
	}
	if err == nil && def.PooledWidth > 0 {
		err = d.readPooled(t, def.PooledWidth)
	}
	if err != nil {
		return err
	}
	return d.readConditions(t, batch, def.Micro)
}

// readUnmasked reads embeddings of which every token counts. A mask that drops tokens is refused: the model attends to padding.
func (d *denoising) readUnmasked(t tensorFile, batch, width int) error {
	v, shape, err := t.embeddings(tensorPrompt, width)
	if err != nil {
		return err
	}
	if shape[0] != batch || shape[1] < 1 {
		return t.fail(tensorPrompt, "its shape is %v, latents have %d rows: write [%d,T,%d]", shape, batch, batch, width)
	}
	if _, ok := t.Tensor(tensorPromptMask); ok {
		m, _, err := t.mask(tensorPromptMask)
		if err != nil {
			return err
		}
		if i := slices.Index(m, 0); i >= 0 {
			return t.fail(tensorPromptMask, "value %d is 0, but %s attends to padding: leave the mask out", i, d.model.Ref())
		}
	}
	for i := range batch {
		d.inputs.Prompts = append(d.inputs.Prompts, dit.Prompt{Embeds: v[i*shape[1]*width : (i+1)*shape[1]*width], Tokens: shape[1]})
	}
	return nil
}

// readPooled reads the pooled embedding of each prompt.
func (d *denoising) readPooled(t tensorFile, width int) error {
	v, shape, err := t.floats(tensorPooled, 2)
	if err != nil {
		return err
	}
	if n := len(d.inputs.Prompts); shape[0] != n || shape[1] != width {
		return t.fail(tensorPooled, "its shape is %v: write [%d,%d]", shape, n, width)
	}
	for i := range d.inputs.Prompts {
		d.inputs.Prompts[i].Pooled = v[i*width : (i+1)*width]
	}
	return nil
}

// readPrompts reads embeddings with masks.
func (d *denoising) readPrompts(t tensorFile, batch, width int) (err error) {
	if d.inputs.Prompts, err = t.prompts(tensorPrompt, tensorPromptMask, width); err != nil {
		return err
	}
	if len(d.inputs.Prompts) != batch {
		return t.fail(tensorPrompt, "it has %d rows, latents have %d: write one per image", len(d.inputs.Prompts), batch)
	}
	if d.model.Guided(d.guidance) {
		if d.inputs.Negative, err = t.prompts(tensorNegative, tensorNegativeMask, width); err != nil {
			return err
		}
		if n := len(d.inputs.Negative); n != batch && n != 1 {
			return t.fail(tensorNegative, "it has %d rows, latents have %d: write one per image, or one for all", n, batch)
		}
	}
	return nil
}

// readRows reads the rows of a program: with guidance the negative prompts first, of each its first prompt_counts tokens.
func (d *denoising) readRows(t tensorFile, batch, width int) error {
	v, shape, err := t.embeddings(tensorPrompt, width)
	if err != nil {
		return err
	}
	counts, countShape, err := t.floats(tensorPromptCounts, 1)
	if err != nil {
		return err
	}
	rows := batch
	if d.model.Guided(d.guidance) {
		rows *= 2
	}
	if shape[0] != rows || countShape[0] != rows {
		return t.fail(tensorPrompt, "it has %d rows and %s %d, %d images at guidance %g need %d: compile with the same --%s", shape[0], tensorPromptCounts, countShape[0], batch,
			d.guidance, rows, flagGuidance)
	}
	var list []dit.Prompt
	for i, n := range counts {
		if !(n >= 1 && int(n) <= shape[1]) || n != float32(int(n)) {
			return t.fail(tensorPromptCounts, "row %d holds %v: write 1 to %d", i, n, shape[1])
		}
		at := i * shape[1] * width
		list = append(list, dit.Prompt{Embeds: v[at : at+int(n)*width], Tokens: int(n)})
	}
	d.inputs.Negative, d.inputs.Prompts = list[:rows-batch], list[rows-batch:]
	return nil
}

// readConditions reads the micro-conditions, where there are any.
func (d *denoising) readConditions(t tensorFile, batch int, micro bool) error {
	_, hasResolution := t.Tensor(tensorResolution)
	_, hasRatio := t.Tensor(tensorAspectRatio)
	if !micro || !hasResolution && !hasRatio {
		return nil
	}
	for range batch {
		d.inputs.Conditions = append(d.inputs.Conditions, dit.SizeCondition(8*d.inputs.Height, 8*d.inputs.Width))
	}
	column := func(name string, width int) ([]float32, error) {
		v, shape, err := t.floats(name, 2)
		if err == nil && (shape[1] != width || shape[0] != batch && shape[0] != 1) {
			err = t.fail(name, "its shape is %v: write [%d,%d], %s", shape, batch, width, denoiseResolutionTip)
		}
		return v, err
	}
	if hasResolution {
		v, err := column(tensorResolution, 2)
		if err != nil {
			return err
		}
		for i := range d.inputs.Conditions {
			at := 2 * i % len(v)
			d.inputs.Conditions[i].Height, d.inputs.Conditions[i].Width = v[at], v[at+1]
		}
	}
	if hasRatio {
		v, err := column(tensorAspectRatio, 1)
		if err != nil {
			return err
		}
		for i := range d.inputs.Conditions {
			d.inputs.Conditions[i].AspectRatio = v[i%len(v)]
		}
	}
	return nil
}

// tensorFile is a file of input tensors.
type tensorFile struct {
	*safetensors.File
	path string
}

func (t tensorFile) fail(name, format string, args ...any) error {
	return inputError("%s: tensor %q: "+format, append([]any{t.path, name}, args...)...)
}

// get returns a tensor of a rank.
func (t tensorFile) get(name string, rank int) (safetensors.Tensor, []int, error) {
	x, ok := t.Tensor(name)
	if !ok {
		return x, nil, t.fail(name, "it is missing (the file has %s): add it", strings.Join(t.Names(), ", "))
	}
	if len(x.Shape) != rank {
		return x, nil, t.fail(name, "its shape is %v: it must have %d dimensions", x.Shape, rank)
	}
	shape := make([]int, rank)
	for i, n := range x.Shape {
		if shape[i] = int(n); n > math.MaxInt32 {
			return x, nil, t.fail(name, "its shape %v is too large", x.Shape)
		}
	}
	return x, shape, nil
}

// floats returns the values of a floating-point tensor. NaN and infinity are refused: nothing good comes of them.
func (t tensorFile) floats(name string, rank int) ([]float32, []int, error) {
	x, shape, err := t.get(name, rank)
	if err != nil {
		return nil, nil, err
	}
	v, err := x.ToFloat32()
	if err != nil {
		return nil, nil, t.fail(name, "it is %v: write float32", x.DType)
	}
	if i := slices.IndexFunc(v, func(f float32) bool { return f-f != 0 }); i >= 0 {
		return nil, nil, t.fail(name, "value %d is %v: write finite values", i, v[i])
	}
	return v, shape, nil
}

// mask returns a 0/1 tensor of any number type.
func (t tensorFile) mask(name string) ([]int, []int, error) {
	v, shape, err := t.floats(name, 2)
	if err != nil {
		return nil, nil, err
	}
	out := make([]int, len(v))
	for i, f := range v {
		if out[i] = int(f); f != 0 && f != 1 {
			out[i] = -1
		}
	}
	if i := slices.Index(out, -1); i >= 0 {
		return nil, nil, t.fail(name, "value %d is neither 0 nor 1", i)
	}
	return out, shape, nil
}

// embeddings returns a tensor [R,T,width].
func (t tensorFile) embeddings(name string, width int) ([]float32, []int, error) {
	v, shape, err := t.floats(name, 3)
	if err == nil && shape[2] != width {
		err = t.fail(name, "its rows are %d wide, the model reads %d: encode with the model's own text encoder", shape[2], width)
	}
	return v, shape, err
}

// prompts returns the kept tokens of each row.
func (t tensorFile) prompts(embeds, mask string, width int) ([]dit.Prompt, error) {
	v, shape, err := t.embeddings(embeds, width)
	if err != nil {
		return nil, err
	}
	m, maskShape, err := t.mask(mask)
	if err != nil {
		return nil, err
	}
	if maskShape[0] != shape[0] || maskShape[1] != shape[1] {
		return nil, t.fail(mask, "its shape is %v, %s is %v: write [%d,%d]", maskShape, embeds, shape, shape[0], shape[1])
	}
	var list []dit.Prompt
	for i := range shape[0] {
		p, err := dit.PackPrompt(v[i*shape[1]*width:(i+1)*shape[1]*width], width, m[i*shape[1]:(i+1)*shape[1]])
		if err != nil {
			return nil, t.fail(mask, "row %d: %v", i, err)
		}
		list = append(list, p)
	}
	return list, nil
}

// writeTensor writes a file with one float32 tensor.
func writeTensor(path, name string, shape []int, values []float32) error {
	x := safetensors.Tensor{Name: name, DType: safetensors.F32}
	for _, n := range shape {
		x.Shape = append(x.Shape, int64(n))
	}
	for _, v := range values {
		x.Data = binary.LittleEndian.AppendUint32(x.Data, math.Float32bits(v))
	}
	return safetensors.WriteFile(path, safetensors.Items(x), map[string]string{"format": "pt"})
}
