// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78; RFC 3720 appendix B.4).
#pragma once
#include <cstddef>
#include <cstdint>

namespace ecad {
uint32_t crc32c(const void* data, size_t bytes);
}  // namespace ecad
