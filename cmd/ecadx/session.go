package main

import (
	"errors"
	"fmt"

	ecad "ecadx/cgo"
	"ecadx/dit"
)

// openModel opens the model that --model names. The caller closes it.
func (o *options) openModel() (*dit.Model, error) {
	m, err := dit.Open(o.model)
	return m, badInput(err)
}

// chooseDevice says which backend and device to open; asking for one that is not there is an error with exit code 4.
func (o *options) chooseDevice() (ecad.Backend, int, error) {
	backend, ordinal, err := o.findDevice()
	if err == nil && o.gemm != ecad.GEMMAuto && backend != ecad.CUDA {
		err = usageError("%s: --%s: it is for --device cuda", o.command, flagGEMM)
	}
	return backend, ordinal, err
}

func (o *options) findDevice() (ecad.Backend, int, error) {
	d := o.device
	if d.auto {
		if n, _ := ecad.DeviceCount(ecad.CUDA); n > 0 {
			return ecad.CUDA, 0, nil
		}
		return ecad.CPU, 0, nil
	}
	n, why := ecad.DeviceCount(d.backend)
	switch {
	case n == 0:
		if why == "" {
			why = "this build or machine has none"
		}
		return 0, 0, newError(exitNoDevice, "--device %v: no such device: %s: use --device cpu", d, why)
	case d.ordinal >= n:
		return 0, 0, newError(exitNoDevice, "--device %v: no such device: there are %d, numbered from 0: use --device %v:0", d, n, d.backend)
	}
	return d.backend, d.ordinal, nil
}

// chooseDType resolves --dtype for a backend: bfloat16 where the device, with instructions up to isa, multiplies it faster than float32.
func (o *options) chooseDType(backend ecad.Backend, ordinal int, isa ecad.ISA) (dit.DType, error) {
	if !o.dtype.auto {
		return o.dtype.dtype, nil
	}
	if backend == ecad.Reference {
		return dit.Float32, nil
	}
	dev, err := ecad.OpenDevice(ecad.DeviceConfig{Backend: backend, Ordinal: ordinal, Threads: 1, ISA: isa})
	if err != nil {
		return 0, fmt.Errorf("--device %v: %w", o.device, err)
	}
	defer dev.Close()
	info, err := dev.Info()
	if err != nil {
		return 0, fmt.Errorf("--device %v: %w", o.device, err)
	}
	if info.FastBFloat16 {
		return dit.BFloat16, nil
	}
	return dit.Float32, nil
}

// session is a model with the devices it runs on, everything resolved.
type session struct {
	*dit.Pipeline
	backend  ecad.Backend
	ordinal  int
	guidance float64
	size     pixels // of the pictures; zero for a model without autoencoder
}

// deviceName is what JSON and pictures say: reference, cpu or cuda:N.
func (s *session) deviceName() string {
	return deviceChoice{backend: s.backend, ordinal: s.ordinal}.String()
}

// openSession opens a model's devices. The caller closes the session, then the model.
func (o *options) openSession(m *dit.Model) (*session, error) {
	s := &session{guidance: m.Defaults().Guidance}
	if o.guidance != nil {
		s.guidance = *o.guidance
	}
	var err error
	if s.backend, s.ordinal, err = o.chooseDevice(); err != nil {
		return nil, err
	}
	dtype, err := o.chooseDType(s.backend, s.ordinal, ecad.ISAAuto)
	if err != nil {
		return nil, err
	}
	s.Pipeline, err = m.OpenPipeline(dit.PipelineConfig{Backend: s.backend, Ordinal: s.ordinal, Threads: o.threads, GEMM: o.gemm, DType: dtype, CheckFinite: o.checkFinite})
	if err != nil {
		return nil, badModel(err)
	}
	return s, nil
}

// badModel marks errors about a model's files as bad input, those of devices not.
func badModel(err error) error {
	var lib *ecad.Error
	if errors.As(err, &lib) {
		return err
	}
	return badInput(err)
}

// negativeUnread says why nothing would read a negative prompt, and what to do; empty if something does, or there is none.
func negativeUnread(negative string, d dit.Defaults, guidance float64) string {
	switch {
	case negative == "" || d.Guided(guidance):
		return ""
	case d.Guiding == dit.ClassifierFree:
		return fmt.Sprintf("a guidance of %g moves away from nothing: use a scale above 1, or leave it out", guidance)
	}
	return "the model's guidance takes no negative prompt: leave it out"
}

// pictureSize resolves --resolution for a session that makes pictures, and checks it.
func (o *options) pictureSize(s *session) (pixels, error) {
	size := o.resolution
	f, err := s.PixelFactor()
	if err != nil {
		return size, badModel(err)
	}
	if size == (pixels{}) {
		n := s.Model.Defaults().LatentSize * f
		size = pixels{n, n}
	}
	if _, _, err := s.LatentSize(size.height, size.width); err != nil {
		return size, usageError("--%s: %w", flagResolution, err)
	}
	return size, nil
}
