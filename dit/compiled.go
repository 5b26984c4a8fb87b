package dit

import (
	"sync"

	"ecadx/dit/program"
)

// compiled is a program with its bytes.
type compiled struct {
	program *program.Program
	bytes   []byte
}

// latestCompiled keeps the program compiled last, because several devices ask for the same one at the same time: a search compiles
// one program a generation, with thousands of ops.
type latestCompiled struct {
	mu  sync.Mutex
	key string
	c   *compiled
}

// compileOnce returns the program of that key if it was the last one, else compiles it. Those who ask meanwhile wait.
func (m *Model) compileOnce(key string, compile func() (*program.Program, error)) (*compiled, error) {
	l := &m.latest
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.c != nil && l.key == key {
		return l.c, nil
	}
	p, err := compile()
	if err != nil {
		return nil, err
	}
	data, err := p.Encode()
	if err != nil {
		return nil, err
	}
	l.key, l.c = key, &compiled{program: p, bytes: data}
	return l.c, nil
}
