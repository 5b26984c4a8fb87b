// What the fuzz targets share. A target is a libFuzzer program: LLVMFuzzerTestOneInput gets bytes, and anything but an orderly answer ends
// the process: a sanitizer's report, a broken promise (promise below), memory beyond the bound.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "../tests/allocations.h"
#include "../tests/corpus.h"

namespace fuzz {

// The library promises that this holds whatever the input.
inline void promise(bool holds, const char* what, const char* detail = "") {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s %s\n", what, detail);
  std::abort();
}

// The bytes on the heap with nothing behind them, so that AddressSanitizer sees the first byte read too many.
inline std::unique_ptr<uint8_t[]> exact(const uint8_t* data, size_t size) {
  std::unique_ptr<uint8_t[]> copy(new uint8_t[size]);
  if (size > 0) std::memcpy(copy.get(), data, size);
  return copy;
}

// Bounds what is allocated between making and check() by the input's size plus 1 MiB.
class Bound {
 public:
  explicit Bound(size_t size) : most_(static_cast<int64_t>(size) + (1 << 20)), before_(allocations::bytes()) { allocations::reset_peak(); }
  void check() const {
    char detail[80];
    std::snprintf(detail, sizeof detail, "%lld bytes, allowed are %lld", static_cast<long long>(allocations::peak() - before_), static_cast<long long>(most_));
    promise(allocations::peak() - before_ <= most_, "memory for bad input is bounded:", detail);
  }

 private:
  int64_t most_, before_;
};

// The size and work of a program that a fuzz target is willing to run: the input decides neither memory nor time.
bool small(ecad_program*);

}  // namespace fuzz
