package sampler

import "fmt"

// Run executes the loop on x, the latents after multiplication with InitNoiseSigma, in the arithmetic of F. It is the plain
// form of what an engine does, kept for tests and small models. At each step model writes its output for input (length
// len(x)) to out; after, when not nil, sees the new latents. x is overwritten with the result. Errors are model's.
func Run[F float32 | float64](s *Sampler, x []F, model func(step int, input, out []F) error, after func(step int, x []F)) error {
	input, out := make([]F, len(x)), make([]F, len(x))
	x0, prev, prevPrev := make([]F, len(x)), make([]F, len(x)), make([]F, len(x))
	for i, st := range s.Steps {
		for j, v := range x {
			input[j] = F(st.ScaleInput) * v
		}
		if err := model(i, input, out); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		lo, hi := F(st.Clamp.Lo), F(st.Clamp.Hi)
		n := st.Next
		for j, v := range x {
			p := F(st.X0.Sample)*v + F(st.X0.Model)*out[j]
			if st.Clamp.On {
				p = min(max(p, lo), hi)
			}
			x0[j] = p
			x[j] = F(n.Sample)*v + F(n.Model)*out[j] + F(n.X0)*p + F(n.Prev)*prev[j] + F(n.PrevPrev)*prevPrev[j]
		}
		x0, prev, prevPrev = prevPrev, x0, prev
		if after != nil {
			after(i, x)
		}
	}
	return nil
}
