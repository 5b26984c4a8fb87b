// What the probes' kernels share.
#pragma once
#include "../ptx.cuh"
#include "probe.h"

namespace ecad::cuda::probe {

template <auto kernel>
Status start(StreamHandle stream, const LaunchShape& shape, const ProbeParams& p) { return launch<kernel>(stream, shape, p); }

// A probe without a map whose output must be equal in every bit.
template <auto kernel>
Probe exact(const char* name, Input input, uint32_t out_words, const LaunchShape& shape, bool sm90 = false) {
  return {name, input, out_words, shape, sm90, 0, 0, start<kernel>, nullptr, false};
}

// Output word i of the block.
ECAD_DEVICE void put(const ProbeParams& p, uint32_t i, uint32_t value) { ptx::st_global(p.out + i, value); }
ECAD_DEVICE void put(const ProbeParams& p, uint32_t i, float value) { ptx::st_global(p.out + i, value); }

// 16-byte units [0, units) of `in` to shared memory from `to` on, by all threads.
ECAD_DEVICE void stage(const ProbeParams& p, uint32_t to, uint32_t units) {
  for (uint32_t i = ptx::thread_id(); i < units; i += ptx::block_threads())
    ptx::st_shared(to + 16 * i, ptx::ld_global<ptx::u32x4>(static_cast<const char*>(p.in) + 16 * i));
}
// Words [0, words) of shared memory from `from` on to the output.
ECAD_DEVICE void dump(const ProbeParams& p, uint32_t from, uint32_t words) {
  for (uint32_t i = ptx::thread_id(); i < words; i += ptx::block_threads()) put(p, i, ptx::ld_shared<uint32_t>(from + 4 * i));
}

}  // namespace ecad::cuda::probe
