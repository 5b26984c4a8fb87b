// The test's own operator new (allocations.cpp): counts what is alive, and fails on demand. It is the library's only allocator for what its
// size depends on input: device memory of the reference and the cpu backend included.
#pragma once
#include <cstddef>
#include <cstdint>

namespace allocations {

// Blocks alive now.
long live();
// Bytes alive now; the most that were since reset_peak.
int64_t bytes();
void reset_peak();
int64_t peak();

// The allocation after `skip` more fails, and with `all` every one after it, too. skip < 0: none fails.
void fail_after(long skip, bool all);
// Whether one was refused since fail_after.
bool refused();
// Asked before an allocation is refused: true lets it pass, and the next one is refused in its place.
void exempt(bool (*)());

}  // namespace allocations
