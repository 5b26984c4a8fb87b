// Probes: one tiny kernel for each instruction (or form of it) of ptx.cuh. Each reads a fixed input and writes everything that the instruction does to
// an output of 32-bit words. The emulator's output is the expectation; a GPU must give the same (main.cpp): bit for bit for data movement, layouts
// and sums that are exact, within a stated bound otherwise.
#pragma once
#include <cstdint>
#include <vector>

#include "../launch.h"
#include "../tensor_map.h"

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

}  // namespace ecad::cuda::probe
