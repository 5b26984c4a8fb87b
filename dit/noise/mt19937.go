package noise

const (
	mtSize  = 624
	mtShift = 397
)

// mt19937 is the Mersenne Twister of Matsumoto and Nishimura with 32-bit output, init_genrand seeding.
type mt19937 struct {
	state [mtSize]uint32
	next  int // index of the next word to hand out; mtSize when a new block is due
}

func (m *mt19937) seed(s uint32) {
	m.state[0] = s
	for i := 1; i < mtSize; i++ {
		p := m.state[i-1]
		m.state[i] = 1812433253*(p^p>>30) + uint32(i)
	}
	m.next = mtSize
}

func (m *mt19937) uint32() uint32 {
	if m.next == mtSize {
		m.refill()
	}
	y := m.state[m.next]
	m.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

func (m *mt19937) refill() {
	for i := range m.state {
		y := m.state[i]&0x80000000 | m.state[(i+1)%mtSize]&0x7fffffff
		v := m.state[(i+mtShift)%mtSize] ^ y>>1
		if y&1 != 0 {
			v ^= 0x9908b0df
		}
		m.state[i] = v
	}
	m.next = 0
}
