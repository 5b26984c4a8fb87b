// The launch helper on a device: cudaLaunchKernelExC, with the one attribute that large shared memory needs set on first use.
#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <utility>

#include "launch.h"

namespace ecad::cuda {
namespace {

constexpr uint32_t kPlainSmem = 48 << 10;  // bytes of dynamic shared memory that need no attribute

Status failed(const KernelEntry& kernel, const char* what, cudaError_t error) {
  return Status(ECAD_DEVICE_ERROR, std::string(what) + " of kernel " + kernel.name + ": " + cudaGetErrorName(error) + ": " + cudaGetErrorString(error))
      .with_device_code(static_cast<int32_t>(error));
}

// Raises the kernel's limit of dynamic shared memory on the current device; remembered, because a launch should cost a launch.
Status allow_smem(const KernelEntry& kernel, uint32_t bytes) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, uint32_t> allowed;
  int device = 0;
  if (const cudaError_t error = cudaGetDevice(&device)) return failed(kernel, "device", error);
  const std::lock_guard<std::mutex> lock(mutex);
  uint32_t& limit = allowed[{kernel.symbol, device}];
  if (limit >= bytes) return Status::ok();
  if (const cudaError_t error = cudaFuncSetAttribute(kernel.symbol, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)))
    return failed(kernel, "shared memory", error);
  limit = bytes;
  return Status::ok();
}

}  // namespace

Status launch_kernel(StreamHandle stream, const KernelEntry& kernel, const LaunchShape& shape, const void* params, size_t) {
  if (shape.smem_bytes > kPlainSmem) ECAD_TRY(allow_smem(kernel, shape.smem_bytes));
  cudaLaunchAttribute overlap = {};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(shape.grid.x, shape.grid.y, shape.grid.z);
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.smem_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = &overlap;
  config.numAttrs = shape.overlap ? 1 : 0;
  void* args[] = {const_cast<void*>(params)};
  if (const cudaError_t error = cudaLaunchKernelExC(&config, kernel.symbol, args)) return failed(kernel, "launch", error);
  return Status::ok();
}

}  // namespace ecad::cuda
