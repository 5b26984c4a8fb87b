// How the emulated device behaves towards the host (runtime_emu.cpp): for tests of what waits for what.
#pragma once
#include <cstdint>

namespace ecad::cuda::emu {

struct DeviceBehaviour {
  bool late = false;          // streams do their work only when somebody waits for it: as late as a device may
  int64_t breaks_at = -1;     // the kernel that breaks the device, counted from 0 as from set_device: as if by an illegal address. Every later call fails; -1: none
};
// Also sets back the counts.
void set_device(const DeviceBehaviour&);

// The most events that were recorded and not reached at a time.
uint64_t most_events_ahead();

}  // namespace ecad::cuda::emu
