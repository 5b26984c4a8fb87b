package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"ecadx/bench"
	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/program"
	"ecadx/dit/safetensors"
	"ecadx/dit/sampler"
)

// Names of the files that compile writes.
const (
	denoiseFile  = "denoise.ecadprog"
	decoderFile  = "decoder.ecadprog"
	weightsFile  = "weights.safetensors"
	inputsFile   = "inputs.safetensors"
	manifestFile = "manifest.json"
)

// manifestVersion counts changes that readers of the manifest must know.
const manifestVersion = 1

func compileCommand() *cli.Command {
	return &cli.Command{
		Name:      "compile",
		Usage:     "write the programs and weights that libecad runs without this command",
		UsageText: "ecadx compile --schedule REF [--schedule REF ...] --out DIR [-p PROMPT] [flags]",
		CustomHelpTemplate: commandHelp(`Writes into DIR: denoise.ecadprog, the denoising loop with prologue, all steps and the sampler, one schedule per --schedule in their order;
decoder.ecadprog, latents to pictures, if the model has a decoder; weights.safetensors, row-major, all that both name; manifest.json, which
lists files with hashes, inputs and outputs, schedules, timesteps and sizes. Schedules of a study lie in its folder schedules.
With -p or --prompts also inputs.safetensors: a tensor for every input of denoise.ecadprog under the input's name, noise of the seed included.
Of the rows of prompt_embeds the negative prompts come first. ecadx denoise --inputs reads this file too.
The manual of what loads all this is kernels/README.md.`,
			`ecadx compile --schedule study/schedules/3f2a.json --schedule none -p "a small red ring above a large blue square" --seed 7 --out compiled`,
			"ecadx compile --model ./PixArt-XL-2-256x256 --schedule fora:2 --dtype bfloat16 --batch 4 --text-tokens 120 --out compiled"),
		Flags: append(append(commonFlags(flagModel, flagDevice, flagDType, flagResolution, flagSteps, flagGuidance, flagJSON, flagQuiet, flagForce),
			&cli.StringSliceFlag{Name: flagSchedule, Usage: "`REF`: none, a file, or a heuristic; repeatable", DefaultText: "none"},
			batchFlag(), textTokensFlag(), &cli.StringFlag{Name: flagOut, Usage: "write into `DIR`"}), inputFlags()...),
		Action: compile,
	}
}

// manifest is manifest.json and compile --json.
type manifest struct {
	Version    int              `json:"version"`
	Model      string           `json:"model"`
	Family     string           `json:"family"`
	DType      string           `json:"dtype"`
	Resolution bench.Resolution `json:"resolution"`
	Batch      int              `json:"batch"`
	Rows       int              `json:"rows"` // of prompt_embeds: twice the batch with guidance, negative prompts first
	Guidance   float64          `json:"guidance"`
	TextTokens int              `json:"text_tokens"` // most tokens of a prompt; prompt_counts says how many are in use
	TextWidth  int              `json:"text_width"`
	Latents    manifestLatents  `json:"latents"`
	Sampler    manifestSampler  `json:"sampler"`
	Denoise    manifestProgram  `json:"denoise"`
	Decoder    *manifestProgram `json:"decoder"` // null: the model has none
	Weights    manifestWeights  `json:"weights"`
	Inputs     *manifestInputs  `json:"inputs,omitempty"` // when prompts were given
	ABI        string           `json:"abi"`              // of libecad when this was written
}

type manifestLatents struct {
	Channels int     `json:"channels"`
	Height   int     `json:"height"`
	Width    int     `json:"width"`
	Sigma    float64 `json:"initial_sigma"` // the noise written to latents is standard normal times this
}

type manifestSampler struct {
	Kind       string    `json:"kind"`
	Prediction string    `json:"prediction"`
	Steps      int       `json:"steps"`
	Timesteps  []float64 `json:"timesteps"`
	Sigmas     []float64 `json:"sigmas"`
}

type manifestFileEntry struct {
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

type manifestProgram struct {
	manifestFileEntry
	IOs       []programIO        `json:"ios"`
	Schedules []manifestSchedule `json:"schedules"`
	Memory    programMemory      `json:"memory_bytes"`
}

// manifestSchedule is a schedule by its index in the program.
type manifestSchedule struct {
	Name      string  `json:"name"`
	Hash      string  `json:"hash,omitempty"` // of the caching schedule; none for the decoder
	Flops     int64   `json:"flops"`          // of a whole run on the batch
	MACsRatio float64 `json:"macs_ratio,omitempty"`
}

type manifestWeights struct {
	manifestFileEntry
	Tensors int `json:"tensors"`
}

func compile(c *cli.Context) error {
	out := c.String(flagOut)
	if out == "" {
		return usageError("%s: --out is missing: name the directory to write", c.Command.HelpName)
	}
	t, err := newTask(c)
	if err != nil {
		return err
	}
	defer t.close()
	for _, name := range []string{manifestFile, denoiseFile, decoderFile, weightsFile, inputsFile} {
		if err := t.checkAbsent(filepath.Join(out, name)); err != nil {
			return err
		}
	}
	in, err := t.readInputs(c)
	if err != nil {
		return err
	}
	refs := c.StringSlice(flagSchedule)
	if len(refs) == 0 {
		refs = []string{"none"}
	}
	var list []*resolved
	for _, ref := range refs {
		r, err := resolveSchedule(ref, t.model.Shape(t.steps))
		if err != nil {
			return err
		}
		list = append(list, r)
	}
	var tensors []dit.IOTensor
	if in != nil {
		if tensors, err = t.encode(c, in); err != nil {
			return err
		}
	}
	m, err := t.writeCompiled(out, list, func(m *manifest) (err error) {
		if in == nil {
			return removeStale(filepath.Join(out, inputsFile))
		}
		m.Inputs, err = t.writeInputs(out, in, tensors)
		return err
	})
	if err != nil {
		return err
	}
	return m.show(environmentOf(c).stdout, t.options, out)
}

// show prints the manifest.
func (m *manifest) show(w io.Writer, o *options, out string) error {
	if o.output == asJSON {
		return writeJSON(w, m)
	}
	var names []string
	for _, x := range m.Denoise.Schedules {
		names = append(names, x.Name)
	}
	fmt.Fprintf(w, "%s: schedule %s, %d steps, %v px, batch %d, %s\n", out, strings.Join(names, ", "), m.Sampler.Steps, m.Resolution, m.Batch, m.DType)
	files := []manifestFileEntry{m.Denoise.manifestFileEntry, m.Weights.manifestFileEntry}
	if m.Decoder != nil {
		files = slices.Insert(files, 1, m.Decoder.manifestFileEntry)
	}
	if m.Inputs != nil {
		files = append(files, m.Inputs.manifestFileEntry)
	}
	for _, f := range files {
		fmt.Fprintf(w, "  %-22s%s\n", f.File, megabytes(f.Bytes))
	}
	_, err := fmt.Fprintf(w, "  %s\n", manifestFile)
	return err
}

// removeStale removes what an earlier compile --force left, if anything.
func removeStale(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// writeCompiled writes all files, the manifest last: a directory with a manifest is complete. writeInputs adds the inputs.
func (t *task) writeCompiled(out string, list []*resolved, writeInputs func(*manifest) error) (*manifest, error) {
	denoise, s, err := t.compile(list)
	if err != nil {
		return nil, err
	}
	major, minor := ecad.ABIVersion()
	d := t.model.Defaults()
	m := &manifest{
		Version: manifestVersion, Model: t.options.model, Family: t.model.Shape(t.steps).Family.String(), DType: t.dtype.String(),
		Resolution: bench.Resolution{Height: t.size.Height, Width: t.size.Width}, Batch: t.batch, Rows: t.batch, Guidance: t.guidance,
		TextTokens: t.textTokens, TextWidth: d.TextWidth, Latents: manifestLatents{d.LatentChannels, t.size.LatentHeight, t.size.LatentWidth, s.InitNoiseSigma},
		Sampler: describeSampler(s), ABI: fmt.Sprintf("%d.%d", major, minor),
	}
	if t.model.Guided(t.guidance) {
		m.Rows *= 2
	}
	if m.Denoise, err = writeProgram(out, denoiseFile, denoise); err != nil {
		return nil, err
	}
	if err := t.describeSchedules(&m.Denoise, list); err != nil {
		return nil, err
	}
	w, err := t.model.Weights()
	if err != nil {
		return nil, badModel(err)
	}
	sources := []weightSource{{denoise, w.Tensors()}}
	decoder, tensors, err := t.decoder()
	if err != nil {
		return nil, err
	}
	if decoder != nil {
		defer tensors.Close()
		p, err := writeProgram(out, decoderFile, decoder)
		if err != nil {
			return nil, err
		}
		m.Decoder = &p
		sources = append(sources, weightSource{decoder, tensors})
	} else if err := removeStale(filepath.Join(out, decoderFile)); err != nil {
		return nil, err
	}
	if m.Weights, err = writeWeights(out, sources); err != nil {
		return nil, err
	}
	if err := writeInputs(m); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	return m, writeFile(filepath.Join(out, manifestFile), append(data, '\n'))
}

func describeSampler(s *sampler.Sampler) manifestSampler {
	return manifestSampler{s.Config.Family.String(), s.Config.Prediction.String(), len(s.Steps), s.Timesteps, s.Sigmas}
}

// describeSchedules adds hashes and ratios to the schedules of the denoising program.
func (t *task) describeSchedules(p *manifestProgram, list []*resolved) error {
	dims, err := bench.ModelDims(t.model, t.size, t.guidance)
	if err != nil {
		return err
	}
	for i, r := range list {
		tally, err := r.schedule.Canonical().MACs(dims)
		if err != nil {
			return err
		}
		p.Schedules[i].Hash, p.Schedules[i].MACsRatio = r.schedule.Hash().String(), tally.Ratio
	}
	return nil
}

// writeProgram writes a program's bytes and describes it.
func writeProgram(dir, name string, p *program.Program) (manifestProgram, error) {
	data, err := p.Encode()
	if err != nil {
		return manifestProgram{}, err
	}
	if err := ecad.CheckProgram(data); err != nil {
		return manifestProgram{}, err
	}
	if err := writeFile(filepath.Join(dir, name), data); err != nil {
		return manifestProgram{}, err
	}
	sum := sha256.Sum256(data)
	stats := p.Stats()
	m := manifestProgram{manifestFileEntry: manifestFileEntry{name, int64(len(data)), hex.EncodeToString(sum[:])}, IOs: programIOs(p),
		Memory: programMemory{stats.ArenaBytes, stats.ArenaLowerBound, stats.PersistentBytes, stats.SlotBytes, stats.ConstantBytes}}
	for i, s := range p.Schedules {
		m.Schedules = append(m.Schedules, manifestSchedule{Name: s.Name, Flops: p.ScheduleCost(i).Flops})
	}
	return m, nil
}

// decoder compiles the model's decoder; nil when it has none. The caller closes the tensors.
func (t *task) decoder() (*program.Program, *dit.Tensors, error) {
	if !hasPart(t.model, dit.VAE) {
		return nil, nil, nil
	}
	d, err := t.model.OpenImageDecoder()
	if err != nil {
		return nil, nil, badModel(err)
	}
	defer d.Close()
	p, err := d.Compile(t.batch, t.size.LatentHeight, t.size.LatentWidth, t.dtype)
	if err != nil {
		return nil, nil, badModel(err)
	}
	tensors, err := t.model.Snapshot().OpenTensors(dit.VAE)
	return p, tensors, badModel(err)
}

// weightSource is a program with the tensors that it names.
type weightSource struct {
	program *program.Program
	tensors *dit.Tensors
}

// writeWeights writes the tensors that the programs name into one file.
func writeWeights(dir string, sources []weightSource) (manifestWeights, error) {
	var items []safetensors.Item
	seen := map[string]int{}
	for i, s := range sources {
		for _, b := range s.program.Buffers {
			if b.Kind != program.Weight {
				continue
			}
			if before, ok := seen[b.Name]; ok {
				if before != i {
					return manifestWeights{}, fmt.Errorf("%s: tensor %q is in transformer and decoder: one file cannot hold both", weightsFile, b.Name)
				}
				continue
			}
			seen[b.Name] = i
			described, ok := s.tensors.Describe(b.Name)
			if !ok {
				return manifestWeights{}, inputError("%s: tensor %q is missing: the file is incomplete or belongs to another configuration", s.tensors.Path(), b.Name)
			}
			items = append(items, safetensors.Item{
				Tensor: safetensors.Tensor{Name: b.Name, DType: described.DType, Shape: described.Shape},
				Stream: func(w io.Writer) error {
					return s.tensors.Read(b.Name, func(x safetensors.Tensor) error {
						_, err := w.Write(x.Data)
						return err
					})
				},
			})
		}
	}
	path := filepath.Join(dir, weightsFile)
	if err := safetensors.WriteFile(path, items, map[string]string{"format": "pt"}); err != nil {
		return manifestWeights{}, err
	}
	sum, n, err := hashFile(path)
	return manifestWeights{manifestFileEntry{weightsFile, n, sum}, len(items)}, err
}

func hashFile(path string) (sum string, n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), n, err
}

// programName is what a schedule is called in a program: a heuristic's reference, or a file's name. Names in programs are short.
func programName(r *resolved) string {
	name := r.ref
	if r.file != nil {
		name = filepath.Base(r.ref)
	}
	const most = 100
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "")
	}
	return name
}
