// Runs kernels written on ptx.cuh on the host, thread by thread, and reports what the hardware leaves undefined: races, missing barriers, fences and
// waits, misuse of mbarriers and tensor maps, addresses out of bounds, deadlocks; and what is slow: bank conflicts, sectors per access.
//
// Blocks run one after another, so nothing that depends on the order of blocks is checked but this: a word written by one block and touched by
// another in the same launch, other than by atomics, is reported. Not modelled: bank conflicts of bulk copies and wgmma, weak ordering inside a
// warp (a lane's release covers its whole warp), speed, registers. Rounding: sums of products are float32 in order of k; hardware differs in the last bits.
//
// One launch runs at a time in a process (the functions lock). No kernel may throw or keep objects with destructors.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "../launch.h"
#include "../tensor_map.h"

namespace ecad::cuda::emu {

enum class Fault : uint8_t {
  kRace,        // two accesses to shared memory, or to global memory within a block, without synchronisation between them
  kBlocks,      // two blocks of one launch touch the same global word and at least one writes
  kUnwritten,   // shared memory read that nothing wrote
  kPending,     // data of an asynchronous operation touched before it was waited for
  kProxy,       // generic accesses seen by the async proxy without a proxy fence
  kBounds, kAlignment,
  kDivergence,  // lanes of a warp meet in different collectives
  kDeadlock, kBarrier, kMbarrier, kTensorMap, kWgmma,
  kExit,        // a thread ends with asynchronous work open
  kTrap, kLaunch,
};
const char* fault_name(Fault);

struct Issue {
  Fault fault;
  std::string text;  // kernel, block, thread, file:line and what is wrong
  const char* file;
  int line;
  uint64_t count;    // occurrences of this fault at this line; the text is of the first
};

// Accesses of one source line by whole warps.
struct SiteCounts {
  const char* file;
  int line;
  bool shared;
  uint64_t accesses;      // warp instructions
  uint64_t transactions;  // shared: wavefronts; global: sectors of 32 bytes
  uint64_t ideal;         // the least possible for the same accesses
};

struct Counters {
  uint64_t read_bytes = 0, written_bytes = 0;                // global memory, as asked for by the instructions; zero-filled parts do not count
  uint64_t unique_read_bytes = 0, unique_written_bytes = 0;  // each word once
  uint64_t read_sectors = 0, written_sectors = 0;            // 32 bytes each, per warp instruction or row of a bulk copy
  uint64_t shared_wavefronts = 0, shared_ideal = 0;          // ld, st, ldmatrix, stmatrix
  uint64_t macs = 0;                                         // of mma and wgmma
  uint64_t switches = 0;                                     // between threads
};

struct Report {
  std::string kernel;
  LaunchShape shape;
  std::vector<Issue> issues;
  std::vector<SiteCounts> sites;
  Counters counters;

  bool ok() const { return issues.empty(); }
  bool has(Fault) const;
  uint64_t conflicts() const { return counters.shared_wavefronts - counters.shared_ideal; }  // wavefronts that a better layout would save
  std::string text() const;  // the issues, one a line; empty when there are none
};

// When asynchronous data arrives and reads of asynchronous operations happen.
enum class Landing : uint8_t { kEarly, kLate, kRandom };

struct Options {
  Landing landing = Landing::kRandom;
  uint64_t seed = 1;  // of the order of warps, of random landing and of the elected lanes
};
Options options();
void set_options(const Options&);

// Runs a launch to its end.
Report run(const KernelEntry&, const LaunchShape&, const void* params, size_t bytes);

template <auto kernel, class P>
Report run(const LaunchShape& shape, const P& params) {
  return run(KernelEntry{detail::kernel_name<kernel>(), [](const void* p) { kernel(*static_cast<const P*>(p)); }}, shape, &params, sizeof(P));
}

// What a StreamHandle points to: takes launches (to run them, or to record them for a graph).
class Queue {
 public:
  virtual ~Queue() = default;
  virtual Status enqueue(const KernelEntry&, const LaunchShape&, const void* params, size_t bytes) = 0;
};

// Runs a launch at once; an error with the report's text when it has issues. What a Queue's enqueue ends in.
Status execute(const KernelEntry&, const LaunchShape&, const void* params, size_t bytes);

// Multiply-adds of the launch that had the most in this process.
uint64_t most_macs();

// Called after every launch, with its report. An empty function: none.
void set_observer(std::function<void(const Report&)>);

// Global memory that kernels may touch. While any is known, every access outside is kBounds; the pieces must not overlap.
void add_memory(const void* base, size_t bytes);
void remove_memory(const void* base);

// The emulator's encoding of a tensor map; kInvalidArgument for what the driver would refuse.
Status encode_tensor_map(const TensorMapDesc&, TensorMap* out);

}  // namespace ecad::cuda::emu
