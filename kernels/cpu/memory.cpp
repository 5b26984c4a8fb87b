#include "memory.h"

#include <cstdint>
#include <cstdlib>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace ecad {
namespace {
constexpr size_t kLine = 64, kHugePage = size_t{2} << 20;
}

void* aligned_allocate(size_t bytes) {
  if (bytes > SIZE_MAX / 2) return nullptr;
  const size_t align = bytes >= kHugePage ? kHugePage : kLine;
  void* p = nullptr;
  if (posix_memalign(&p, align, round_up(bytes ? bytes : 1, kLine)) != 0) return nullptr;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  // A hint: whole pages inside the block only, so that the rest of the heap keeps its page size.
  if (align == kHugePage && bytes / kHugePage > 0) (void)madvise(p, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  return p;
}

void aligned_release(void* p) { std::free(p); }

}  // namespace ecad
