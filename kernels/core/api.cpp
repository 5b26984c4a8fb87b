// The C functions about devices, weights, states and runs. Those about programs: api_program.cpp.
#include "api.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "program and weight files are read as they lie in memory: little-endian machines only");
static_assert(std::atomic<int>::is_always_lock_free, "ecad_cancel_trigger is called from signal handlers");

namespace {

using ecad::Status;
using ecad::text;
using namespace ecad::api;

// How many devices a backend has; none: why.
int32_t count_devices(int32_t backend, std::string* why) {
  switch (backend) {
    case ECAD_BACKEND_REFERENCE: return 1;
    case ECAD_BACKEND_CPU:
#ifdef ECAD_HAVE_CPU
      return 1;
#else
      *why = "libecad was built without the cpu backend";
      return 0;
#endif
    case ECAD_BACKEND_CUDA:
#ifdef ECAD_HAVE_CUDA
      return ecad::cuda_device_count(why);
#else
      *why = "libecad was built without CUDA";
      return 0;
#endif
    default: *why = "no such backend"; return 0;
  }
}

Status open_device(const ecad_device_config* config, ecad_device** out) {
  if (out == nullptr) return invalid("device: out is NULL");
  *out = nullptr;
  ecad_device_config c = ECAD_DEVICE_CONFIG_INIT;
  if (config != nullptr) ECAD_TRY(read_struct(config, "device config", alignof(uint32_t), &c));
  if (c.backend < ECAD_BACKEND_REFERENCE || c.backend > ECAD_BACKEND_CUDA) return invalid(text("device: backend ", c.backend, " is not known"));
  if ((c.flags & ~uint32_t{ECAD_DEVICE_NO_GRAPHS}) != 0) return invalid(text("device: flags ", c.flags, " are not known"));
  if (c.gemm < ECAD_GEMM_AUTO || c.gemm > ECAD_GEMM_CUBLASLT) return invalid(text("device: gemm ", c.gemm, " is not known"));
  if (c.backend != ECAD_BACKEND_CUDA && (c.gemm != ECAD_GEMM_AUTO || c.flags != 0)) return invalid("device: gemm and flags are for the CUDA backend: leave them 0");
  if (c.num_threads < 0 || c.num_threads > 4096) return invalid(text("device: ", c.num_threads, " threads are outside 0 (all cores) to 4096"));
  if (c.isa < ECAD_ISA_AUTO || c.isa > ECAD_ISA_AMX) return invalid(text("device: isa ", c.isa, " is not known"));
  std::string why;
  const int32_t devices = count_devices(c.backend, &why);
  if (devices == 0) return Status(ECAD_NO_DEVICE, text("device: ", why));
  if (c.ordinal < 0 || c.ordinal >= devices) return Status(ECAD_NO_DEVICE, text("device: this backend has ", devices, devices == 1 ? " device, ordinal 0" : " devices, ordinals from 0", ", not ", c.ordinal));
  auto handle = std::make_unique<ecad_device>();
  ECAD_TRY(ecad::Device::open(c.backend, {c.ordinal, c.num_threads, c.isa, c.gemm, (c.flags & ECAD_DEVICE_NO_GRAPHS) == 0}, &handle->impl));
  *out = handle.release();
  return Status::ok();
}

// Whoever fails before the weights own the source releases it.
Status create_on_demand(ecad_device* device, const ecad_tensor_desc* descs, size_t count, const ecad_weights_source* from, ecad_weights** out) {
  if (out != nullptr) *out = nullptr;
  if (from == nullptr) return invalid("weights: an argument is NULL");
  ecad_weights_source source = ECAD_WEIGHTS_SOURCE_INIT;
  ECAD_TRY(read_struct(from, "weights source", alignof(void*), &source));
  struct Owner {
    const ecad_weights_source& source;
    bool passed_on = false;
    ~Owner() { if (!passed_on && source.release != nullptr) source.release(source.user); }
  } owner{source};
  if (source.flags != 0) return invalid(text("weights: flags ", source.flags, " are not known"));
  if (out == nullptr || device == nullptr || (descs == nullptr && count > 0)) return invalid("weights: an argument is NULL");
  auto handle = std::make_unique<ecad_weights>();
  ECAD_TRY(ecad::Weights::create(device->impl, descs, count, &source, &handle->impl));
  owner.passed_on = true;
  *out = handle.release();
  return Status::ok();
}

// Keeps a cancel object for as long as a run looks at it.
class CancelHold {
 public:
  explicit CancelHold(ecad_cancel* c) : cancel_(c) {
    if (c != nullptr) c->refs.fetch_add(1);
  }
  ~CancelHold() { ecad_cancel_release(cancel_); }
  const std::atomic<int>* flag() const { return cancel_ != nullptr ? &cancel_->flag : nullptr; }

 private:
  ecad_cancel* cancel_;
};

Status run(ecad_state* state, ecad_program* program, const ecad_run_item* items, size_t count, ecad_run_args* args) {
  ecad_run_args a = ECAD_RUN_ARGS_INIT;
  if (args != nullptr) ECAD_TRY(read_struct(args, "run args", alignof(void*), &a));
  if ((a.flags & ~static_cast<uint32_t>(ECAD_RUN_CHECK_FINITE)) != 0) return invalid(text("run: flags ", a.flags, " are not known"));
  const CancelHold cancel(a.cancel);
  const auto loaded = program->impl;  // stays alive if a callback releases the handle
  ecad::RunOptions options;
  options.check_finite = (a.flags & ECAD_RUN_CHECK_FINITE) != 0;
  options.cancel = cancel.flag();
  options.on_item = a.on_item;
  options.user = a.user;
  options.times = a.times;
  options.times_cap = a.times_cap;
  uint64_t times_len = 0;
  Status status = ecad::run_items(*state->impl, *loaded, items, count, options, &times_len);
  if (args != nullptr && args->struct_size >= offsetof(ecad_run_args, times_len) + sizeof args->times_len) args->times_len = times_len;
  return status;
}

}  // namespace

extern "C" {

uint32_t ecad_abi_version(void) { return ECAD_ABI_MAJOR << 16 | ECAD_ABI_MINOR; }
const char* ecad_version_string(void) { return ECAD_VERSION; }

const char* ecad_status_name(ecad_status status) {
  switch (status) {
    case ECAD_OK: return "ok";
    case ECAD_CANCELLED: return "cancelled";
    case ECAD_INVALID_ARGUMENT: return "invalid argument";
    case ECAD_OUT_OF_MEMORY: return "out of memory";
    case ECAD_UNSUPPORTED: return "unsupported";
    case ECAD_BAD_PROGRAM: return "bad program";
    case ECAD_BAD_WEIGHTS: return "bad weights";
    case ECAD_SHAPE_MISMATCH: return "shape mismatch";
    case ECAD_DEVICE_ERROR: return "device error";
    case ECAD_NO_DEVICE: return "no device";
    case ECAD_IO_ERROR: return "input/output error";
    case ECAD_NOT_READY: return "not ready";
    case ECAD_INTERNAL: return "internal error";
    default: return "unknown";
  }
}

int32_t ecad_device_count(int32_t backend, char* why, size_t why_size) {
  int32_t count = 0;
  std::string none;
  (void)guarded(nullptr, [&] {
    count = count_devices(backend, &none);
    return Status::ok();
  });
  if (why != nullptr) put_line(count > 0 ? std::string() : none, why, why_size);
  return count;
}

ecad_status ecad_device_open(const ecad_device_config* config, ecad_device** out, ecad_error* err) {
  return guarded(err, [&] { return open_device(config, out); });
}

ecad_status ecad_device_query(ecad_device* device, ecad_device_info* inout, ecad_error* err) {
  return guarded(err, [&] {
    if (device == nullptr || inout == nullptr) return invalid("device query: an argument is NULL");
    const ecad::Device& d = *device->impl;
    ecad_device_info info{};
    info.backend = d.backend_kind();
    info.num_threads = d.info().num_threads;
    info.fast_bfloat16 = d.info().fast_bfloat16 ? 1 : 0;
    info.memory_total = d.info().memory_total;
    info.memory_used = d.memory_used();
    info.memory_peak = d.memory_peak();
    info.graphs = d.graphs().graphs;
    info.graph_bytes = d.graphs().bytes;
    info.graph_ns = d.graphs().nanoseconds;
    put_line(d.info().name, info.name, sizeof info.name);
    put_line(d.info().features, info.features, sizeof info.features);
    return write_struct(info, "device info", inout);
  });
}

void ecad_device_release(ecad_device* device) { delete device; }

ecad_status ecad_weights_create(ecad_device* device, const ecad_tensor_desc* descs, size_t count, ecad_weights** out, ecad_error* err) {
  return guarded(err, [&] {
    if (out == nullptr) return invalid("weights: out is NULL");
    *out = nullptr;
    if (device == nullptr || (descs == nullptr && count > 0)) return invalid("weights: an argument is NULL");
    auto handle = std::make_unique<ecad_weights>();
    ECAD_TRY(ecad::Weights::create(device->impl, descs, count, nullptr, &handle->impl));
    *out = handle.release();
    return Status::ok();
  });
}

ecad_status ecad_weights_create_on_demand(ecad_device* device, const ecad_tensor_desc* descs, size_t count, const ecad_weights_source* source, ecad_weights** out, ecad_error* err) {
  return guarded(err, [&] { return create_on_demand(device, descs, count, source, out); });
}

ecad_status ecad_weights_open(ecad_device* device, const char* path, ecad_weights** out, ecad_error* err) {
  return guarded(err, [&] {
    if (out == nullptr) return invalid("weights: out is NULL");
    *out = nullptr;
    if (device == nullptr || path == nullptr) return invalid("weights: an argument is NULL");
    auto handle = std::make_unique<ecad_weights>();
    ECAD_TRY(ecad::Weights::open(device->impl, path, &handle->impl));
    *out = handle.release();
    return Status::ok();
  });
}

ecad_status ecad_weights_find(const ecad_weights* weights, const char* name, ecad_tensor_desc* out, ecad_error* err) {
  return guarded(err, [&] {
    if (weights == nullptr || name == nullptr || out == nullptr) return invalid("weights find: an argument is NULL");
    return weights->impl->describe(name, out);
  });
}

void ecad_weights_release(ecad_weights* weights) { delete weights; }

ecad_status ecad_state_create(ecad_program* program, ecad_state** out, ecad_error* err) {
  return guarded(err, [&] {
    if (out == nullptr) return invalid("state: out is NULL");
    *out = nullptr;
    if (program == nullptr) return invalid("state: program is NULL");
    auto handle = std::make_unique<ecad_state>();
    ECAD_TRY(ecad::State::create(program->impl->device(), program->impl->layout(), &handle->impl));
    *out = handle.release();
    return Status::ok();
  });
}

ecad_status ecad_state_fork(ecad_state* state, ecad_state** out, ecad_error* err) {
  return guarded(err, [&] {
    if (out == nullptr) return invalid("state: out is NULL");
    *out = nullptr;
    if (state == nullptr) return invalid("state: state is NULL");
    auto handle = std::make_unique<ecad_state>();
    ECAD_TRY(state->impl->fork(&handle->impl));
    *out = handle.release();
    return Status::ok();
  });
}

ecad_status ecad_state_reset(ecad_state* state, ecad_error* err) {
  return guarded(err, [&] {
    if (state == nullptr) return invalid("state: state is NULL");
    state->impl->reset();
    return Status::ok();
  });
}

ecad_status ecad_state_write(ecad_state* state, const char* io_name, const void* data, uint64_t nbytes, ecad_error* err) {
  return guarded(err, [&] {
    if (state == nullptr || io_name == nullptr) return invalid("state write: an argument is NULL");
    uint32_t index = 0;
    ECAD_TRY(state->impl->find(io_name, 1, &index));
    return state->impl->write(index, data, nbytes);
  });
}

ecad_status ecad_state_read(ecad_state* state, const char* io_name, void* data, uint64_t nbytes, ecad_error* err) {
  return guarded(err, [&] {
    if (state == nullptr || io_name == nullptr) return invalid("state read: an argument is NULL");
    uint32_t index = 0;
    ECAD_TRY(state->impl->find(io_name, 3, &index));
    return state->impl->read(index, data, nbytes);
  });
}

ecad_status ecad_state_write_buffer(ecad_state* state, uint32_t index, const void* data, uint64_t nbytes, ecad_error* err) {
  return guarded(err, [&] { return state == nullptr ? invalid("state write: state is NULL") : state->impl->write(index, data, nbytes); });
}

ecad_status ecad_state_read_buffer(ecad_state* state, uint32_t index, void* data, uint64_t nbytes, ecad_error* err) {
  return guarded(err, [&] { return state == nullptr ? invalid("state read: state is NULL") : state->impl->read(index, data, nbytes); });
}

void ecad_state_release(ecad_state* state) { delete state; }

ecad_cancel* ecad_cancel_create(void) { return new (std::nothrow) ecad_cancel; }

void ecad_cancel_trigger(ecad_cancel* cancel) {
  if (cancel != nullptr) cancel->flag.store(1);
}

void ecad_cancel_reset(ecad_cancel* cancel) {
  if (cancel != nullptr) cancel->flag.store(0);
}

void ecad_cancel_release(ecad_cancel* cancel) {
  if (cancel != nullptr && cancel->refs.fetch_sub(1) == 1) delete cancel;
}

ecad_status ecad_run(ecad_state* state, ecad_program* program, const ecad_run_item* items, size_t count, ecad_run_args* args, ecad_error* err) {
  return guarded(err, [&] {
    if (state == nullptr || program == nullptr || (items == nullptr && count > 0)) return invalid("run: an argument is NULL");
    return run(state, program, items, count, args);
  });
}

ecad_status ecad_run_schedule(ecad_state* state, ecad_program* program, uint32_t index, ecad_run_args* args, ecad_error* err) {
  return guarded(err, [&] {
    if (state == nullptr || program == nullptr) return invalid("run: an argument is NULL");
    const auto& schedules = program->impl->program().schedules;
    if (index >= schedules.size()) return invalid(text("run: schedule ", index, " does not exist, there are ", schedules.size()));
    const auto& from = schedules[index].items;
    std::vector<ecad_run_item> items(from.size());
    std::transform(from.begin(), from.end(), items.begin(), [](const ecad::RunItem& i) { return ecad_run_item{i.section, i.step}; });
    return run(state, program, items.data(), items.size(), args);
  });
}

}  // extern "C"
