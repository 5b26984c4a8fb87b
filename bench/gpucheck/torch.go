package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
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
	if out, code, err := c.command(python, "-c", "import torch; assert torch.cuda.is_available()"); err != nil || code != 0 {
		r.skip("python3 has no torch with CUDA: %s", lastLine(out))
		return
	}
	seconds := int(min(time.Until(c.end)-5*time.Second, torchTime).Seconds())
	out, code, err := c.command(python, filepath.Join(c.dir, "torch", "torch_peer.py"), strconv.Itoa(max(seconds, 1)))
	lines := []torchLine{}
	scan := bufio.NewScanner(bytes.NewReader([]byte(out)))
	for scan.Scan() {
		var l torchLine
		if json.Unmarshal(scan.Bytes(), &l) == nil && l.MS > 0 {
			lines = append(lines, l)
			r.note("%s", c.describeTorch(l))
		}
	}
	r.Passed = len(lines)
	if (err != nil || code != 0) && len(lines) == 0 {
		r.fail("torch_peer.py: exit code %d, %v: %s", code, err, lastLine(out))
	}
	r.Data, _ = json.Marshal(lines)
}

func (c *checker) describeTorch(l torchLine) string {
	text := fmt.Sprintf("%-9s %-24s %10.3f ms", l.What, l.Name, l.MS)
	ours := c.steps[l.Name]
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
