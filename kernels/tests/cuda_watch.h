// What the emulator saw of the launches of a case: bank conflicts and bytes. Anything else that it finds is an error of the launch itself. On a
// device nothing is counted, and checks of counts pass.
#pragma once
#include <string>

#include "op_case.h"
#ifdef ECAD_EMULATE
#include "../cuda/emu/emulator.h"
#endif

namespace op_test {

class Watch {
 public:
#ifdef ECAD_EMULATE
  Watch() {
    cuda::emu::set_observer([this](const cuda::emu::Report& r) {
      conflicts += r.conflicts();
      for (const auto& site : r.sites)
        if (site.shared && site.ideal > 0) most_ways = std::max(most_ways, (site.transactions + site.ideal - 1) / site.ideal);
      asked += r.counters.read_bytes;
      written += r.counters.written_bytes;
      macs += r.counters.macs;
    });
  }
  ~Watch() { cuda::emu::set_observer({}); }
  static constexpr bool kCounts = true;
#else
  static constexpr bool kCounts = false;
#endif
  uint64_t conflicts = 0, asked = 0, written = 0, macs = 0;  // asked: bytes that loads ask for
  uint64_t most_ways = 1;                                    // wavefronts for each that would do, at the line where that is most
};

// check_case, and no bank conflict in any launch of it.
bool check_quiet(const Case& c, const std::vector<Backend*>& tested, Backend& reference);
// check_case, and bank conflicts of at most so many ways at any line: what the kernel's comment states.
bool check_ways(const Case& c, const std::vector<Backend*>& tested, Backend& reference, uint64_t most);
// `what` of one run of c is `want`.
bool check_count(const Case& c, Backend& tested, const char* what, uint64_t Watch::*count, uint64_t want);

// Runs body with the emulator's asynchronous copies landing early, late, and at random in two ways; on a device once.
template <class F>
void each_landing(F body) {
#ifdef ECAD_EMULATE
  const cuda::emu::Options usual = cuda::emu::options();
  for (const auto landing : {cuda::emu::Landing::kEarly, cuda::emu::Landing::kLate, cuda::emu::Landing::kRandom, cuda::emu::Landing::kRandom}) {
    cuda::emu::Options o = cuda::emu::options();
    o.landing = landing;
    ++o.seed;
    cuda::emu::set_options(o);
    body();
  }
  cuda::emu::set_options(usual);
#else
  body();
#endif
}

// Under AddressSanitizer the emulator is four times slower and CI's time is short: the tails and the smaller half of the cases run, with at most 200 million multiply-adds in
// one. The plain build runs everything.
#if defined(ECAD_EMULATE) && defined(__SANITIZE_ADDRESS__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif
// Says how much was checked; the process's exit code.
int finish();

// Kernels are chosen as for a device of so few multiprocessors, the emulator's number: then small shapes take the tiles that large ones do.
inline constexpr int32_t kMultiprocessors = 4;

// The body once for each isa, as in ecad_device_config (under AddressSanitizer for the first alone); the process's exit code.
int cuda_main(void (*body)(const std::vector<Backend*>& tested, Backend& reference), std::initializer_list<int32_t> isas = {ECAD_ISA_AUTO});

}  // namespace op_test
