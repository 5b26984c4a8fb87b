#include "ptx_host.h"
#include "queue.h"

namespace ecad::cuda {

Status launch_kernel(StreamHandle stream, const KernelEntry& entry, const LaunchShape& shape, const void* params, size_t bytes) {
  if (stream != nullptr) return static_cast<emu::Queue*>(stream)->enqueue(entry, shape, params, bytes);
  ptx::place() = {0, 0, shape.threads, shape.grid.x};
  for (uint32_t b = 0; b < shape.grid.x; ++b) {
    for (uint32_t t = 0; t < shape.threads; ++t) {
      ptx::place().block = b;
      ptx::place().thread = t;
      entry.call(params);
    }
  }
  return Status::ok();
}

}  // namespace ecad::cuda
