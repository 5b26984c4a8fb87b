package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/schedule"
)

// Names of flags that mean the same in every command.
const (
	flagModel      = "model"
	flagSchedule   = "schedule"
	flagDevice     = "device"
	flagDType      = "dtype"
	flagThreads    = "threads"
	flagResolution = "resolution"
	flagSteps      = "steps"
	flagGuidance   = "guidance"
	flagSeed       = "seed"
	flagJSON       = "json"
	flagQuiet      = "quiet"
	flagForce      = "force"
	flagGEMM       = "gemm"
	flagOut        = "out"

	flagCheckFinite = "check-finite"
)

// commonFlag makes the flag of a name; every command takes its common flags from here, so that each reads and means the same.
func commonFlag(name string) cli.Flag {
	switch name {
	case flagModel:
		return &cli.StringFlag{Name: name, Value: dit.DefaultModel, Usage: "`REF` of a model: a built-in model, a snapshot's directory, or random:NAME[@SEED]"}
	case flagSchedule:
		return &cli.StringFlag{Name: name, Value: "none", Usage: "`REF` of a schedule: none, a file, or a heuristic such as fora:2 (see ecadx schedule list)"}
	case flagDevice:
		return &cli.StringFlag{Name: name, Value: "auto", Usage: "run on `DEVICE`: auto, reference, cpu or cuda[:N]; auto is cuda if there is one, else cpu"}
	case flagDType:
		return &cli.StringFlag{Name: name, Value: "auto", Usage: "compute in `DTYPE`: auto, float32 or bfloat16; auto is bfloat16 where the device multiplies it faster"}
	case flagThreads:
		return &cli.IntFlag{Name: name, Usage: "use `N` threads", DefaultText: "all cores"}
	case flagResolution:
		return &cli.StringFlag{Name: name, Usage: "`PX` or HxW, height x width in pixels", DefaultText: "the model's own"}
	case flagSteps:
		return &cli.IntFlag{Name: name, Value: defaultSteps, Usage: "denoise in `N` steps"}
	case flagGuidance:
		return &cli.Float64Flag{Name: name, Usage: "guidance scale `G`; at most 1 means none", DefaultText: "the model's own: 4.5 for released PixArt, 3.5 for FLUX.1-dev"}
	case flagSeed:
		return &cli.Int64Flag{Name: name, Usage: "seed `S` of the noise"}
	case flagJSON:
		return &cli.BoolFlag{Name: name, DisableDefaultText: true, Usage: "print one JSON document on standard output"}
	case flagQuiet:
		return &cli.BoolFlag{Name: name, DisableDefaultText: true, Usage: "print no progress and no remarks"}
	case flagCheckFinite:
		return &cli.BoolFlag{Name: name, DisableDefaultText: true, Usage: "stop at the first op that makes NaN or infinity, and name step, block, component and op; slower"}
	case flagGEMM:
		return &cli.StringFlag{Name: name, Value: "auto", Usage: "on CUDA, multiply matrices by `WHOSE` kernels: auto, ecad or cublaslt; auto is ecad"}
	case flagForce:
		return &cli.BoolFlag{Name: name, DisableDefaultText: true, Usage: "overwrite existing files"}
	}
	panic("no common flag " + name) // a mistake in this package, found by any test
}

const defaultSteps = 20

func commonFlags(names ...string) []cli.Flag {
	var flags []cli.Flag
	for _, n := range names {
		flags = append(flags, commonFlag(n))
	}
	return flags
}

// runFlags are the flags of commands that run a model.
func runFlags() []cli.Flag {
	return commonFlags(flagModel, flagDevice, flagDType, flagThreads, flagGEMM, flagResolution, flagSteps, flagGuidance, flagSeed, flagJSON, flagQuiet, flagForce)
}

// deviceChoice is --device.
type deviceChoice struct {
	auto    bool
	backend ecad.Backend
	ordinal int
}

func (d deviceChoice) String() string {
	switch {
	case d.auto:
		return "auto"
	case d.backend == ecad.CUDA:
		return fmt.Sprintf("%v:%d", d.backend, d.ordinal)
	}
	return d.backend.String()
}

func parseDevice(text string) (deviceChoice, error) {
	name, number, numbered := strings.Cut(text, ":")
	switch {
	case text == "auto":
		return deviceChoice{auto: true}, nil
	case text == "reference":
		return deviceChoice{backend: ecad.Reference}, nil
	case text == "cpu":
		return deviceChoice{backend: ecad.CPU}, nil
	case name == "cuda" && !numbered:
		return deviceChoice{backend: ecad.CUDA}, nil
	case name == "cuda":
		if n, err := strconv.ParseUint(number, 10, 16); err == nil {
			return deviceChoice{backend: ecad.CUDA, ordinal: int(n)}, nil
		}
	}
	return deviceChoice{}, fmt.Errorf("device %q is none: use auto, reference, cpu or cuda[:N]", text)
}

func parseGEMM(text string) (ecad.GEMM, error) {
	switch text {
	case "auto":
		return ecad.GEMMAuto, nil
	case "ecad":
		return ecad.GEMMECAD, nil
	case "cublaslt":
		return ecad.GEMMCuBLASLt, nil
	}
	return 0, fmt.Errorf("%q multiplies no matrices here: use auto, ecad or cublaslt", text)
}

// dtypeChoice is --dtype.
type dtypeChoice struct {
	auto  bool
	dtype dit.DType
}

func (d dtypeChoice) String() string {
	if d.auto {
		return "auto"
	}
	return d.dtype.String()
}

func parseDType(text string) (dtypeChoice, error) {
	if text == "auto" {
		return dtypeChoice{auto: true}, nil
	}
	d, err := dit.ParseDType(text)
	if err != nil {
		return dtypeChoice{}, fmt.Errorf("dtype %q is none: use auto, float32 or bfloat16 (with --device reference also float64)", text)
	}
	return dtypeChoice{dtype: d}, nil
}

// pixels is a resolution; the zero value means the model's own.
type pixels struct{ height, width int }

func (p pixels) String() string {
	switch {
	case p == pixels{}:
		return ""
	case p.height == p.width:
		return strconv.Itoa(p.height)
	}
	return fmt.Sprintf("%dx%d", p.height, p.width)
}

// maxPixels bounds a resolution in each direction.
const maxPixels = 1 << 16

func parseResolution(text string) (pixels, error) {
	if text == "" {
		return pixels{}, nil
	}
	h, w, both := strings.Cut(strings.ToLower(text), "x")
	if !both {
		w = h
	}
	height, err1 := strconv.ParseUint(h, 10, 32)
	width, err2 := strconv.ParseUint(w, 10, 32)
	if err1 != nil || err2 != nil || height < 1 || width < 1 || height > maxPixels || width > maxPixels {
		return pixels{}, fmt.Errorf("resolution %q is none: use pixels such as 512, or HEIGHTxWIDTH such as 512x768", text)
	}
	return pixels{int(height), int(width)}, nil
}

// messages says who reads what the command prints.
type messages uint8

const (
	forPeople messages = iota
	asJSON
)

// options are the common flags as parsed. Flags that a command does not have keep their defaults.
type options struct {
	command    string // as typed, for messages
	model      string
	schedule   string
	device     deviceChoice
	dtype      dtypeChoice
	threads    int // 0: all cores
	gemm       ecad.GEMM
	resolution pixels
	steps      int
	guidance   *float64 // nil: the model's
	seed       int64
	output     messages
	quiet      bool
	force      bool

	checkFinite bool // look for NaN and infinity after every op
}

// parseOptions reads the common flags of a command: the one parser at the edge. Errors are usage errors that name the flag.
func parseOptions(c *cli.Context) (*options, error) {
	o := &options{command: c.Command.HelpName, model: dit.DefaultModel, schedule: "none", device: deviceChoice{auto: true},
		dtype: dtypeChoice{auto: true}, steps: defaultSteps, quiet: c.Bool(flagQuiet), force: c.Bool(flagForce), checkFinite: c.Bool(flagCheckFinite)}
	if c.Bool(flagJSON) {
		o.output = asJSON
	}
	has := func(name string) bool { return findFlag(c.Command.Flags, name) != nil }
	var err error
	fail := func(flag string, err error) (*options, error) {
		return nil, usageError("%s: --%s: %w", o.command, flag, err)
	}
	if has(flagModel) {
		if o.model = c.String(flagModel); o.model == "" {
			return fail(flagModel, fmt.Errorf("it is empty: name a model, such as %s", dit.DefaultModel))
		}
	}
	if has(flagSchedule) {
		o.schedule = c.String(flagSchedule)
	}
	if has(flagDevice) {
		if o.device, err = parseDevice(c.String(flagDevice)); err != nil {
			return fail(flagDevice, err)
		}
	}
	if has(flagDType) {
		if o.dtype, err = parseDType(c.String(flagDType)); err != nil {
			return fail(flagDType, err)
		}
		if !o.dtype.auto && o.dtype.dtype == dit.Float64 && (o.device.auto || o.device.backend != ecad.Reference) {
			return fail(flagDType, fmt.Errorf("float64 is for --device reference: use float32 or bfloat16"))
		}
	}
	if has(flagThreads) {
		if o.threads = c.Int(flagThreads); o.threads < 0 || o.threads > 4096 {
			return fail(flagThreads, fmt.Errorf("%d threads: use 1 to 4096, or leave it out for all cores", o.threads))
		}
	}
	if has(flagGEMM) {
		if o.gemm, err = parseGEMM(c.String(flagGEMM)); err != nil {
			return fail(flagGEMM, err)
		}
	}
	if has(flagResolution) {
		if o.resolution, err = parseResolution(c.String(flagResolution)); err != nil {
			return fail(flagResolution, err)
		}
	}
	if has(flagSteps) {
		if o.steps = c.Int(flagSteps); o.steps < 1 || o.steps > schedule.MaxSteps {
			return fail(flagSteps, fmt.Errorf("%d steps: use 1 to %d", o.steps, schedule.MaxSteps))
		}
		if has(flagSchedule) && !c.IsSet(flagSteps) {
			o.steps = stepsOfFiles(append(c.StringSlice(flagSchedule), o.schedule), o.steps)
		}
	}
	if has(flagGuidance) && c.IsSet(flagGuidance) {
		g := c.Float64(flagGuidance)
		if math.IsNaN(g) || math.IsInf(g, 0) || g < 0 || g > 1000 {
			return fail(flagGuidance, fmt.Errorf("a scale of %v: use a number from 0 to 1000", g))
		}
		o.guidance = &g
	}
	if has(flagSeed) {
		if s, ok := c.Value(flagSeed).(int64); ok {
			o.seed = s
		}
	}
	return o, nil
}
