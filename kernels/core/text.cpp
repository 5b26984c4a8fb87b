#include "text.h"

#include "dtype.h"

namespace ecad {

size_t dtype_size(DType t) {
  switch (t) {
    case DType::kF32: case DType::kI32: return 4;
    case DType::kBF16: case DType::kF16: return 2;
    case DType::kF64: return 8;
    case DType::kU8: return 1;
    case DType::kAny: break;
  }
  return 0;
}

const char* dtype_name(DType t) {
  static constexpr const char* kNames[] = {"any", "float32", "bfloat16", "float16", "float64", "int32", "uint8"};
  const auto i = static_cast<size_t>(t);
  return i < std::size(kNames) ? kNames[i] : "unknown";
}

const char* opcode_name(Opcode code) {
  static constexpr const char* kNames[] = {"none",   "copy",      "linear",         "gated_linear", "attention", "chain", "patch_embed", "unpatchify", "timestep_embed",
                                           "embedding", "lincomb", "add",            "unary",        "conv2d",    "group_norm", "upsample", "permute", "qk_norm_rope"};
  static_assert(std::size(kNames) == kLastOpcode + 1);
  const auto i = static_cast<size_t>(code);
  return i <= kLastOpcode ? kNames[i] : "unknown";
}

std::string dims_text(const Tensor& t) {
  std::string s = "[";
  for (uint32_t i = 0; i < t.rank; ++i) s += text(i ? "," : "", t.dims[i]);
  return s + "]";
}

std::string op_text(size_t index, const Op& op) {
  return text("op ", index, " \"", op.name, "\" (", opcode_name(op.code), ")");
}

std::string buffer_text(const Program& program, size_t buffer) {
  static constexpr const char* kKinds[] = {"arena", "persistent", "constant", "weight"};
  const Buffer& b = program.buffers[buffer];
  return text("buffer ", buffer, " \"", b.name(), "\" (", kKinds[static_cast<size_t>(b.kind)], ")");
}

// RFC 3629: no overlong forms, no surrogates, at most U+10FFFF.
bool is_utf8(std::string_view s) {
  for (size_t i = 0; i < s.size();) {
    const auto lead = static_cast<unsigned char>(s[i]);
    const size_t more = lead < 0x80 ? 0 : lead >= 0xC2 && lead <= 0xDF ? 1 : (lead & 0xF0) == 0xE0 ? 2 : lead >= 0xF0 && lead <= 0xF4 ? 3 : 4;
    if (more == 4 || i + more >= s.size()) return false;
    for (size_t k = 1; k <= more; ++k) {
      if ((static_cast<unsigned char>(s[i + k]) & 0xC0) != 0x80) return false;
    }
    if (more >= 2) {
      const auto second = static_cast<unsigned char>(s[i + 1]);
      if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) || (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) return false;
    }
    i += more + 1;
  }
  return true;
}

}  // namespace ecad
