package bench

import (
	"context"
	"errors"
	"sort"
	"sync/atomic"
	"time"

	ecad "ecadx/cgo"
	"ecadx/dit"
	"ecadx/dit/program"
)

// tree is the schedules of a program merged by common prefixes: a path from the root is a range of items that one or more schedules run.
type tree struct {
	loop      *dit.Loop
	schedules int
	root      *node // nil without schedules
	// peak is the most bytes that the states of a walk hold at a time, computed by planMemory.
	peak int64
}

// node is a run of items without a branch, then the ways it goes on.
type node struct {
	items    []ecad.Item
	children []*node
	leaves   []int // schedules that end here
	size     int   // items below and in this node
	through  int   // schedules that run through it
	flops    int64 // of its items
	// replay: no state is kept here for the second and later children; each is reached again from the nearest state that is kept.
	replay bool
}

// newTree merges the first n schedules of the loop's program. Unshared ones share the inputs alone.
func newTree(l *dit.Loop, n int, shared bool) (*tree, error) {
	lists := make([][]ecad.Item, n)
	all := make([]int, n)
	for i := range lists {
		var err error
		if lists[i], err = l.Program.Schedule(i); err != nil {
			return nil, err
		}
		all[i] = i
	}
	t := &tree{loop: l, schedules: n}
	switch {
	case n == 0:
		return t, nil
	case shared:
		t.root = merge(lists, all, 0)
	default:
		t.root = &node{}
		for i := range lists {
			c := merge(lists, all[i:i+1], 0)
			t.root.children = append(t.root.children, c)
			t.root.size += c.size
		}
		t.root.through = n
	}
	t.root.price(l.Source, map[uint32]int64{})
	return t, nil
}

// merge is the node of the schedules which, all equal in their first `at` items.
func merge(lists [][]ecad.Item, which []int, at int) *node {
	n := &node{through: len(which)}
	first := lists[which[0]]
	for ; at < len(first); at++ {
		same := true
		for _, s := range which[1:] {
			same = same && at < len(lists[s]) && lists[s][at] == first[at]
		}
		if !same {
			break
		}
		n.items = append(n.items, first[at])
	}
	n.size = len(n.items)
	groups := map[ecad.Item][]int{}
	var order []ecad.Item
	for _, s := range which {
		if at == len(lists[s]) {
			n.leaves = append(n.leaves, s)
			continue
		}
		item := lists[s][at]
		if groups[item] == nil {
			order = append(order, item)
		}
		groups[item] = append(groups[item], s)
	}
	for _, item := range order {
		c := merge(lists, groups[item], at)
		n.children = append(n.children, c)
		n.size += c.size
	}
	// Small subtrees first: the last child takes the state over, so that few states are alive at a time.
	sort.SliceStable(n.children, func(i, j int) bool { return n.children[i].size < n.children[j].size })
	return n
}

// price fills in the arithmetic of the nodes; sections keeps that of sections seen before.
func (n *node) price(p *program.Program, sections map[uint32]int64) {
	for _, item := range n.items {
		flops, known := sections[item.Section]
		if !known {
			s := p.Sections[item.Section]
			for op := s.First; op < s.First+s.Count; op++ {
				flops += p.Cost(op).Flops
			}
			sections[item.Section] = flops
		}
		n.flops += flops
	}
	for _, c := range n.children {
		c.price(p, sections)
	}
}

// branch is a state of a walk: a run of a device, or what stands for it where memory is planned.
type branch interface {
	do(n *node) error
	fork() (branch, error)
	close() error
}

// walker goes through a tree depth first.
type walker struct {
	path []*node
	kept []keptBranch // states that later children start from, the deepest last
	leaf func(schedules []int, b branch) error
}

// keptBranch is a state that stands at the end of the path's first `depth` nodes.
type keptBranch struct {
	branch
	depth int
}

// walk runs the tree from start, which it closes, and calls leaf where schedules end.
func (t *tree) walk(start branch, leaf func(schedules []int, b branch) error) (err error) {
	if t.root == nil {
		return start.close()
	}
	w := &walker{leaf: leaf, kept: []keptBranch{{start, 0}}}
	defer func() { err = errors.Join(err, start.close()) }()
	first, err := start.fork()
	if err != nil {
		return err
	}
	return w.visit(t.root, first)
}

// visit runs a node and all below it; it closes b.
func (w *walker) visit(n *node, b branch) error {
	w.path = append(w.path, n)
	defer func() { w.path = w.path[:len(w.path)-1] }()
	if err := b.do(n); err != nil {
		return errors.Join(err, b.close())
	}
	if len(n.leaves) > 0 {
		if err := w.leaf(n.leaves, b); err != nil {
			return errors.Join(err, b.close())
		}
	}
	if n.replay {
		return w.again(n, b)
	}
	for i, c := range n.children {
		if i+1 == len(n.children) {
			return w.visit(c, b)
		}
		next, err := b.fork()
		if err == nil {
			w.kept = append(w.kept, keptBranch{b, len(w.path)})
			err = w.visit(c, next)
			w.kept = w.kept[:len(w.kept)-1]
		}
		if err != nil {
			return errors.Join(err, b.close())
		}
	}
	return b.close()
}

// again visits the children of a node that keeps no state: the first one takes b over, the way to each other one is run once more.
func (w *walker) again(n *node, b branch) error {
	for i, c := range n.children {
		if i > 0 {
			from := w.kept[len(w.kept)-1]
			var err error
			if b, err = from.fork(); err != nil {
				return err
			}
			for _, before := range w.path[from.depth:] {
				if err := b.do(before); err != nil {
					return errors.Join(err, b.close())
				}
			}
		}
		if err := w.visit(c, b); err != nil {
			return err
		}
	}
	return nil
}

// counters are the work of all walks of an evaluator.
type counters struct {
	stepsRun, stepsAsked atomic.Int64 // items of batches: run, and what there would have been without shared prefixes
	flopsRun, flopsAsked atomic.Int64 // the same as arithmetic
	peak                 atomic.Int64 // most bytes that the states of a walk were planned to hold
	denoising            atomic.Int64 // ns in which items ran, over all devices
	replays              atomic.Int64 // nodes that kept no state, over all walks
}

// running is a branch on a device.
type running struct {
	*dit.Run
	ctx  context.Context
	loop *dit.Loop
	at   *counters
}

func (r running) do(n *node) error {
	start := time.Now()
	if _, err := r.DoItems(r.ctx, r.loop, n.items, ecad.RunOptions{}); err != nil {
		return err
	}
	r.at.denoising.Add(int64(time.Since(start)))
	r.at.stepsRun.Add(int64(len(n.items)))
	r.at.flopsRun.Add(n.flops)
	return nil
}

func (r running) fork() (branch, error) {
	f, err := r.Fork()
	if err != nil {
		return nil, err
	}
	return running{f, r.ctx, r.loop, r.at}, nil
}

func (r running) close() error { return r.Close() }

// count adds what a walk asks for.
func (c *counters) count(t *tree) {
	var visit func(n *node)
	visit = func(n *node) {
		c.stepsAsked.Add(int64(len(n.items) * n.through))
		c.flopsAsked.Add(n.flops * int64(n.through))
		if n.replay {
			c.replays.Add(1)
		}
		for _, child := range n.children {
			visit(child)
		}
	}
	if t.root != nil {
		visit(t.root)
	}
	for {
		old := c.peak.Load()
		if t.peak <= old || c.peak.CompareAndSwap(old, t.peak) {
			return
		}
	}
}
