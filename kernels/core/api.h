// What the C functions share: handles, struct sizes, and the wall that no exception passes.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>

#include "loaded.h"
#include "text.h"

struct ecad_device { std::shared_ptr<ecad::Device> impl; };
struct ecad_weights { std::shared_ptr<ecad::Weights> impl; };
struct ecad_program { std::shared_ptr<ecad::LoadedProgram> impl; };
struct ecad_state { std::unique_ptr<ecad::State> impl; };
struct ecad_cancel {
  std::atomic<int> flag{0};
  std::atomic<uint32_t> refs{1};
};

namespace ecad::api {

constexpr uint32_t kMostStructBytes = 4096;  // a struct_size above is not one

inline Status invalid(std::string message) { return Status(ECAD_INVALID_ARGUMENT, std::move(message)); }

// Copies one line into a caller's array: control characters become '?', a cut never splits a UTF-8 character.
inline void put_line(const char* from, size_t length, char* to, size_t size) {
  if (size == 0) return;
  size_t n = std::min(length, size - 1);
  while (n < length && n > 0 && (static_cast<unsigned char>(from[n]) & 0xC0) == 0x80) --n;
  for (size_t i = 0; i < n; ++i) to[i] = static_cast<unsigned char>(from[i]) < 0x20 || from[i] == 0x7f ? '?' : from[i];
  to[n] = 0;
}

inline void put_line(std::string_view from, char* to, size_t size) { put_line(from.data(), from.size(), to, size); }

// Writes what the caller's ecad_error has room for.
inline ecad_status fill(ecad_error* err, ecad_status code, int32_t op, int32_t device_code, const char* message, size_t length) {
  if (err == nullptr || err->struct_size < offsetof(ecad_error, device_code) || err->struct_size > kMostStructBytes) return code;
  const size_t size = std::min<size_t>(err->struct_size, sizeof(ecad_error));
  err->code = code;
  if (size >= offsetof(ecad_error, op)) err->device_code = device_code;
  if (size >= offsetof(ecad_error, message)) err->op = op;
  if (size > offsetof(ecad_error, message)) put_line(message, length, err->message, std::min(size - offsetof(ecad_error, message), sizeof err->message));
  return code;
}

inline ecad_status fill(ecad_error* err, ecad_status code, const char* message) { return fill(err, code, -1, 0, message, std::strlen(message)); }

// Runs the body of a C function. Nothing gets out but a status.
template <class F>
ecad_status guarded(ecad_error* err, F&& body) noexcept {
  try {
    const Status s = body();
    return fill(err, s.code(), s.op(), s.device_code(), s.message().data(), s.message().size());
  } catch (const std::bad_alloc&) {
    return fill(err, ECAD_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& e) {
    return fill(err, ECAD_INTERNAL, e.what());
  } catch (...) {
    return fill(err, ECAD_INTERNAL, "unknown exception");
  }
}

// A struct that the caller passes in: what it knows of ours, over our defaults. Anything it knows that we do not must be 0. unit: the struct's
// alignment in its first version. No header had one that ends inside a field: such a size would leave us half a pointer.
template <class T>
Status read_struct(const T* from, const char* what, size_t unit, T* out) {
  const uint32_t size = from->struct_size;
  if (size < 8 || size > kMostStructBytes || size % unit != 0) return invalid(text(what, ": struct_size ", size, " is not set: use the _INIT macro"));
  const auto* bytes = reinterpret_cast<const unsigned char*>(from);
  for (size_t i = sizeof(T); i < size; ++i) {
    if (bytes[i] != 0) return Status(ECAD_UNSUPPORTED, text(what, ": has a field set that this library does not know"));
  }
  std::memcpy(out, from, std::min<size_t>(size, sizeof(T)));
  return Status::ok();
}

// A struct that the caller wants filled: what it has room for; its struct_size stays.
template <class T>
Status write_struct(const T& from, const char* what, T* to) {
  const uint32_t size = to->struct_size;
  if (size < 8 || size > kMostStructBytes) return invalid(text(what, ": struct_size ", size, " is not set"));
  constexpr size_t kHead = sizeof(to->struct_size);
  std::memcpy(reinterpret_cast<unsigned char*>(to) + kHead, reinterpret_cast<const unsigned char*>(&from) + kHead, std::min<size_t>(size, sizeof(T)) - kHead);
  return Status::ok();
}

}  // namespace ecad::api
