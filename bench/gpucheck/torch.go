package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// torchTime is what PyTorch may take, its compilations included.
const torchTime = 3 * time.Minute

// torchLine is one line of torch_peer.py: an op with its time, or a step of diffusers' PixArt.
type torchLine struct {
	What string  `json:"what"` // sdpa, linear, eager, compiled
	Name string  `json:"name"` // the shape as cuda_bench names it, or the size as our steps are named
	MS   float64 `json:"ms"`
}

// torch measures PyTorch and diffusers beside ours, if a Python on this machine has them. What it has said when the time is over counts.
func (c *checker) torch(r *result) {
	python, err := exec.LookPath("python3")
	if err != nil {
		r.skip("there is no python3")
		return
	}
	if o := c.runner.run(time.Until(c.until), c.outside, python, "-c", "import torch; assert torch.cuda.is_available()"); o.err != nil || o.code != 0 {
		r.skip("python3 has no torch with CUDA: %s", o.last())
		return
	}
	seconds := int(min(time.Until(c.until)-5*time.Second, torchTime).Seconds())
	o := c.runner.run(time.Until(c.until), c.outside, python, filepath.Join(c.dir, "torch", "torch_peer.py"), strconv.Itoa(max(seconds, 1)))
	for line := range strings.SplitSeq(o.stdout, "\n") {
		var l torchLine
		if json.Unmarshal([]byte(line), &l) == nil && l.MS > 0 {
			c.peer = append(c.peer, l)
			r.note("%s", c.describeTorch(l))
		}
	}
	r.Passed = len(c.peer)
	if o.err != nil || o.code != 0 {
		r.note("torch_peer.py: exit code %d, %v: %s", o.code, o.err, o.last())
	}
	if r.Passed == 0 {
		r.fail("torch_peer.py measured nothing")
	}
	r.Data, _ = json.Marshal(c.peer)
}

func (c *checker) describeTorch(l torchLine) string {
	text := fmt.Sprintf("%-9s %-24s %10.3f ms", l.What, l.Name, l.MS)
	ours := 0.0
	if b := c.models[l.Name]; b != nil {
		ours = b.Step.Median
	}
	for _, o := range c.ours {
		if o.Shape == l.Name {
			ours = o.US / 1000
		}
	}
	if ours > 0 {
		text += fmt.Sprintf(", ours %.3f ms: %.2f times as fast", ours, l.MS/ours)
	}
	return text
}
