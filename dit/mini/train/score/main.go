// Score judges pictures for the Python scripts beside it, so that there is one scorer.
//
//	go run ./dit/mini/train/score pictures.rgb captions.txt > results.jsonl
//
// pictures.rgb holds 64x64 pictures one after another, 3 bytes per pixel; captions.txt one caption a line. Each line
// of the output is {"strict":...,"smooth":...,"fault":"...","objects":...}.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"image"
	"os"
	"strings"

	"ecadx/dit/mini"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "score:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("want 2 arguments, pictures.rgb and captions.txt; got %d", len(args))
	}
	pixels, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	text, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	captions := strings.Split(strings.TrimSpace(string(text)), "\n")
	const bytes = 3 * mini.PictureSize * mini.PictureSize
	if len(pixels) != bytes*len(captions) {
		return fmt.Errorf("%s has %d bytes, want %d for %d captions", args[0], len(pixels), bytes*len(captions), len(captions))
	}
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	for i, caption := range captions {
		scene, err := mini.ParseScene(caption)
		if err != nil {
			return err
		}
		img := image.NewRGBA(image.Rect(0, 0, mini.PictureSize, mini.PictureSize))
		for k := range bytes / 3 {
			copy(img.Pix[4*k:], pixels[bytes*i+3*k:][:3])
			img.Pix[4*k+3] = 255
		}
		r, err := mini.ScoreScene(img, scene)
		if err != nil {
			return err
		}
		if err := encoder.Encode(struct {
			Strict  bool    `json:"strict"`
			Smooth  float64 `json:"smooth"`
			Fault   string  `json:"fault"`
			Objects int     `json:"objects"`
		}{r.Strict, r.Smooth, r.Fault.String(), scene.Objects()}); err != nil {
			return err
		}
	}
	return out.Flush()
}
