#include "tensor_map.h"

#include <cstring>

#include "emulator.h"

namespace ecad::cuda::emu {

Status encode_tensor_map(const TensorMapDesc& d, TensorMap* out) {
  const auto bad = [](const std::string& what) { return Status(ECAD_INVALID_ARGUMENT, "tensor map: " + what); };
  const uint32_t element = d.type == MapType::kBF16 ? 2 : 4;
  if (d.rank < 1 || d.rank > 5) return bad("rank " + std::to_string(d.rank));
  if (!d.base || reinterpret_cast<uintptr_t>(d.base) % 16) return bad("the base address must be a multiple of 16");
  EncodedMap m = {};
  m.magic = kMapMagic;
  m.rank = static_cast<uint8_t>(d.rank);
  m.element_bytes = static_cast<uint8_t>(element);
  m.swizzle = static_cast<uint16_t>(d.swizzle);
  m.base = reinterpret_cast<uintptr_t>(d.base);
  uint32_t box[5] = {1, 1, 1, 1, 1};
  for (uint32_t i = 0; i < 5; ++i) m.dims[i] = 1;
  for (uint32_t i = 0; i < d.rank; ++i) {
    if (d.dims[i] < 1 || d.dims[i] > 0xffffffffu) return bad("extent " + std::to_string(d.dims[i]) + " of dimension " + std::to_string(i));
    if (d.box[i] < 1 || d.box[i] > 256) return bad("box extent " + std::to_string(d.box[i]) + " of dimension " + std::to_string(i) + ": 1 to 256");
    m.dims[i] = static_cast<uint32_t>(d.dims[i]);
    box[i] = d.box[i];
    if (i + 1 < d.rank) {
      if (d.strides[i] % 16 || d.strides[i] >= uint64_t{1} << 40) return bad("stride of " + std::to_string(d.strides[i]) + " bytes: must be a multiple of 16 below 2^40");
      m.strides[i] = d.strides[i];
    }
  }
  const uint32_t inner = box[0] * element, span = swizzle_span(d.swizzle);
  if (inner % 16) return bad("a box row of " + std::to_string(inner) + " bytes: must be a multiple of 16");
  if (span && inner > span) return bad("a box row of " + std::to_string(inner) + " bytes with a swizzle span of " + std::to_string(span));
  if (span && inner < span) return Status(ECAD_UNSUPPORTED, "tensor map: a box row of " + std::to_string(inner) + " bytes with a swizzle span of " + std::to_string(span) + ": the emulator knows only whole spans");
  m.box_0 = box[0], m.box_1 = box[1], m.box_2 = box[2], m.box_3 = box[3], m.box_4 = box[4];
  *out = {};
  std::memcpy(out, &m, sizeof m);
  return Status::ok();
}

}  // namespace ecad::cuda::emu
