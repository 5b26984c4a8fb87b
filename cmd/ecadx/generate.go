package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	"ecadx/bench"
	"ecadx/dit"
	"ecadx/schedule"
)

func generateCommand() *cli.Command {
	return &cli.Command{
		Name:      "generate",
		Usage:     "make pictures from prompts",
		UsageText: "ecadx generate -p PROMPT [flags]",
		CustomHelpTemplate: commandHelp("Image k of every prompt uses seed S+k, the noise of torch.Generator(\"cpu\"). The files are PNG with prompt, seed, model,\n"+
			"schedule, steps and guidance in their text chunks. --compare also makes the uncached picture and one of both side by side.",
			`ecadx generate -p "a small red ring above a large blue square on a grey background" --schedule fora:2 --compare`,
			"ecadx generate --prompts captions.txt --images 2 --schedule study/schedules/3f2a.json --out pictures"),
		Flags: append(runFlags(), append(commonFlags(flagSchedule),
			&cli.StringSliceFlag{Name: "prompt", Aliases: []string{"p"}, Usage: "`PROMPT`; may be repeated"},
			&cli.StringFlag{Name: "prompts", Usage: "`FILE` with a prompt per line, or ECAD's JSON"},
			&cli.StringFlag{Name: "negative", Usage: "`PROMPT` that guidance moves away from"},
			&cli.IntFlag{Name: "images", Value: 1, Usage: "make `N` images per prompt"},
			&cli.StringFlag{Name: flagOut, Usage: "`FILE` (.png, for one picture) or DIR", DefaultText: "named after the prompt, or ./pictures"},
			&cli.BoolFlag{DisableDefaultText: true, Name: "compare", Usage: "put the uncached picture beside each, with time and saved arithmetic"},
			&cli.StringFlag{Name: "from-study", Usage: "draw the strip of a study's `DIR`: uncached and three schedules of its front"},
			commonFlag(flagCheckFinite))...),
		Action: generate,
	}
}

// generation is everything generate was asked for.
type generation struct {
	*options
	env      *environment
	prompts  []prompt
	negative string
	images   int // per prompt
	out      string
	compare  bool
	shape    schedule.Shape
}

func generate(c *cli.Context) error {
	o, err := parseOptions(c)
	if err != nil {
		return err
	}
	if _, err := positional(c, 0, 0, `ecadx generate -p "PROMPT"; quote prompts with spaces`); err != nil {
		return err
	}
	if dir := c.String("from-study"); dir != "" {
		if c.IsSet("prompt") || c.IsSet("prompts") {
			return usageError("%s: --from-study: it takes the study's own prompts: leave out --prompt and --prompts", o.command)
		}
		return o.strip(c, dir)
	}
	g := &generation{options: o, env: environmentOf(c), negative: c.String("negative"), images: c.Int("images"), out: c.String(flagOut), compare: c.Bool("compare")}
	if g.images < 1 || g.images > 1<<20 {
		return usageError("%s: --images: %d: use at least 1", o.command, g.images)
	}
	for _, text := range c.StringSlice("prompt") {
		g.prompts = append(g.prompts, prompt{Text: text})
	}
	if path := c.String("prompts"); path != "" {
		list, err := readPrompts(path)
		if err != nil {
			return err
		}
		g.prompts = append(g.prompts, list...)
	}
	if len(g.prompts) == 0 {
		return usageError(`%s: no prompt: give one with -p "...", or a file with --prompts`, o.command)
	}
	return g.run(c)
}

// generatedImage is one entry of generate --json.
type generatedImage struct {
	Prompt       string  `json:"prompt"`
	ID           string  `json:"id,omitempty"`
	Seed         int64   `json:"seed"`
	File         string  `json:"file"`
	MS           float64 `json:"ms"` // denoising, per image
	DecodeMS     float64 `json:"decode_ms"`
	MACsRatio    float64 `json:"macs_ratio"`
	UncachedFile string  `json:"uncached_file,omitempty"`
	UncachedMS   float64 `json:"uncached_ms,omitempty"`
	CompareFile  string  `json:"compare_file,omitempty"`
}

// generatedReport is generate --json.
type generatedReport struct {
	Images       []generatedImage `json:"images"`
	Model        string           `json:"model"`
	Device       string           `json:"device"`
	DType        string           `json:"dtype"`
	Resolution   string           `json:"resolution"`
	Steps        int              `json:"steps"`
	Guidance     float64          `json:"guidance"`
	Schedule     string           `json:"schedule"`
	ScheduleHash schedule.Hash    `json:"schedule_hash"`
}

// run makes the pictures.
func (g *generation) run(c *cli.Context) error {
	m, err := g.openModel()
	if err != nil {
		return err
	}
	defer m.Close()
	ref, err := resolveSchedule(g.schedule, m.Shape(g.steps))
	if err != nil {
		return err
	}
	g.shape = ref.schedule.Shape()
	files, err := g.files()
	if err != nil {
		return err
	}
	s, err := g.openSession(m)
	if err != nil {
		return err
	}
	defer s.Close()
	if why := negativeUnread(g.negative, m.Defaults(), s.guidance); why != "" {
		return usageError("%s: --negative: %s", g.command, why)
	}
	size, err := g.pictureSize(s)
	if err != nil {
		return err
	}
	tally, err := g.saved(s, ref, size)
	if err != nil {
		return err
	}
	texts := make([]string, len(g.prompts))
	for i, p := range g.prompts {
		texts[i] = p.Text
	}
	if err := g.warnCut(g.env, m, append([]string{g.negative}, texts...)); err != nil {
		return err
	}
	encoded, negatives, err := s.EncodeGuided(c.Context, s.guidance, g.negative, texts)
	if err != nil {
		return badModel(err)
	}
	report := &generatedReport{Images: make([]generatedImage, len(files)), Model: g.model, Device: s.deviceName(), DType: s.DType.String(), Resolution: size.String(),
		Steps: g.steps, Guidance: s.guidance, Schedule: ref.ref, ScheduleHash: ref.schedule.Hash()}
	plan := picturePlan{size: size, steps: g.steps, guidance: s.guidance, negative: negatives, schedules: []*schedule.Schedule{ref.schedule}}
	if g.compare {
		none, err := schedule.New(ref.schedule.Shape())
		if err != nil {
			return err
		}
		plan.schedules, plan.timing = append(plan.schedules, none), compared
	}
	for i := range files {
		plan.prompts = append(plan.prompts, encoded[i/g.images])
		plan.seeds = append(plan.seeds, g.seed+int64(i%g.images))
	}
	plan.progress = g.newProgress(g.env, "generate", "steps", s.batches(len(files))*g.steps*len(plan.schedules))
	defer plan.progress.end()
	var mu sync.Mutex
	err = s.makePictures(c.Context, plan, func(job int, pictures []made) error {
		entry, err := g.write(files[job], job, pictures, report, tally.Ratio)
		mu.Lock()
		defer mu.Unlock()
		report.Images[job] = entry
		return err
	})
	if err != nil {
		return err
	}
	plan.progress.end()
	return g.print(report)
}

// saved counts the schedule's arithmetic.
func (g *generation) saved(s *session, ref *resolved, size pixels) (schedule.Tally, error) {
	latents, err := bench.SizeOf(s.Model, size.height, size.width)
	if err != nil {
		return schedule.Tally{}, err
	}
	d, err := bench.ModelDims(s.Model, latents, s.guidance)
	if err != nil {
		return schedule.Tally{}, badInput(err)
	}
	return ref.macs(d)
}

// warnCut tells which prompts are longer than the model reads.
func (o *options) warnCut(env *environment, m *dit.Model, texts []string) error {
	if o.quiet {
		return nil
	}
	e, err := m.OpenPromptEncoder()
	if err != nil {
		return badModel(err)
	}
	defer e.Close()
	for _, t := range texts {
		if n := e.Cut(t); n > 0 {
			o.remark(env, "ecadx: prompt %.60q: its last %d tokens do not fit the model and are cut", t, n)
		}
	}
	return nil
}

// files names the file of every image, prompt by prompt, and checks that none exists.
func (g *generation) files() ([]string, error) {
	n := len(g.prompts) * g.images
	var list []string
	if strings.EqualFold(filepath.Ext(g.out), ".png") && !isDir(g.out) {
		if n > 1 {
			return nil, usageError("%s: --out: %s is one file for %d pictures: name a directory", g.command, g.out, n)
		}
		list = []string{g.out}
	} else if g.out == "" && n == 1 {
		list = []string{freeName(slug(g.prompts[0].Text, 60)+"-seed"+strconv.FormatInt(g.seed, 10), g.force)}
	} else {
		dir := g.out
		if dir == "" {
			dir = "pictures"
		}
		digits := len(strconv.Itoa(len(g.prompts) - 1))
		for i, p := range g.prompts {
			name := slug(p.ID, 80)
			if p.ID == "" {
				name = slug(p.Text, 60)
				if len(g.prompts) > 1 {
					name = fmt.Sprintf("%0*d-%s", digits, i, name)
				}
			}
			for k := range g.images {
				list = append(list, filepath.Join(dir, fmt.Sprintf("%s-seed%d.png", name, g.seed+int64(k))))
			}
		}
		if isFile(dir) {
			return nil, inputError("%s: it is a file: name a directory, or end the name of a picture in .png", dir)
		}
	}
	seen := map[string]bool{}
	for i, path := range list {
		for seen[list[i]] { // ids that read alike
			list[i] = strings.TrimSuffix(path, ".png") + fmt.Sprintf("-%d.png", i)
		}
		seen[list[i]] = true
	}
	for _, path := range list {
		all := []string{path}
		if g.compare {
			all = append(all, beside(path, "uncached"), beside(path, "compare"))
		}
		if err := g.checkAbsent(all...); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir()
}

// freeName is a file name that nobody has chosen, so it gives way to files that are there.
func freeName(base string, force bool) string {
	taken := func(name string) bool {
		_, err := os.Lstat(name)
		return err == nil
	}
	name := base + ".png"
	for i := 2; !force && (taken(name) || taken(beside(name, "compare"))); i++ {
		name = fmt.Sprintf("%s-%d.png", base, i)
	}
	return name
}

// beside is the name of a picture that goes with another one: x.png, x.uncached.png.
func beside(path, kind string) string {
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "." + kind + ext
}

// write writes the files of one job.
func (g *generation) write(path string, job int, pictures []made, r *generatedReport, ratio float64) (generatedImage, error) {
	p := g.prompts[job/g.images]
	entry := generatedImage{Prompt: p.Text, ID: p.ID, Seed: g.seed + int64(job%g.images), File: path, MS: pictures[0].ms, DecodeMS: pictures[0].decodeMS, MACsRatio: ratio}
	text := func(schedule string, hash string) []textChunk {
		chunks := []textChunk{{"Software", "ecadx"}, {"prompt", p.Text}, {"seed", strconv.FormatInt(entry.Seed, 10)}, {"model", r.Model}, {"schedule", schedule},
			{"schedule_hash", hash}, {"steps", strconv.Itoa(r.Steps)}, {"guidance", strconv.FormatFloat(r.Guidance, 'g', -1, 64)}, {"dtype", r.DType}}
		if g.negative != "" {
			chunks = append(chunks, textChunk{"negative_prompt", g.negative})
		}
		return chunks
	}
	data, err := encodePNG(pictures[0].picture, text(r.Schedule, r.ScheduleHash.String()))
	if err == nil {
		err = writeFile(path, data)
	}
	if err != nil || !g.compare {
		return entry, err
	}
	uncached := pictures[1]
	entry.UncachedFile, entry.CompareFile, entry.UncachedMS = beside(path, "uncached"), beside(path, "compare"), uncached.ms
	none, err := schedule.New(g.shape)
	if err != nil {
		return entry, err
	}
	if data, err = encodePNG(uncached.picture, text("none", none.Hash().String())); err != nil {
		return entry, err
	}
	if err := writeFile(entry.UncachedFile, data); err != nil {
		return entry, err
	}
	both := grid{columns: []string{
		fmt.Sprintf("uncached %.0f ms", uncached.ms), fmt.Sprintf("%s %.0f ms %.2fx less arithmetic", shortRef(r.Schedule), entry.MS, ratio),
	}, rows: []string{p.Text}}
	both.tiles = append(both.tiles, nil)
	both.tiles[0] = append(both.tiles[0], uncached.picture, pictures[0].picture)
	if data, err = encodePNG(both.draw(), text(r.Schedule, r.ScheduleHash.String())); err != nil {
		return entry, err
	}
	return entry, writeFile(entry.CompareFile, data)
}

// shortRef is a reference as a label: files without their directories, hashes cut.
func shortRef(ref string) string {
	if schedule.IsHeuristic(ref) {
		return ref
	}
	name := strings.TrimSuffix(filepath.Base(ref), ".json")
	return name[:min(len(name), 12)]
}

// print tells what was made.
func (g *generation) print(r *generatedReport) error {
	if g.output == asJSON {
		return writeJSON(g.env.stdout, r)
	}
	ms, uncached := 0.0, 0.0
	for _, im := range r.Images {
		fmt.Fprintf(g.env.stdout, "%s", im.File)
		if g.compare {
			fmt.Fprintf(g.env.stdout, "  (beside it uncached: %s)", im.CompareFile)
		}
		fmt.Fprintln(g.env.stdout)
		ms, uncached = ms+im.MS, uncached+im.UncachedMS
	}
	if g.quiet {
		return nil
	}
	n := float64(len(r.Images))
	line := fmt.Sprintf("%s on %s, %s, %d steps, guidance %g, schedule %s: %.0f ms a picture", r.Model, r.Device, r.DType, r.Steps, r.Guidance, shortRef(r.Schedule), ms/n)
	if ratio := r.Images[0].MACsRatio; ratio > 1 {
		line += fmt.Sprintf(", %.2fx less arithmetic", ratio)
	}
	if g.compare && ms > 0 {
		line += fmt.Sprintf("; uncached %.0f ms: %.2fx faster", uncached/n, uncached/ms)
	}
	_, err := fmt.Fprintln(g.env.stdout, line)
	return err
}
