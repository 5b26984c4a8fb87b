// RAII handles and a device per test program.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "../include/ecad.h"
#include "check.h"
#include "writer.h"

struct Release {
  void operator()(ecad_device* p) const { ecad_device_release(p); }
  void operator()(ecad_weights* p) const { ecad_weights_release(p); }
  void operator()(ecad_program* p) const { ecad_program_release(p); }
  void operator()(ecad_state* p) const { ecad_state_release(p); }
  void operator()(ecad_cancel* p) const { ecad_cancel_release(p); }
};
template <class T>
using Handle = std::unique_ptr<T, Release>;

// Prints the message of an unexpected failure.
inline bool succeeded(ecad_status status, const ecad_error& err, const char* file, int line) {
  return check::report(status == ECAD_OK, file, line, std::string(ecad_status_name(status)) + ": " + err.message);
}
#define CHECK_OK(call)                            \
  do {                                            \
    ecad_error err = ECAD_ERROR_INIT;             \
    if (!succeeded((call), err, __FILE__, __LINE__)) throw check::Abandon(); \
  } while (0)
// Expects a failure with this code and text in its message.
#define CHECK_FAILS(call, want_code, want_text)                                                                               \
  do {                                                                                                                        \
    ecad_error err = ECAD_ERROR_INIT;                                                                                         \
    const ecad_status got_ = (call);                                                                                          \
    check::report(got_ == (want_code) && err.code == got_ && std::strstr(err.message, (want_text)) != nullptr, __FILE__, __LINE__, \
                  std::string("got ") + ecad_status_name(got_) + ": " + err.message + "; want " + ecad_status_name(want_code) + ": " + (want_text)); \
  } while (0)

inline Handle<ecad_device> open_device(int32_t backend = ECAD_BACKEND_REFERENCE) {
  ecad_device_config config = ECAD_DEVICE_CONFIG_INIT;
  config.backend = backend;
  config.num_threads = 1;
  ecad_device* device = nullptr;
  CHECK_OK(ecad_device_open(&config, &device, &err));
  return Handle<ecad_device>(device);
}

inline Handle<ecad_program> load(ecad_device* device, ecad_weights* weights, const writer::Program& p) {
  const auto bytes = p.bytes();
  ecad_program* program = nullptr;
  CHECK_OK(ecad_program_load(device, weights, bytes.data(), bytes.size(), &program, &err));
  return Handle<ecad_program>(program);
}

inline Handle<ecad_state> new_state(ecad_program* program) {
  ecad_state* state = nullptr;
  CHECK_OK(ecad_state_create(program, &state, &err));
  return Handle<ecad_state>(state);
}

inline Handle<ecad_state> fork(ecad_state* state) {
  ecad_state* out = nullptr;
  CHECK_OK(ecad_state_fork(state, &out, &err));
  return Handle<ecad_state>(out);
}

inline void write(ecad_state* state, const char* io, const std::vector<float>& v) { CHECK_OK(ecad_state_write(state, io, v.data(), v.size() * 4, &err)); }
inline std::vector<float> read(ecad_state* state, const char* io, size_t n) {
  std::vector<float> v(n, NAN);
  CHECK_OK(ecad_state_read(state, io, v.data(), n * 4, &err));
  return v;
}
