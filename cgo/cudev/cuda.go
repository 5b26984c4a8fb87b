//go:build cuda && linux && amd64

package cudev

/*
#include "loader.h"
*/
import "C"

import (
	"errors"
	"fmt"

	"gorgonia.org/cu"
)

// Devices lists the CUDA devices; when there are none, why says so in one line. Devices that do not answer are left out, with the reason in why.
func Devices() (devices []Device, why string) {
	if reason := C.GoString(C.ecad_driver_problem()); reason != "" {
		return nil, reason
	}
	n, err := cu.NumDevices()
	if err != nil {
		return nil, fmt.Sprintf("the driver does not count its devices: %v", err)
	}
	if n == 0 {
		return nil, "the driver reports no device"
	}
	version := cu.Version()
	for i := range n {
		d, err := ask(i)
		if err != nil {
			why = fmt.Sprintf("device %d: %v", i, err)
			continue
		}
		d.Driver = fmt.Sprintf("%d.%d", version/1000, version%1000/10)
		devices = append(devices, d)
	}
	return devices, why
}

func ask(ordinal int) (d Device, err error) {
	dev, err := cu.GetDevice(ordinal)
	if err != nil {
		return d, err
	}
	d.Ordinal = ordinal
	if d.Name, err = dev.Name(); err != nil {
		return d, err
	}
	if d.Major, d.Minor, err = dev.ComputeCapability(); err != nil {
		return d, err
	}
	if d.MemoryTotal, err = dev.TotalMem(); err != nil {
		return d, err
	}
	for _, a := range []struct {
		attribute cu.DeviceAttribute
		set       func(int)
	}{
		{cu.MultiprocessorCount, func(v int) { d.Multiprocessors = v }},
		{cu.L2CacheSize, func(v int) { d.L2Bytes = int64(v) }},
		{cu.ClockRate, func(v int) { d.ClockKHz = v }},
	} {
		v, err := dev.Attribute(a.attribute)
		if err != nil {
			return d, err
		}
		a.set(v)
	}
	c, err := Open(ordinal)
	if err != nil {
		return d, err
	}
	d.MemoryFree, err = c.MemoryFree()
	if speed, copyErr := c.hostCopySpeed(); copyErr == nil {
		d.HostCopyGBs = speed // a full device has no room for it
	}
	return d, errors.Join(err, c.Close())
}
