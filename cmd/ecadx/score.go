package main

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/draw"
	_ "image/jpeg"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"ecadx/bench"
	"ecadx/dit/mini"
	"ecadx/ga"
)

// Limits of what is read as pictures.
const (
	maxPictureFile   = 256 << 20
	maxPictureSize   = 1 << 26 // pixels
	maxScorePictures = 1 << 20
)

const flagReference = "reference"

func scoreCommand() *cli.Command {
	return &cli.Command{
		Name:      "score",
		Usage:     "judge pictures: by what they show, and beside reference pictures",
		UsageText: "ecadx score FILE-OR-DIR... [--reference DIR] [flags]",
		CustomHelpTemplate: commandHelp(`Pictures are PNG or JPEG. scene says from 0 to 1 whether a picture shows its prompt, which generate writes into its pictures, if the prompt is
of the miniature's grammar; right says so strictly. psnr (decibels, at most 100) and ssim compare with the picture of the same name in
--reference, else with NAME.uncached.png beside it, which generate --compare makes. Means come with 95 % intervals over prompts.`,
			"ecadx score pictures/", "ecadx score pictures/ --reference uncached/ --json"),
		Flags:  append(commonFlags(flagJSON, flagQuiet), &cli.StringFlag{Name: flagReference, Usage: "compare with the pictures of the same names in `DIR`"}),
		Action: score,
	}
}

// scored is a picture with what is known about it; nil is unknown.
type scored struct {
	File      string   `json:"file"`
	Prompt    string   `json:"prompt,omitempty"`
	Reference string   `json:"reference,omitempty"`
	Scene     *float64 `json:"scene"`
	Right     *bool    `json:"right"`
	PSNR      *float64 `json:"psnr"`
	SSIM      *float64 `json:"ssim"`
}

// meanScore is a mean over the pictures that have the score.
type meanScore struct {
	Mean     float64    `json:"mean"`
	CI95     [2]float64 `json:"ci95"`
	Pictures int        `json:"pictures"`
}

func score(c *cli.Context) error {
	o, err := parseOptions(c)
	if err != nil {
		return err
	}
	args, err := positional(c, 1, -1, "ecadx score FILE-OR-DIR...")
	if err != nil {
		return err
	}
	files, err := pictureFiles(args)
	if err != nil {
		return err
	}
	env := environmentOf(c)
	show := o.newProgress(env, "score", "pictures", len(files))
	list := make([]scored, len(files))
	for i, file := range files {
		if c.Context.Err() != nil {
			return c.Context.Err()
		}
		if list[i], err = scorePicture(file, c.String(flagReference)); err != nil {
			return err
		}
		show.add(1)
	}
	show.end()
	means := meanScores(list)
	if o.output == asJSON {
		return writeJSON(env.stdout, struct {
			Pictures []scored              `json:"pictures"`
			Means    map[string]*meanScore `json:"means"`
		}{list, means})
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%-40s %8s %6s %9s %8s\n", "picture", "scene", "right", "psnr", "ssim")
	for _, s := range list {
		right := "-"
		if s.Right != nil {
			right = map[bool]string{true: "yes", false: "no"}[*s.Right]
		}
		fmt.Fprintf(&b, "%-40s %8s %6s %9s %8s\n", s.File, scoreText(s.Scene, 4), right, scoreText(s.PSNR, 2), scoreText(s.SSIM, 4))
	}
	for _, name := range scoreNames {
		if m := means[name]; m != nil {
			fmt.Fprintf(&b, "mean %-6s %.4f (95 %%: %.4f to %.4f), %d pictures\n", name, m.Mean, m.CI95[0], m.CI95[1], m.Pictures)
		}
	}
	_, err = env.stdout.Write(b.Bytes())
	return err
}

func scoreText(v *float64, digits int) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.*f", digits, *v)
}

// pictureFiles lists the pictures of files and directories, the latter in order of names and without what generate --compare puts beside them.
func pictureFiles(args []string) ([]string, error) {
	var out []string
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, badInput(err)
		}
		if !info.IsDir() {
			out = append(out, arg)
			continue
		}
		entries, err := os.ReadDir(arg)
		if err != nil {
			return nil, err
		}
		names := map[string]bool{}
		for _, e := range entries {
			names[e.Name()] = true
		}
		found := len(out)
		for _, e := range entries {
			name := e.Name()
			ext := filepath.Ext(name)
			main, kind, _ := strings.Cut(strings.TrimSuffix(name, ext), ".")
			companion := (kind == "uncached" || kind == "compare") && names[main+ext]
			if slices.Contains([]string{".png", ".jpg", ".jpeg"}, strings.ToLower(ext)) && !e.IsDir() && !companion {
				out = append(out, filepath.Join(arg, name))
			}
		}
		if len(out) == found {
			return nil, inputError("%s: no pictures: name a directory with .png or .jpg files", arg)
		}
	}
	if len(out) > maxScorePictures {
		return nil, inputError("%d pictures: at most %d are scored at a time", len(out), maxScorePictures)
	}
	return out, nil
}

// scorePicture judges one picture.
func scorePicture(file, referenceDir string) (scored, error) {
	s := scored{File: file}
	picture, texts, err := readPicture(file)
	if err != nil {
		return s, err
	}
	s.Prompt = texts["prompt"]
	if r, err := mini.Score(picture, s.Prompt); err == nil {
		s.Scene, s.Right = &r.Smooth, &r.Strict
	}
	s.Reference = beside(file, "uncached")
	if referenceDir != "" {
		s.Reference = filepath.Join(referenceDir, filepath.Base(file))
	} else if _, err := os.Stat(s.Reference); errors.Is(err, fs.ErrNotExist) {
		s.Reference = ""
		return s, nil
	}
	reference, _, err := readPicture(s.Reference)
	if err != nil {
		return s, err
	}
	psnr, err := bench.PSNR(picture, reference)
	if err != nil {
		return s, inputError("%s, %s: %w: compare pictures of one resolution", file, s.Reference, err)
	}
	s.PSNR = &psnr
	if v, err := bench.SSIM(picture, reference); err == nil { // smaller than its window there is none
		s.SSIM = &v
	}
	return s, nil
}

// readPicture reads a PNG or JPEG file and the texts in it.
func readPicture(path string) (*image.NRGBA, map[string]string, error) {
	data, err := readLimited(path, maxPictureFile)
	if err != nil {
		return nil, nil, err
	}
	config, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, nil, inputError("%s: %w: name a PNG or JPEG picture", path, err)
	}
	if int64(config.Width)*int64(config.Height) > maxPictureSize {
		return nil, nil, inputError("%s: %d x %d pixels: at most %d million are read", path, config.Width, config.Height, maxPictureSize>>20)
	}
	m, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, nil, inputError("%s: %w: the file is damaged", path, err)
	}
	out := image.NewNRGBA(image.Rect(0, 0, m.Bounds().Dx(), m.Bounds().Dy()))
	draw.Draw(out, out.Rect, m, m.Bounds().Min, draw.Src)
	return out, pngTexts(data), nil
}

var scoreNames = []string{"scene", "right", "psnr", "ssim"}

// meanScores are the means of all scores that some picture has.
func meanScores(list []scored) map[string]*meanScore {
	out := map[string]*meanScore{}
	for _, name := range scoreNames {
		var values []float64
		var images []ga.Image
		prompts := map[string]uint32{}
		for i, s := range list {
			v := map[string]*float64{"scene": s.Scene, "psnr": s.PSNR, "ssim": s.SSIM}[name]
			if name == "right" && s.Right != nil {
				share := 0.0
				if *s.Right {
					share = 1
				}
				v = &share
			}
			if v == nil {
				continue
			}
			key := s.Prompt
			if key == "" {
				key = s.File // a prompt of its own
			}
			if _, known := prompts[key]; !known {
				prompts[key] = uint32(len(prompts))
			}
			values, images = append(values, *v), append(images, ga.Image{ID: ga.ImageID(i), Prompt: prompts[key]})
		}
		if len(values) > 0 {
			out[name] = &meanScore{Mean: ga.Mean(values), CI95: ga.NewBootstrap(images, 0).Interval(values), Pictures: len(values)}
		}
	}
	return out
}
