// Probes: one tiny kernel for each instruction (or form of it) of ptx.cuh. Each reads a fixed input and writes everything that the instruction does to
// an output of 32-bit words. The emulator's output is the expectation; a GPU must give the same (main.cpp): bit for bit for data movement, layouts
// and sums that are exact, within a stated bound otherwise.
#pragma once
#include <cstdint>
#include <vector>

#include "../ptx.cuh"

namespace ecad::cuda::probe {

constexpr uint32_t kInBytes = 64 << 10, kOutWords = 16384;

struct ProbeParams {
  const void* in;  // kInBytes; what they hold: Input
  uint32_t* out;   // the probe's out_words; all ones before
  void* spare;     // kInBytes of device memory, all ones before: where stores go whose result `out` then shows
  TensorMap map;   // of `in` or `spare`, as map_of made it
  const TensorMap* map_in_memory;  // the same map in device memory
};

enum class Input : uint8_t {
  kCounting,  // 16-bit words 0, 1, 2, ...
  kIntegers,  // bfloat16 -4 .. 4
  kRandom,    // bfloat16, near normal
  kFloats,    // float32 of every size and sign, infinities, NaN and subnormals among them
  kPositive,  // float32 from 2^-20 to 2^20
  kSmall,     // float32 from -8 to 8
};

struct Probe {
  const char* name;
  Input input;
  uint32_t out_words;
  LaunchShape shape;
  bool sm90;             // needs sm_90a
  // Allowed distance of float32 outputs from the emulator's: absolute + relative * |value|; both 0: equal bits.
  double absolute, relative;
  Status (*launch)(StreamHandle, const LaunchShape&, const ProbeParams&);
  TensorMapDesc (*map_of)(const void* in, const void* spare);  // null: no map
  bool spare_is_out;     // out_words of `spare` are the output
};

// Each source file adds its own.
void add_thread_probes(std::vector<Probe>*);
void add_memory_probes(std::vector<Probe>*);
void add_arithmetic_probes(std::vector<Probe>*);
void add_matrix_probes(std::vector<Probe>*);
void add_mbarrier_probes(std::vector<Probe>*);
void add_bulk_probes(std::vector<Probe>*);
void add_wgmma_probes(std::vector<Probe>*);
void add_wgmma_shape_probes(std::vector<Probe>*);
std::vector<Probe> all_probes();

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
