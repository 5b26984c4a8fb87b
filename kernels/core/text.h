// Text for error messages.
#pragma once
#include <cstdio>
#include <string>
#include <string_view>
#include <type_traits>

#include "program.h"
#include "status.h"

namespace ecad {

inline void append_text(std::string* s, std::string_view v) { s->append(v); }
inline void append_text(std::string* s, double v) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", v);
  s->append(text);
}
template <class T, std::enable_if_t<std::is_integral_v<T>, int> = 0>
void append_text(std::string* s, T v) { s->append(std::to_string(v)); }

// The arguments one after another: strings as they are, numbers in decimal.
template <class... Args>
std::string text(const Args&... args) {
  std::string s;
  (append_text(&s, args), ...);
  return s;
}

const char* opcode_name(Opcode);
std::string dims_text(const Tensor&);                    // "[2,256,1152]"
std::string op_text(size_t index, const Op&);            // op 12 "blocks.0.attn1.qkv" (linear)
inline std::string op_text(const Program& program, size_t op) { return op_text(op, program.ops[op]); }
std::string buffer_text(const Program&, size_t buffer);  // buffer 3 "latents" (persistent)

template <class... Args>
Status bad_program(const Args&... args) { return Status(ECAD_BAD_PROGRAM, text("program: ", args...)); }

template <class... Args>
Status bad_op(size_t index, const Op& op, const Args&... args) {
  return Status(ECAD_BAD_PROGRAM, text("program: ", op_text(index, op), ": ", args...)).at_op(static_cast<int32_t>(index));
}

bool is_utf8(std::string_view);

}  // namespace ecad
