package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"time"

	ecad "ecadx/cgo"
	"ecadx/ga/study"
)

// surroundings names what scores depend on besides configuration, weights and prompts: the schedules' shape, the sampler with every parameter,
// and what a device computes with, since another instruction set or GPU rounds differently.
func (p *searchPlan) surroundings() ([]study.Part, error) {
	shape, err := json.Marshal(p.shape)
	if err != nil {
		return nil, err
	}
	info, err := p.session.Workers[0].Device.Info()
	if err != nil {
		return nil, err
	}
	sampler, err := p.model.SamplerConfig()
	if err != nil {
		return nil, err
	}
	hardware := info.Features
	if info.Backend == ecad.CUDA {
		hardware = info.Name + ", " + info.Features
	}
	return []study.Part{{Name: study.ShapePart, Value: string(shape)}, {Name: "sampler", Value: fmt.Sprintf("%+v", sampler)},
		{Name: "hardware", Value: hardware}}, nil
}

// sessionParts describe this process to the log of a study.
func (p *searchPlan) sessionParts() []study.Part {
	parts := []study.Part{{Name: "commit", Value: commit}, {Name: "began", Value: time.Now().UTC().Format(time.RFC3339)},
		{Name: "platform", Value: runtime.GOOS + "/" + runtime.GOARCH}, {Name: "devices", Value: fmt.Sprint(len(p.session.Workers))}}
	if host, err := os.Hostname(); err == nil {
		parts = append(parts, study.Part{Name: "host", Value: host})
	}
	if info, err := p.session.Workers[0].Device.Info(); err == nil {
		parts = append(parts, study.Part{Name: "device", Value: info.Name})
	}
	return parts
}
