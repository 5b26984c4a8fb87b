package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"ecadx/bench"
	"ecadx/dit"
	"ecadx/schedule"
)

func modelCommand() *cli.Command {
	return &cli.Command{
		Name:      "model",
		Usage:     "show, verify and export models",
		UsageText: "ecadx model COMMAND [flags]",
		CustomHelpTemplate: commandHelp("",
			"ecadx model info --model ./PixArt-XL-2-512x512", "ecadx model export --model random:pixart-alpha-256 --out pixart-random"),
		Subcommands: []*cli.Command{modelInfoCommand(), modelVerifyCommand(), modelExportCommand()},
		Action: func(c *cli.Context) error {
			return usageError("ecadx model: a command is missing: use one of %s", strings.Join(commandNames(c.Command.Subcommands), ", "))
		},
	}
}

// modelAction parses the flags and opens the model for a subcommand.
func modelAction(do func(c *cli.Context, o *options, m *dit.Model) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		o, err := parseOptions(c)
		if err != nil {
			return err
		}
		if _, err := positional(c, 0, 0, o.command+" --model REF"); err != nil {
			return err
		}
		m, err := o.openModel()
		if err != nil {
			return err
		}
		return errors.Join(do(c, o, m), m.Close())
	}
}

func modelInfoCommand() *cli.Command {
	return &cli.Command{
		Name:  "info",
		Usage: "tell what a model or snapshot holds",
		CustomHelpTemplate: commandHelp("Reads configurations and the headers of weight files, no weights.",
			"ecadx model info", "ecadx model info --model ./PixArt-Sigma-XL-2-1024-MS --json"),
		Flags:  commonFlags(flagModel, flagJSON),
		Action: modelAction(modelInfo),
	}
}

// modelReport is model info --json.
type modelReport struct {
	Model       string           `json:"model"`
	Family      string           `json:"family"`
	Blocks      []int            `json:"blocks"`     // of each kind
	Components  []string         `json:"components"` // of a block
	Transformer dit.Architecture `json:"transformer"`
	Defaults    defaultsReport   `json:"defaults"`
	Sampler     samplerReport    `json:"sampler"`
	Parts       []partReport     `json:"parts"`
}

type defaultsReport struct {
	Resolution bench.Resolution `json:"resolution"`
	Latents    []int            `json:"latents"` // channels, height, width
	Steps      int              `json:"steps"`
	Guidance   float64          `json:"guidance"`
	TextTokens int              `json:"text_tokens"`
}

type samplerReport struct {
	Kind       string `json:"kind"`
	Prediction string `json:"prediction"`
	Spacing    string `json:"spacing"`
	Released   bool   `json:"released"` // the model has no scheduler file: the family's released settings
}

// partReport is a folder of a snapshot.
type partReport struct {
	Part       string           `json:"part"`
	Present    bool             `json:"present"`
	Path       string           `json:"path"`
	Tensors    int              `json:"tensors"`
	Parameters int64            `json:"parameters"`
	Bytes      int64            `json:"bytes"`
	DTypes     map[string]int64 `json:"dtypes"` // parameters of each type
}

func modelInfo(c *cli.Context, o *options, m *dit.Model) error {
	r, err := describeModel(m)
	if err != nil {
		return badModel(err)
	}
	out := environmentOf(c).stdout
	if o.output == asJSON {
		return writeJSON(out, r)
	}
	return r.writeText(out)
}

func describeModel(m *dit.Model) (*modelReport, error) {
	d, shape := m.Defaults(), m.Shape(1)
	r := &modelReport{Model: m.Ref(), Family: shape.Family.String(), Blocks: []int{shape.Blocks}, Components: []string{}, Transformer: m.Architecture()}
	if shape.Family == schedule.Flux {
		r.Blocks = append(r.Blocks, shape.SingleBlocks)
	}
	for _, component := range shape.Family.Components() {
		r.Components = append(r.Components, component.String())
	}
	size, err := bench.SizeOf(m, 0, 0)
	if err != nil {
		return nil, err
	}
	r.Defaults = defaultsReport{bench.Resolution{Height: size.Height, Width: size.Width}, []int{d.LatentChannels, size.LatentHeight, size.LatentWidth},
		defaultSteps, d.Guidance, d.TextTokens}
	s, err := m.SamplerConfig()
	if err != nil {
		return nil, err
	}
	r.Sampler = samplerReport{s.Family.String(), s.Prediction.String(), s.Spacing.String(), !hasPart(m, dit.Scheduler)}
	for _, part := range m.Parts() {
		p, err := describePart(m, part)
		if err != nil {
			return nil, err
		}
		r.Parts = append(r.Parts, p)
	}
	return r, nil
}

// partFile are the files of which one tells whether a snapshot has a part.
func partFile(part dit.Part) []string {
	switch part {
	case dit.Tokenizer, dit.Tokenizer2:
		return []string{"spiece.model", "vocab.json", "tokenizer.json"}
	case dit.Scheduler:
		return []string{"scheduler_config.json"}
	}
	return []string{"config.json"}
}

func hasPart(m *dit.Model, part dit.Part) bool {
	s := m.Snapshot()
	if s == nil {
		return part == dit.Transformer
	}
	return slices.ContainsFunc(partFile(part), func(file string) bool { return s.Has(part, file) })
}

func describePart(m *dit.Model, part dit.Part) (partReport, error) {
	p := partReport{Part: string(part), Present: hasPart(m, part), DTypes: map[string]int64{}}
	if s := m.Snapshot(); s != nil {
		p.Path = s.Folder(part).Path("")
	}
	if !p.Present || part == dit.Tokenizer || part == dit.Tokenizer2 || part == dit.Scheduler {
		return p, nil
	}
	var t *dit.Tensors
	if part == dit.Transformer {
		w, err := m.Weights()
		if err != nil {
			return p, err
		}
		t = w.Tensors()
	} else {
		var err error
		if t, err = m.Snapshot().OpenTensors(part); err != nil {
			return p, err
		}
		defer t.Close()
	}
	for _, name := range t.Names() {
		x, _ := t.Describe(name)
		n := int64(1)
		for _, dim := range x.Shape {
			n *= dim
		}
		p.Tensors++
		p.Parameters += n
		p.Bytes += n * x.DType.Size()
		p.DTypes[x.DType.String()] += n
	}
	return p, nil
}

func (r *modelReport) writeText(w io.Writer) error {
	fmt.Fprintf(w, "%s: %s, blocks %s, components %s\n", r.Model, r.Family, strings.Trim(fmt.Sprint(r.Blocks), "[]"), strings.Join(r.Components, ", "))
	t := r.Transformer
	fmt.Fprintf(w, "transformer: %d heads of %d, width %d, patches of %d, %d channels in, %d out, text of width %d%s\n",
		t.Heads, t.HeadDim, t.Width, t.PatchSize, t.InChannels, t.OutChannels, t.TextWidth, particulars(t))
	d := r.Defaults
	fmt.Fprintf(w, "as it is run: %v px (latents %v), %d steps, guidance %g, at most %d text tokens\n", d.Resolution, d.Latents, d.Steps, d.Guidance, d.TextTokens)
	released := ""
	if r.Sampler.Released {
		released = ", the released settings: the model has no scheduler file"
	}
	fmt.Fprintf(w, "sampler: %s, predicts %s, timesteps by %s%s\n", r.Sampler.Kind, r.Sampler.Prediction, r.Sampler.Spacing, released)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range r.Parts {
		switch {
		case !p.Present:
			fmt.Fprintf(tw, "  %s\tnone\n", p.Part)
		case p.Tensors == 0:
			fmt.Fprintf(tw, "  %s\tpresent\n", p.Part)
		default:
			fmt.Fprintf(tw, "  %s\t%d tensors\t%sparameters\t%s\t%s\n", p.Part, p.Tensors, siPrefix(float64(p.Parameters)), megabytes(p.Bytes),
				strings.Join(slices.Sorted(maps.Keys(p.DTypes)), ", "))
		}
	}
	return tw.Flush()
}

// particulars is what not every transformer has.
func particulars(t dit.Architecture) string {
	text := ""
	if t.Interpolation > 0 {
		text += fmt.Sprintf(", positions scaled by %g", t.Interpolation)
	}
	if t.MicroConditioned {
		text += ", conditioned on resolution and aspect ratio"
	}
	if t.PooledWidth > 0 {
		text += fmt.Sprintf(", pooled text of width %d", t.PooledWidth)
	}
	if len(t.RopeAxes) > 0 {
		text += fmt.Sprintf(", rotary positions on axes of %s", strings.Trim(fmt.Sprint(t.RopeAxes), "[]"))
	}
	if t.GuidanceEmbedded {
		text += ", guidance embedded"
	}
	return text
}

func modelVerifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "check every tensor of a snapshot against the architecture",
		CustomHelpTemplate: commandHelp("Names, shapes and types of all tensors, and that the parts belong together. Exit code 3 if something is wrong; a part that is not\nthere is none.",
			"ecadx model verify --model ./PixArt-XL-2-256x256", "ecadx model verify --model ./snapshot --json"),
		Flags:  commonFlags(flagModel, flagJSON),
		Action: modelAction(modelVerify),
	}
}

// verifyReport is model verify --json.
type verifyReport struct {
	Model string       `json:"model"`
	OK    bool         `json:"ok"`
	Parts []partVerify `json:"parts"`
}

// partVerify is what was found in a part. Error is empty if all is right.
type partVerify struct {
	Part        string            `json:"part"`
	Error       string            `json:"error"`
	Transformer *dit.Verification `json:"transformer,omitempty"`
}

func modelVerify(c *cli.Context, o *options, m *dit.Model) error {
	r := verifyReport{Model: m.Ref(), OK: true, Parts: []partVerify{}}
	var first error
	for _, part := range m.Parts() {
		if !hasPart(m, part) {
			continue
		}
		v, err := verifyPart(m, part)
		if err != nil {
			v.Error, r.OK = err.Error(), false
			if first == nil {
				first = badInput(err)
			}
		}
		r.Parts = append(r.Parts, v)
	}
	out := environmentOf(c).stdout
	if o.output == asJSON {
		return errors.Join(first, writeJSON(out, r))
	}
	for _, p := range r.Parts {
		fmt.Fprintf(out, "%-16s%s\n", p.Part, p.verdict())
		if v := p.Transformer; v != nil {
			for _, name := range v.Missing {
				fmt.Fprintf(out, "   missing: %s\n", name)
			}
			for _, text := range v.Wrong {
				fmt.Fprintf(out, "   wrong: %s\n", text)
			}
			for _, name := range v.Extra {
				fmt.Fprintf(out, "   not used: %s\n", name)
			}
		}
	}
	return first
}

func (p *partVerify) verdict() string {
	switch {
	case p.Error != "":
		return "wrong: " + oneLine(p.Error)
	case p.Transformer != nil:
		return fmt.Sprintf("right: %d tensors, %sparameters", p.Transformer.Tensors, siPrefix(float64(p.Transformer.Parameters)))
	}
	return "right"
}

// verifyPart opens a part, which checks it; the encoder's check covers its tokenizer.
func verifyPart(m *dit.Model, part dit.Part) (partVerify, error) {
	v := partVerify{Part: string(part)}
	switch part {
	case dit.Transformer:
		t, err := m.Verify()
		if err != nil {
			return v, err
		}
		v.Transformer = t
		return v, t.Err()
	case dit.Scheduler:
		_, err := m.SamplerConfig()
		return v, err
	case dit.VAE:
		d, err := m.OpenImageDecoder()
		if err != nil {
			return v, err
		}
		return v, d.Close()
	}
	if !m.HasText() { // one part without the others encodes nothing, but is not wrong
		return v, nil
	}
	e, err := m.OpenPromptEncoder()
	if err != nil {
		return v, err
	}
	return v, e.Close()
}

func modelExportCommand() *cli.Command {
	return &cli.Command{
		Name:  "export",
		Usage: "write a random or built-in model as a snapshot that diffusers reads",
		CustomHelpTemplate: commandHelp("The directory appears when it is complete.",
			"ecadx model export --out mini-pixart", "ecadx model export --model random:pixart-alpha-256@7 --out pixart-random"),
		Flags:  append(commonFlags(flagModel, flagJSON, flagQuiet, flagForce), &cli.StringFlag{Name: flagOut, Usage: "write the snapshot to `DIR`"}),
		Action: modelAction(modelExport),
	}
}

// exportedFile is a file of model export --json.
type exportedFile struct {
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
}

// remarkDefaults names what a built-in model is run with and the files in dir, in a layout that has no place for it, do not say.
func (o *options) remarkDefaults(env *environment, m *dit.Model, dir string) error {
	written, err := dit.Open(dir)
	if err != nil {
		return err
	}
	defer written.Close()
	flags, own, files := "", m.Defaults(), written.Defaults()
	if own.LatentSize != files.LatentSize {
		size, err := bench.SizeOf(m, 0, 0)
		if err != nil {
			return err
		}
		flags += fmt.Sprintf(" --%s %d", flagResolution, size.Height)
	}
	if own.Guidance != files.Guidance {
		flags += fmt.Sprintf(" --%s %g", flagGuidance, own.Guidance)
	}
	if flags != "" {
		o.remark(env, "ecadx: %s: its files have no place for what %s is run with: give it%s", dir, m.Ref(), flags)
	}
	return nil
}

func modelExport(c *cli.Context, o *options, m *dit.Model) error {
	dir := c.String(flagOut)
	if dir == "" {
		return usageError("%s: --out is missing: name the directory to write", o.command)
	}
	env := environmentOf(c)
	p := o.newProgress(env, "export", "MB", 0)
	err := m.Export(dir, dit.ExportOptions{Force: o.force, Progress: func(done, all int64) { p.say(int(done>>20), int(all>>20), "") }})
	p.end()
	switch {
	case errors.Is(err, dit.ErrExists):
		return inputError("%s: %w: give another --out, or --force to replace it", dir, dit.ErrExists)
	case err != nil:
		return badInput(err)
	}
	if err := o.remarkDefaults(env, m, dir); err != nil {
		return err
	}
	files := []exportedFile{}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := os.Stat(path)
		if err == nil {
			files = append(files, exportedFile{path, info.Size()})
		}
		return err
	})
	if err != nil {
		return err
	}
	if o.output == asJSON {
		return writeJSON(env.stdout, struct {
			Model string         `json:"model"`
			Dir   string         `json:"dir"`
			Files []exportedFile `json:"files"`
		}{m.Ref(), dir, files})
	}
	total := int64(0)
	for _, f := range files {
		total += f.Bytes
	}
	_, err = fmt.Fprintf(env.stdout, "%s: %s, %d files, %s\n", dir, m.Ref(), len(files), megabytes(total))
	return err
}
