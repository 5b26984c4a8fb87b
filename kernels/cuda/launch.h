// How kernels are written down and started, the same for nvcc and for the host emulator (g++ -DECAD_EMULATE).
//
//   template <class Config>
//   ECAD_KERNEL ECAD_BOUNDS(Config::kThreads, 1) chain_kernel(ECAD_PARAMS(ChainParams) p) { ... }
//
//   ECAD_TRY(launch<chain_kernel<Config>>(stream, LaunchShape{{blocks}, Config::kThreads, smem_bytes}, params));
//
// A kernel takes one trivially copyable struct. On the device it lies in constant memory (__grid_constant__: tensor maps in it may be used in
// place); in the emulator every thread of a launch refers to the same copy.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include "../core/status.h"

#if defined(__CUDACC__)
#define ECAD_KERNEL __global__ void
#define ECAD_BOUNDS(...) __launch_bounds__(__VA_ARGS__)  // threads per block, blocks per SM
#define ECAD_PARAMS(...) const __grid_constant__ __VA_ARGS__
#define ECAD_DEVICE __device__ __forceinline__
#define ECAD_HOST_DEVICE __host__ __device__ __forceinline__
#define ECAD_UNROLL _Pragma("unroll")
#else
#define ECAD_KERNEL void
#define ECAD_BOUNDS(...)
#define ECAD_PARAMS(...) const __VA_ARGS__&
#define ECAD_DEVICE inline
#define ECAD_HOST_DEVICE inline
#define ECAD_UNROLL
#endif

namespace ecad::cuda {

struct Dim3 { uint32_t x = 1, y = 1, z = 1; };

struct LaunchShape {
  Dim3 grid;
  uint32_t threads = 32;    // per block, one-dimensional, a multiple of 32, at most 1024
  uint32_t smem_bytes = 0;  // dynamic shared memory of a block; kernels have no other
  bool overlap = false;     // programmatic dependent launch: may start before the kernel in front of it in the stream has ended
};

// A kernel as the launcher needs it: its address and, for messages, its name.
struct KernelEntry {
  const char* name;
#if defined(ECAD_EMULATE)
  void (*call)(const void* params);  // runs one thread
#else
  const void* symbol;
#endif
};

// cudaStream_t on the device. In the emulator an emu::Queue* (emu/emulator.h), or null: run to the end before returning.
using StreamHandle = void*;

// Copies `bytes` bytes of parameters and enqueues the kernel. ECAD_INVALID_ARGUMENT for a shape no device takes, ECAD_DEVICE_ERROR with the CUDA
// error, or with the emulator's report when it ran at once and found something wrong.
Status launch_kernel(StreamHandle, const KernelEntry&, const LaunchShape&, const void* params, size_t bytes);

namespace detail {
// The part of "... [with auto kernel = NAME]" (g++) or "... [auto kernel = NAME]" (clang) that names the kernel.
inline std::string kernel_in(std::string text) {
  const size_t at = text.find("kernel = "), close = text.rfind(']');
  return at == std::string::npos || close == std::string::npos ? text : text.substr(at + 9, close - at - 9);
}
template <auto kernel>
const char* kernel_name() {
  static const std::string name = kernel_in(__PRETTY_FUNCTION__);
  return name.c_str();
}
template <class P>
struct ParamsOf;
#if defined(ECAD_EMULATE)
template <class P>
struct ParamsOf<void (*)(const P&)> { using type = P; };
#else
template <class P>
struct ParamsOf<void (*)(P)> { using type = std::remove_const_t<P>; };
#endif
}  // namespace detail

template <auto kernel>
Status launch(StreamHandle stream, const LaunchShape& shape, const typename detail::ParamsOf<decltype(kernel)>::type& params) {
  using P = typename detail::ParamsOf<decltype(kernel)>::type;
  static_assert(std::is_trivially_copyable_v<P>, "kernel parameters are copied as bytes");
#if defined(ECAD_EMULATE)
  const KernelEntry entry = {detail::kernel_name<kernel>(), [](const void* p) { kernel(*static_cast<const P*>(p)); }};
#else
  const KernelEntry entry = {detail::kernel_name<kernel>(), reinterpret_cast<const void*>(kernel)};
#endif
  return launch_kernel(stream, entry, shape, &params, sizeof(P));
}

}  // namespace ecad::cuda
