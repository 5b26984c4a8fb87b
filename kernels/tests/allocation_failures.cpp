// Memory that runs out at every allocation in turn, once and for good, on every backend that is built: a clean error, nothing leaked, and
// objects that are as good as before. What oneDNN and the OpenMP runtime allocate for themselves is left alone.
#include <dlfcn.h>
#include <execinfo.h>
#include <unistd.h>

#include <cstdio>

#include "allocations.h"
#include "corpus.h"

namespace {

// Whether the allocation comes from inside a library that is not ours.
bool foreign() {
  void* frames[48];
  const int n = backtrace(frames, 48);
  for (int i = 0; i < n; ++i) {
    Dl_info info;
    if (dladdr(frames[i], &info) == 0 || info.dli_fname == nullptr) continue;
    if (std::strstr(info.dli_fname, "libdnnl") != nullptr || std::strstr(info.dli_fname, "libgomp") != nullptr) return true;
  }
  return false;
}

const std::vector<uint8_t>& program_bytes() {
  static const std::vector<uint8_t> bytes = corpus::every_op().bytes();
  return bytes;
}

// The corpus's weights as a file.
class WeightsFile {
 public:
  WeightsFile() {
    std::string header = "{", data;
    for (const ecad_tensor_desc& d : corpus::tensors()) {
      header += (header.size() > 1 ? ",\"" : "\"") + std::string(d.name) + R"(":{"dtype":"F32","shape":[)";
      for (int32_t i = 0; i < d.rank; ++i) header += (i ? "," : "") + std::to_string(d.dims[i]);
      header += R"(],"data_offsets":[)" + std::to_string(data.size()) + "," + std::to_string(data.size() + d.nbytes) + "]}";
      data.append(static_cast<const char*>(d.data), d.nbytes);
    }
    header += "}";
    std::string all;
    for (int i = 0; i < 8; ++i) all.push_back(static_cast<char>(header.size() >> (8 * i)));
    all += header + data;
    std::FILE* f = fdopen(mkstemp(path), "wb");
    std::fwrite(all.data(), 1, all.size(), f);
    std::fclose(f);
  }
  ~WeightsFile() { unlink(path); }
  char path[40] = "/tmp/ecad_allocations_XXXXXX";
};

const char* weights_path() {
  static const WeightsFile file;
  return file.path;
}

struct Objects {
  ecad_device* device = nullptr;
  ecad_weights *weights = nullptr, *from_file = nullptr;
  ecad_program *program = nullptr, *second = nullptr;
  ecad_state *state = nullptr, *fork = nullptr;
  float latents[96] = {};
  ~Objects() {  // the device first: what still depends on it keeps it
    ecad_device_release(device);
    ecad_state_release(state);
    ecad_program_release(program);
    ecad_program_release(second);
    ecad_weights_release(weights);
    ecad_weights_release(from_file);
    ecad_state_release(fork);
  }
};

// The calls of a whole life, in order. Each may be made again after it failed.
constexpr int kCalls = 11;
ecad_status call(Objects* o, int index, int32_t backend, int32_t threads, const std::vector<ecad_tensor_desc>& tensors, ecad_error* err) {
  static const float start[96] = {0.5f, -0.25f};
  static const int32_t counts[2] = {4, 1};
  ecad_device_config config = ECAD_DEVICE_CONFIG_INIT;
  config.backend = backend;
  config.num_threads = threads;
  switch (index) {
    case 0: return ecad_device_open(&config, &o->device, err);
    case 1: return ecad_weights_create(o->device, tensors.data(), tensors.size(), &o->weights, err);
    case 2: return ecad_weights_open(o->device, weights_path(), &o->from_file, err);
    case 3: return ecad_program_load(o->device, o->weights, program_bytes().data(), program_bytes().size(), &o->program, err);
    case 4: return ecad_program_load(o->device, o->from_file, program_bytes().data(), program_bytes().size(), &o->second, err);
    case 5: return ecad_state_create(o->program, &o->state, err);
    case 6: return ecad_state_write(o->state, "latents", start, sizeof start, err);
    case 7: return ecad_state_write(o->state, "counts", counts, sizeof counts, err);
    case 8: return ecad_run_schedule(o->state, o->program, 0, nullptr, err);
    case 9: return ecad_state_fork(o->state, &o->fork, err);
    default: {
      ecad_status s = ecad_run_schedule(o->fork, o->second, 0, nullptr, err);
      return s != ECAD_OK ? s : ecad_state_read(o->fork, "latents", o->latents, sizeof o->latents, err);
    }
  }
}

struct Backend {
  const char* name;
  int32_t kind, threads;
};
constexpr Backend kBackends[] = {{"reference", ECAD_BACKEND_REFERENCE, 1}, {"cpu", ECAD_BACKEND_CPU, 1}, {"cpu, two threads", ECAD_BACKEND_CPU, 2}};

bool built(const Backend& b) {
  if (ecad_device_count(b.kind, nullptr, 0) > 0) return true;
  std::printf("SKIP %s: not built in\n", b.name);
  return false;
}

// A life without trouble; what it computes.
std::vector<float> good_life(const Backend& b, const std::vector<ecad_tensor_desc>& tensors) {
  Objects o;
  for (int i = 0; i < kCalls; ++i) CHECK_OK(call(&o, i, b.kind, b.threads, tensors, &err));
  return {o.latents, o.latents + 96};
}

// One life in which allocation `skip` fails. Whether one did comes back.
bool life(const Backend& b, const std::vector<ecad_tensor_desc>& tensors, long skip, bool all, const std::vector<float>& truth) {
  const long before = allocations::live();
  ecad_status s = ECAD_OK;
  ecad_error err = ECAD_ERROR_INIT;
  bool refused, right;
  {
    Objects o;
    allocations::fail_after(skip, all);
    for (int i = 0; i < kCalls && s == ECAD_OK; ++i) s = call(&o, i, b.kind, b.threads, tensors, &err);
    refused = allocations::refused();
    allocations::fail_after(-1, false);
    // A failure once may be survived: the device gives its pool back and asks again.
    right = s == ECAD_OK ? (!refused || !all) && std::memcmp(o.latents, truth.data(), sizeof o.latents) == 0 : s == ECAD_OUT_OF_MEMORY && refused && err.code == s && err.message[0] != 0;
  }
  const long leaked = allocations::live() - before;
  check::report(right, __FILE__, __LINE__, std::string(b.name) + ": allocation " + std::to_string(skip) + (all ? " and all after it" : "") + " fails: " + ecad_status_name(s) + ": " + err.message);
  check::report(leaked == 0, __FILE__, __LINE__, std::string(b.name) + ": allocation " + std::to_string(skip) + ": " + std::to_string(leaked) + " blocks leaked");
  return refused;
}

}  // namespace

TEST(every_allocation_fails) {
  allocations::exempt(foreign);
  const auto tensors = corpus::tensors();
  (void)foreign();  // the first backtrace loads a library
  for (const Backend& b : kBackends) {
    if (!built(b)) continue;
    const auto truth = good_life(b, tensors);
    (void)good_life(b, tensors);  // what oneDNN keeps for good, it keeps now
    for (const bool all : {false, true}) {
      long skip = 0, quiet = 0;
      // Allocations of other libraries are passed over, so the end is a stretch in which none was refused.
      for (; skip < 100000 && quiet < 400 && check::failures() < 20; ++skip) quiet = life(b, tensors, skip, all, truth) ? 0 : quiet + 1;
      std::printf("%s: %ld allocations fail%s\n", b.name, skip - quiet, all ? " and all after them" : "");
      CHECK(skip - quiet > 200);
    }
  }
}

// Every call fails at each of its allocations, is made again, and the life goes on to the right result.
TEST(objects_survive) {
  allocations::exempt(foreign);
  const auto tensors = corpus::tensors();
  for (const Backend& b : kBackends) {
    if (!built(b)) continue;
    const auto truth = good_life(b, tensors);
    for (int round = 0; round < 3; ++round) {
      Objects o;
      for (int i = 0; i < kCalls; ++i) {
        ecad_status s = ECAD_OUT_OF_MEMORY;
        for (long skip = round; s != ECAD_OK && skip < 5000; ++skip) {
          ecad_error err = ECAD_ERROR_INIT;
          // A run that failed leaves its state good for writing: the calls before it are made again.
          if (i == 10) {
            ecad_state_release(o.fork);
            o.fork = nullptr;
          }
          for (int again = 6; (i == 8 || i == 10) && again < i; ++again) CHECK_OK(call(&o, again, b.kind, b.threads, tensors, &err));
          allocations::fail_after(skip, round == 1);
          s = call(&o, i, b.kind, b.threads, tensors, &err);
          allocations::fail_after(-1, false);
          check::report(s == ECAD_OK || s == ECAD_OUT_OF_MEMORY, __FILE__, __LINE__, std::string(b.name) + ": call " + std::to_string(i) + ": " + ecad_status_name(s) + ": " + err.message);
        }
        REQUIRE(s == ECAD_OK);
      }
      check::report(std::memcmp(o.latents, truth.data(), sizeof o.latents) == 0, __FILE__, __LINE__, std::string(b.name) + ": the result differs after failures");
    }
  }
}

CHECK_MAIN()
