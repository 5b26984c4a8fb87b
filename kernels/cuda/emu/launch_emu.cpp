// The launch helper in an emulated build.
#include "emulator.h"

namespace ecad::cuda {

Status launch_kernel(StreamHandle stream, const KernelEntry& kernel, const LaunchShape& shape, const void* params, size_t bytes) {
  if (stream) return static_cast<emu::Queue*>(stream)->enqueue(kernel, shape, params, bytes);
  return emu::execute(kernel, shape, params, bytes);
}

}  // namespace ecad::cuda
