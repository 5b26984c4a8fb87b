// states.cpp - libecad from C++: handles that release themselves, two states on one program and one weights object, and a fork that leaves the
// schedule half-way and computes everything from there on.
//
//   c++ -std=c++17 -o states states.cpp $(pkg-config --cflags --libs ecad)      (or find_package(ecad): see CMakeLists.txt)
//   ./states DIR [latents.f32]      DIR: of ecadx compile --schedule REF --schedule none -p PROMPT --out DIR
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <ecad.h>

// ---- RAII in 40 lines -------------------------------------------------------------------------------------------------

namespace ecad {

struct Error : std::runtime_error {
  Error(ecad_status code, const ecad_error& e) : std::runtime_error(std::string(ecad_status_name(code)) + ": " + e.message), status(code), op(e.op) {}
  ecad_status status;
  int32_t op;
};

// call(err) is one call of the library.
template <class F>
void check(F&& call) {
  ecad_error e = ECAD_ERROR_INIT;
  if (const ecad_status s = call(&e)) throw Error(s, e);
}

struct Release {
  void operator()(ecad_device* p) const { ecad_device_release(p); }
  void operator()(ecad_weights* p) const { ecad_weights_release(p); }
  void operator()(ecad_program* p) const { ecad_program_release(p); }
  void operator()(ecad_state* p) const { ecad_state_release(p); }
};
template <class T>
using Handle = std::unique_ptr<T, Release>;

// call(out, err) is one that makes an object: auto device = make<ecad_device>([&](auto out, auto err) { return ecad_device_open(nullptr, out, err); });
template <class T, class F>
Handle<T> make(F&& call) {
  T* p = nullptr;
  check([&](ecad_error* e) { return call(&p, e); });
  return Handle<T>(p);
}

}  // namespace ecad

// ---- the example ------------------------------------------------------------------------------------------------------

namespace {

using Program = ecad::Handle<ecad_program>;
using State = ecad::Handle<ecad_state>;
using Items = std::vector<ecad_run_item>;

State new_state(const Program& program) {
  return ecad::make<ecad_state>([&](auto out, auto err) { return ecad_state_create(program.get(), out, err); });
}

// A state with the inputs of a file in it.
State prepared(const Program& program, const ecad_weights* inputs) {
  State state = new_state(program);
  ecad_program_info info = ECAD_PROGRAM_INFO_INIT;
  ecad::check([&](auto err) { return ecad_program_query(program.get(), &info, err); });
  for (uint32_t i = 0; i < info.num_ios; ++i) {
    ecad_io_info io = ECAD_IO_INFO_INIT;
    ecad_tensor_desc t;
    ecad::check([&](auto err) { return ecad_program_io(program.get(), i, &io, err); });
    if ((io.direction & 1) == 0) continue;
    ecad::check([&](auto err) { return ecad_weights_find(inputs, io.name, &t, err); });
    ecad::check([&](auto err) { return ecad_state_write(state.get(), io.name, t.data, t.nbytes, err); });
  }
  return state;
}

Items items_of(const Program& program, uint32_t schedule) {
  size_t count = 0;
  ecad::check([&](auto err) { return ecad_program_schedule(program.get(), schedule, nullptr, 0, &count, err); });
  Items items(count);
  ecad::check([&](auto err) { return ecad_program_schedule(program.get(), schedule, items.data(), items.size(), &count, err); });
  return items;
}

// Runs items from .. to - 1.
void run(const State& state, const Program& program, const Items& items, size_t from, size_t to) {
  ecad::check([&](auto err) { return ecad_run(state.get(), program.get(), items.data() + from, to - from, nullptr, err); });
}

std::vector<float> read(const State& state, const Program& program, const std::string& name) {
  ecad_io_info io = ECAD_IO_INFO_INIT;
  for (uint32_t i = 0; io.name != name; ++i) ecad::check([&](auto err) { return ecad_program_io(program.get(), i, &io, err); });
  std::vector<float> values(io.nbytes / sizeof(float));
  ecad::check([&](auto err) { return ecad_state_read(state.get(), io.name, values.data(), io.nbytes, err); });
  return values;
}

double rms_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
  return std::sqrt(sum / double(a.size()));
}

int example(const std::string& dir, const char* latents_file) {
  const auto device = ecad::make<ecad_device>([&](auto out, auto err) { return ecad_device_open(nullptr, out, err); });
  const auto open = [&](const char* name) { return ecad::make<ecad_weights>([&](auto out, auto err) { return ecad_weights_open(device.get(), (dir + name).c_str(), out, err); }); };
  const auto weights = open("/weights.safetensors"), inputs = open("/inputs.safetensors");
  const Program program = ecad::make<ecad_program>([&](auto out, auto err) { return ecad_program_open(device.get(), weights.get(), (dir + "/denoise.ecadprog").c_str(), out, err); });

  // Two states: nothing of one is seen by the other. Weights and program are there once.
  const State whole = prepared(program, inputs.get()), parts = prepared(program, inputs.get());
  const Items items = items_of(program, 0), other = items_of(program, 1);
  const size_t half = items.size() / 2;
  run(whole, program, items, 0, items.size());
  run(parts, program, items, 0, half);

  // The fork shares the other's buffers until one of them writes. It goes on under schedule 1, here: no reuse.
  const State fork = ecad::make<ecad_state>([&](auto out, auto err) { return ecad_state_fork(parts.get(), out, err); });
  run(fork, program, other, half, other.size());
  run(parts, program, items, half, items.size());

  const auto a = read(whole, program, "latents"), b = read(parts, program, "latents"), c = read(fork, program, "latents");
  std::printf("in one run and in two parts: %s\n", a == b ? "equal, bit for bit" : "different");
  std::printf("the fork, computing everything from item %zu on: %.4f away (RMS of the latents)\n", half, rms_distance(a, c));
  if (latents_file != nullptr && !std::ofstream(latents_file, std::ios::binary).write(reinterpret_cast<const char*>(a.data()), std::streamsize(a.size() * sizeof(float)))) {
    throw std::runtime_error(std::string(latents_file) + ": cannot be written");
  }
  return a == b ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) return std::fprintf(stderr, "usage: states DIR [latents.f32]\n"), 2;
  try {
    return example(argv[1], argc > 2 ? argv[2] : nullptr);
  } catch (const std::exception& e) {
    return std::fprintf(stderr, "states: %s\n", e.what()), 1;
  }
}
