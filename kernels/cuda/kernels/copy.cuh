// copy: y[i] = x[i].
//
// Inputs/outputs: strided views of rank up to 4 with a dense last dim; x and y may be the same view, else they share nothing.
// Grid/block: 256 threads, one unit each (16 bytes where both views allow it, else an element). No shared memory.
// Expected: reads and writes each byte once; bound by memory. Edge cases: any extent; the last block is partly idle.
// Twin: kernels/ref/move.cpp ref_copy.
#pragma once
#include "../frame.cuh"
#include "copy.h"

namespace ecad::cuda {

ECAD_DEVICE void convert(ptx::u16 from, ptx::u16* to) { *to = from; }
ECAD_DEVICE void convert(ptx::u32 from, ptx::u32* to) { *to = from; }
ECAD_DEVICE void convert(ptx::u64 from, ptx::u64* to) { *to = from; }
ECAD_DEVICE void convert(ptx::u32x4 from, ptx::u32x4* to) { *to = from; }
ECAD_DEVICE void convert(ptx::f32 from, ptx::bf16* to) { *to = ptx::to_bf16(from); }
ECAD_DEVICE void convert(ptx::bf16 from, ptx::f32* to) { *to = ptx::to_f32(from); }

// In, Out: what one thread moves. InBytes, OutBytes: bytes of an element, which strides count.
template <class I, class O, int64_t InBytes, int64_t OutBytes>
struct CopyConfig {
  using In = I;
  using Out = O;
  static constexpr int64_t kInBytes = InBytes, kOutBytes = OutBytes;
};

template <class Config>
ECAD_KERNEL ECAD_BOUNDS(kCopyThreads) copy_kernel(ECAD_PARAMS(CopyParams) p) {
  enter(p.head);
  int64_t unit = static_cast<int64_t>(ptx::block_x()) * kCopyThreads + ptx::thread_id();
  if (unit >= p.count) return;
  int64_t from = 0, to = 0;
#pragma unroll
  for (int d = 0; d < 3; ++d) {
    const int64_t index = unit % p.dims[d];
    unit /= p.dims[d];
    from += index * p.in_strides[d];
    to += index * p.out_strides[d];
  }
  from += unit * p.in_strides[3];
  to += unit * p.out_strides[3];
  typename Config::Out value;
  convert(ptx::ld_global<typename Config::In>(resolve<const char>(p.head.frame, p.in) + from * Config::kInBytes), &value);
  ptx::st_global(reinterpret_cast<typename Config::Out*>(resolve<char>(p.head.frame, p.out) + to * Config::kOutBytes), value);
}

}  // namespace ecad::cuda
