// Command ablation measures what the parts of mode ecadx bring on the miniature: mode ecad as the reference runs it (flat operators, heuristic
// seeds, no racing, no sharing) against mode ecadx to the same DiT work, and against mode ecadx without one of its parts to a quarter of it.
//
//	ablation -state DIR -out FILE.json [-figure FILE.svg] [-readme FILE.md] [sizes]
//
// Two searches with the reference's population run until they have converged; their last children and what survives are timed with the tree and without.
//
// DiT work is counted in floating-point operations of the transformer, from the schedules and images that a search asked for: shared prefixes once
// where the tree is on, each schedule by itself where it is off, and the pass that the dynamic seeds need. Every score is kept in DIR under
// (schedule, image), whichever search asked first, so that nothing is computed twice and an interrupted run goes on where it was; the count does
// not depend on that. Fronts are judged on held-out prompts at checkpoints, each by the same number of its schedules: those
// that keep the most of its hypervolume on the search images.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// settings are the size of the experiment.
type settings struct {
	Steps       int     `json:"steps"`
	Population  int     `json:"population"`
	Generations int     `json:"generations"` // of mode ecad
	Images      int     `json:"images"`      // per candidate
	HeldOut     int     `json:"heldout"`     // prompts
	Points      int     `json:"points"`      // schedules of a front that are judged
	Seeds       int     `json:"seeds"`
	Part        float64 `json:"part"` // share of the work up to which parts are left out
}

// full is the experiment whose results are in the README.
var full = settings{Steps: 20, Population: 24, Generations: 40, Images: 32, HeldOut: 256, Points: 16, Seeds: 3, Part: 0.25}

func main() {
	state := flag.String("state", "build/ablation", "folder that keeps the scores")
	out := flag.String("out", "", "JSON file of the results")
	figure := flag.String("figure", "", "SVG file of the hypervolumes against the work")
	readme := flag.String("readme", "", "file whose table between the ablation marks is written anew")
	threads := flag.Int("threads", 0, "cores; 0: all")
	cfg := full
	for _, n := range []struct {
		name, usage string
		value       *int
	}{
		{"steps", "denoising steps", &cfg.Steps}, {"population", "survivors and offspring", &cfg.Population}, {"generations", "generations of mode ecad", &cfg.Generations},
		{"images", "images per candidate", &cfg.Images}, {"heldout", "held-out prompts", &cfg.HeldOut}, {"points", "schedules of a front that are judged", &cfg.Points},
		{"seeds", "searches of each kind", &cfg.Seeds},
	} {
		flag.IntVar(n.value, n.name, *n.value, n.usage)
	}
	flag.Parse()
	if flag.NArg() > 0 || *out == "" {
		fmt.Fprintln(os.Stderr, "usage: ablation -state DIR -out FILE.json [flags]; -help lists them")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	command, sizes := "make ablation", ""
	flag.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "state", "out", "figure", "readme", "threads":
		default:
			sizes += fmt.Sprintf(" -%s %s", f.Name, f.Value)
		}
	})
	if sizes != "" {
		command += " ABLATION=\"" + sizes[1:] + "\""
	}
	if err := run(ctx, cfg, *state, *threads, files{*out, *figure, *readme, command}); err != nil {
		fmt.Fprintln(os.Stderr, "ablation:", err)
		os.Exit(1)
	}
}

// run does everything that is missing and writes the results after each search.
func run(ctx context.Context, cfg settings, state string, threads int, out files) (err error) {
	l, err := openLab(ctx, cfg, state, threads)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	r := &results{Settings: cfg}
	do := func(v variant, seed int, budget float64) error {
		t, err := l.search(ctx, v, seed, budget)
		if err == nil {
			err = r.add(ctx, l, t)
		}
		if err == nil {
			err = r.write(out, false)
		}
		return err
	}
	work := func(seed int) float64 { return r.of(asECAD.Name, seed).Work }
	for seed := range cfg.Seeds {
		if err := do(asECAD, seed, 0); err != nil {
			return err
		}
	}
	for seed := range cfg.Seeds {
		if err := do(asECADX, seed, work(seed)); err != nil {
			return err
		}
	}
	for _, v := range []variant{asECAD, asECADX} {
		c, err := kept(l, fmt.Sprintf("converged-%d-%s", cfg.Steps, v.Name), func() (*converged, error) { return l.converge(ctx, v) })
		if err != nil {
			return err
		}
		r.Converged = append(r.Converged, c)
	}
	for seed := range cfg.Seeds {
		for _, v := range parts {
			if err := do(v, seed, cfg.Part*work(seed)); err != nil {
				return err
			}
		}
	}
	return r.write(out, true)
}
