#include "allocations.h"

#include <malloc.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>

namespace {

std::atomic<long> blocks{0}, left{-1};
std::atomic<int64_t> held{0}, most{0};
std::atomic<bool> keep_failing{false}, any_refused{false};

std::atomic<bool (*)()> exempted{nullptr};

bool refuse() {
  long n = left.load();
  while (n > 0 && !left.compare_exchange_weak(n, n - 1)) {
  }
  if (n != 0) return false;
  const auto pass = exempted.load();
  if (pass != nullptr && pass()) return false;
  if (!keep_failing.load()) left = -1;
  any_refused = true;
  return true;
}

void* allocate(std::size_t n, std::size_t align) {
  if (refuse()) return nullptr;
  if (n > SIZE_MAX / 2) return nullptr;
  void* p = align <= alignof(std::max_align_t) ? std::malloc(n ? n : 1) : std::aligned_alloc(align, (n + align - 1) / align * align);
  if (p == nullptr) return nullptr;
  ++blocks;
  const int64_t now = held += static_cast<int64_t>(malloc_usable_size(p));
  int64_t before = most.load();
  while (now > before && !most.compare_exchange_weak(before, now)) {
  }
  return p;
}

void* allocate_or_throw(std::size_t n, std::size_t align) {
  if (void* p = allocate(n, align)) return p;
  throw std::bad_alloc();
}

void deallocate(void* p) {
  if (p == nullptr) return;
  --blocks;
  held -= static_cast<int64_t>(malloc_usable_size(p));
  std::free(p);
}

}  // namespace

namespace allocations {

long live() { return blocks.load(); }
int64_t bytes() { return held.load(); }
void reset_peak() { most = held.load(); }
int64_t peak() { return most.load(); }
void fail_after(long skip, bool all) {
  keep_failing = all;
  any_refused = false;
  left = skip;
}
bool refused() { return any_refused.load(); }
void exempt(bool (*pass)()) { exempted = pass; }

}  // namespace allocations

// The cpu backend's own memory. What it frees goes to free, so these blocks are not counted; the sanitizer finds those that leak.
extern "C" int posix_memalign(void** out, std::size_t align, std::size_t n) {
  if (refuse()) return ENOMEM;
  void* p = n > SIZE_MAX / 2 ? nullptr : std::aligned_alloc(align, (n + align - 1) / align * align);
  if (p == nullptr) return ENOMEM;
  *out = p;
  return 0;
}

void* operator new(std::size_t n) { return allocate_or_throw(n, 1); }
void* operator new(std::size_t n, std::align_val_t a) { return allocate_or_throw(n, static_cast<std::size_t>(a)); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, 1); }
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept { return allocate(n, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t n) { return allocate_or_throw(n, 1); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, 1); }
void operator delete(void* p) noexcept { deallocate(p); }
void operator delete(void* p, std::size_t) noexcept { deallocate(p); }
void operator delete(void* p, std::align_val_t) noexcept { deallocate(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { deallocate(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { deallocate(p); }
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { deallocate(p); }
void operator delete[](void* p) noexcept { deallocate(p); }
void operator delete[](void* p, std::size_t) noexcept { deallocate(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { deallocate(p); }
