package bench

import (
	"context"
	"errors"
	"sort"
	"sync/atomic"

	ecad "ecadx/cgo"
	"ecadx/dit"
)

// tree is the schedules of a program merged by common prefixes: a path from the root is a range of items that one or more schedules run.
type tree struct {
	loop      *dit.Loop
	schedules int
	root      *node // nil without schedules
}

// node is a run of items without a branch, then the ways it goes on.
type node struct {
	items    []ecad.Item
	children []*node
	leaves   []int // schedules that end here
	size     int   // items below and in this node
}

// newTree merges the first n schedules of the loop's program.
func newTree(l *dit.Loop, n int) (*tree, error) {
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
	if n > 0 {
		t.root = merge(lists, all, 0)
	}
	return t, nil
}

// merge is the node of the schedules which, all equal in their first `at` items.
func merge(lists [][]ecad.Item, which []int, at int) *node {
	n := &node{}
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

// walk runs the tree depth first from start, which it closes, and calls leaf where schedules end.
func (t *tree) walk(ctx context.Context, start *dit.Run, run, asked *atomic.Int64, leaf func(schedules []int, r *dit.Run) error) error {
	return t.visit(ctx, t.root, start, run, asked, leaf)
}

func (t *tree) visit(ctx context.Context, n *node, r *dit.Run, run, asked *atomic.Int64, leaf func([]int, *dit.Run) error) error {
	if _, err := r.DoItems(ctx, t.loop, n.items, ecad.RunOptions{}); err != nil {
		return errors.Join(err, r.Close())
	}
	run.Add(int64(len(n.items)))
	asked.Add(int64(len(n.items) * n.schedules()))
	if len(n.leaves) > 0 {
		if err := leaf(n.leaves, r); err != nil {
			return errors.Join(err, r.Close())
		}
	}
	for i, c := range n.children {
		next := r
		if i+1 < len(n.children) {
			var err error
			if next, err = r.Fork(); err != nil {
				return errors.Join(err, r.Close())
			}
		}
		if err := t.visit(ctx, c, next, run, asked, leaf); err != nil {
			if next != r {
				err = errors.Join(err, r.Close())
			}
			return err
		}
	}
	if len(n.children) == 0 {
		return r.Close()
	}
	return nil
}

// schedules is how many schedules run through the node.
func (n *node) schedules() int {
	total := len(n.leaves)
	for _, c := range n.children {
		total += c.schedules()
	}
	return total
}
