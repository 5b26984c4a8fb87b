// Runs one schedule of a compiled program again and again from the same inputs: every run must give the same bytes.
//   cuda_race PROGRAM WEIGHTS RUNS
// Inputs are made up: integers 1 (key counts), floats from a generator. Without a CUDA device it prints SKIP and ends with 77.
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "fixture.h"

namespace {

std::vector<char> read_file(const char* path) {
  std::ifstream in(path, std::ios::binary);
  return std::vector<char>(std::istreambuf_iterator<char>(in), {});
}

std::vector<ecad_io_info> ios_of(ecad_program* program) {
  ecad_program_info info{};
  info.struct_size = sizeof info;
  CHECK_OK(ecad_program_query(program, &info, &err));
  std::vector<ecad_io_info> ios(info.num_ios);
  for (uint32_t i = 0; i < info.num_ios; ++i) {
    ios[i].struct_size = sizeof ios[i];
    CHECK_OK(ecad_program_io(program, i, &ios[i], &err));
  }
  return ios;
}

std::vector<char> input(const ecad_io_info& io) {
  std::vector<char> bytes(io.nbytes);
  uint32_t s = 12345;
  const auto next = [&s] {
    s = s * 1664525u + 1013904223u;
    return static_cast<float>(s >> 8) * 0x1p-23f - 1.0f;
  };
  if (io.dtype == ECAD_FLOAT32) {
    for (size_t i = 0; i + 4 <= bytes.size(); i += 4) {
      const float v = next();
      std::memcpy(bytes.data() + i, &v, 4);
    }
  } else if (io.dtype == ECAD_BFLOAT16) {
    for (size_t i = 0; i + 2 <= bytes.size(); i += 2) {
      const float v = next();
      std::memcpy(bytes.data() + i, reinterpret_cast<const char*>(&v) + 2, 2);
    }
  } else if (io.dtype == ECAD_INT32) {
    const int32_t one = 1;
    for (size_t i = 0; i + 4 <= bytes.size(); i += 4) std::memcpy(bytes.data() + i, &one, 4);
  }
  return bytes;
}

int race(const char* program_path, const char* weights_path, int runs) {
  auto device = open_device(ECAD_BACKEND_CUDA);
  ecad_weights* weights = nullptr;
  CHECK_OK(ecad_weights_open(device.get(), weights_path, &weights, &err));
  const Handle<ecad_weights> held(weights);
  const std::vector<char> bytes = read_file(program_path);
  ecad_program* program = nullptr;
  CHECK_OK(ecad_program_load(device.get(), weights, bytes.data(), bytes.size(), &program, &err));
  const Handle<ecad_program> loaded(program);
  const std::vector<ecad_io_info> ios = ios_of(program);
  auto state = new_state(program);
  std::vector<std::vector<char>> first(ios.size());
  int differing = 0;
  for (int run = 0; run < runs; ++run) {
    for (const ecad_io_info& io : ios) {
      if ((io.direction & 1) == 0) continue;
      const std::vector<char> data = input(io);
      CHECK_OK(ecad_state_write(state.get(), io.name, data.data(), data.size(), &err));
    }
    CHECK_OK(ecad_run_schedule(state.get(), program, 0, nullptr, &err));
    bool same = true;
    for (size_t i = 0; i < ios.size(); ++i) {
      if ((ios[i].direction & 2) == 0) continue;
      std::vector<char> out(ios[i].nbytes);
      CHECK_OK(ecad_state_read(state.get(), ios[i].name, out.data(), out.size(), &err));
      if (run == 0) first[i] = std::move(out);
      else same = same && out == first[i];
    }
    differing += same ? 0 : 1;
  }
  std::printf("%d runs, %d differ from the first\n", runs, differing);
  return differing == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: cuda_race PROGRAM WEIGHTS RUNS\n");
    return 2;
  }
  char why[200];
  if (ecad_device_count(ECAD_BACKEND_CUDA, why, sizeof why) == 0) {
    std::printf("SKIP: %s\n", why);
    return 77;
  }
  try {
    return race(argv[1], argv[2], std::atoi(argv[3]));
  } catch (const std::exception& e) {
    std::printf("FAIL: %s\n", e.what());
    return 1;
  }
}
