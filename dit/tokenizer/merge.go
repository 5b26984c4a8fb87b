package tokenizer

import "container/heap"

// mergeQueue merges the symbols of a word in order of rank. The symbols are a linked list; candidates that a merge made out of date are
// recognised when their turn comes. A word of n bytes takes n log n steps.
type mergeQueue struct {
	b     *BPE
	nodes []node
	heap  candidates
}

type node struct {
	id         int32
	prev, next int32 // -1 at the ends
	gone       bool
}

// candidate is the merge of a node with its successor, as they were when it was found.
type candidate struct {
	merge
	pair
	at int32
}

type candidates []candidate

func (c candidates) Len() int { return len(c) }
func (c candidates) Less(i, j int) bool {
	return c[i].rank < c[j].rank || c[i].rank == c[j].rank && c[i].at < c[j].at
}
func (c candidates) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *candidates) Push(x any)   { *c = append(*c, x.(candidate)) }
func (c *candidates) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

func newMergeQueue(b *BPE, word string) *mergeQueue {
	q := &mergeQueue{b: b, nodes: make([]node, len(word))}
	last := len(word) - 1
	for i := range q.nodes {
		q.nodes[i] = node{id: b.symbols[word[i]].inner, prev: int32(i - 1), next: int32(i + 1)}
	}
	q.nodes[last].id, q.nodes[last].next = b.symbols[word[last]].last, -1
	for i := range q.nodes[:last] {
		q.offer(int32(i))
	}
	return q
}

// offer adds the merge of a node with its successor, if there is one.
func (q *mergeQueue) offer(at int32) {
	if at < 0 || q.nodes[at].next < 0 {
		return
	}
	p := pair{q.nodes[at].id, q.nodes[q.nodes[at].next].id}
	if m, ok := q.b.merges[p]; ok {
		heap.Push(&q.heap, candidate{merge: m, pair: p, at: at})
	}
}

func (q *mergeQueue) run() {
	for len(q.heap) > 0 {
		c := heap.Pop(&q.heap).(candidate)
		left := &q.nodes[c.at]
		if left.gone || left.next < 0 || left.id != c.left || q.nodes[left.next].id != c.right {
			continue
		}
		right := &q.nodes[left.next]
		left.id, left.next, right.gone = c.id, right.next, true
		if left.next >= 0 {
			q.nodes[left.next].prev = c.at
		}
		q.offer(left.prev)
		q.offer(c.at)
	}
}
