package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	ecad "ecadx/cgo"
	"ecadx/cgo/cudev"
)

func devicesCommand() *cli.Command {
	return &cli.Command{
		Name:  "devices",
		Usage: "list backends and devices, or say why there are none",
		CustomHelpTemplate: commandHelp("The first column is what --device takes.",
			"ecadx devices", "ecadx devices --json"),
		Flags: commonFlags(flagJSON),
		Action: func(c *cli.Context) error {
			o, err := parseOptions(c)
			if err != nil {
				return err
			}
			if _, err := positional(c, 0, 0, "ecadx devices"); err != nil {
				return err
			}
			l, err := listDevices()
			if err != nil {
				return err
			}
			out := environmentOf(c).stdout
			if o.output == asJSON {
				return writeJSON(out, l)
			}
			return l.writeText(out)
		},
	}
}

// deviceList is devices --json.
type deviceList struct {
	Devices []deviceEntry `json:"devices"`
	Missing []missing     `json:"missing"`
	Auto    string        `json:"auto"` // what --device auto opens
}

// deviceEntry is one device.
type deviceEntry struct {
	Device       string `json:"device"`
	Backend      string `json:"backend"`
	Name         string `json:"name"`
	Features     string `json:"features"`
	Threads      int    `json:"threads"`
	FastBFloat16 bool   `json:"fast_bfloat16"`         // multiplies bfloat16 faster than float32: --dtype auto takes it
	MemoryTotal  uint64 `json:"memory_total"`          // bytes
	MemoryFree   uint64 `json:"memory_free,omitempty"` // bytes; of CUDA devices, as the driver says
}

// missing is a backend without devices.
type missing struct {
	Backend string `json:"backend"`
	Why     string `json:"why"`
}

// listDevices opens every device and asks it. A device that is there but does not open is listed as missing, with its error.
func listDevices() (*deviceList, error) {
	l := &deviceList{Devices: []deviceEntry{}, Missing: []missing{}}
	for _, b := range []ecad.Backend{ecad.Reference, ecad.CPU, ecad.CUDA} {
		n, why := ecad.DeviceCount(b)
		if n == 0 {
			if _, driver := cudev.Devices(); b == ecad.CUDA && driver != "" {
				why = driver // names what is missing
			}
			if why == "" {
				why = "this build has none"
			}
			l.Missing = append(l.Missing, missing{b.String(), why})
		}
		for i := range n {
			e, err := askDevice(b, i)
			if err != nil {
				l.Missing = append(l.Missing, missing{deviceChoice{backend: b, ordinal: i}.String(), err.Error()})
				continue
			}
			if b == ecad.CUDA {
				addDriver(&e, i)
			}
			l.Devices = append(l.Devices, e)
		}
	}
	backend, ordinal, err := (&options{device: deviceChoice{auto: true}}).chooseDevice()
	l.Auto = deviceChoice{backend: backend, ordinal: ordinal}.String()
	return l, err
}

// addDriver adds what the driver knows and the runtime does not say.
func addDriver(e *deviceEntry, ordinal int) {
	devices, _ := cudev.Devices()
	for _, d := range devices {
		if d.Ordinal == ordinal {
			e.MemoryFree = uint64(d.MemoryFree)
			e.Features += fmt.Sprintf(", L2 %d MB, up to %d MHz", d.L2Bytes>>20, d.ClockKHz/1000)
			if d.HostCopyGBs > 0 {
				e.Features += fmt.Sprintf(", %.1f GB/s from the host", d.HostCopyGBs)
			}
		}
	}
}

func askDevice(b ecad.Backend, ordinal int) (deviceEntry, error) {
	dev, err := ecad.OpenDevice(ecad.DeviceConfig{Backend: b, Ordinal: ordinal})
	if err != nil {
		return deviceEntry{}, err
	}
	defer dev.Close()
	info, err := dev.Info()
	return deviceEntry{Device: deviceChoice{backend: b, ordinal: ordinal}.String(), Backend: b.String(), Name: info.Name, Features: info.Features,
		Threads: info.Threads, FastBFloat16: info.FastBFloat16, MemoryTotal: info.MemoryTotal}, err
}

func (l *deviceList) writeText(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, d := range l.Devices {
		note := ""
		if d.Device == l.Auto {
			note = ", the default"
		}
		fmt.Fprintf(tw, "%s\t%s%s\n", d.Device, d.Name, note)
		switch {
		case d.MemoryFree > 0:
			fmt.Fprintf(tw, "\t%.1f GB of memory, %.1f GB free\n", float64(d.MemoryTotal)/1e9, float64(d.MemoryFree)/1e9)
		default:
			fmt.Fprintf(tw, "\t%d threads, %.1f GB of memory\n", d.Threads, float64(d.MemoryTotal)/1e9)
		}
		if d.Features != "" {
			fmt.Fprintf(tw, "\t%s\n", d.Features)
		}
		if d.FastBFloat16 {
			fmt.Fprintf(tw, "\tbfloat16 is faster than float32\n")
		}
	}
	for _, m := range l.Missing {
		fmt.Fprintf(tw, "%s\tnone: %s\n", m.Backend, m.Why)
	}
	return tw.Flush()
}
