// Program bytes: check, and load and run what is accepted. Most damage is caught by the checksum, so the same bytes are tried with their
// checksums set right, too.
#include "fuzz.h"

namespace {

struct Lasting {
  Handle<ecad_device> device = open_device();
  Handle<ecad_weights> weights = corpus::weights(device.get());
};

void run(ecad_program* program, const uint8_t* data, size_t size) {
  auto state = new_state(program);
  ecad_program_info info{};
  info.struct_size = sizeof info;
  fuzz::promise(ecad_program_query(program, &info, nullptr) == ECAD_OK, "a loaded program can be queried");
  std::vector<uint8_t> bytes;
  for (uint32_t i = 0; i < info.num_ios; ++i) {
    ecad_io_info io{};
    io.struct_size = sizeof io;
    fuzz::promise(ecad_program_io(program, i, &io, nullptr) == ECAD_OK, "every io can be queried");
    bytes.resize(io.nbytes);
    for (size_t k = 0; k < bytes.size(); ++k) bytes[k] = data[(k + i) % size];  // NaN, infinities, counts and ids out of range among them
    (void)ecad_state_write(state.get(), io.name, bytes.data(), bytes.size(), nullptr);
  }
  for (uint32_t i = 0; i < info.num_schedules; ++i) {
    ecad_run_args args = ECAD_RUN_ARGS_INIT;
    args.flags = i % 2 ? ECAD_RUN_CHECK_FINITE : 0u;
    ecad_error err = ECAD_ERROR_INIT;
    const ecad_status s = ecad_run_schedule(state.get(), program, i, &args, &err);
    fuzz::promise(s != ECAD_INTERNAL && (s == ECAD_OK || err.message[0] != 0), "a run ends in order:", err.message);
  }
  for (uint32_t i = 0; i < info.num_ios; ++i) {
    ecad_io_info io{};
    io.struct_size = sizeof io;
    if (ecad_program_io(program, i, &io, nullptr) != ECAD_OK) continue;
    bytes.resize(io.nbytes);
    (void)ecad_state_read(state.get(), io.name, bytes.data(), bytes.size(), nullptr);
  }
}

void one(const uint8_t* data, size_t size) {
  static const Lasting lasting;
  const auto bytes = fuzz::exact(data, size);
  ecad_error err = ECAD_ERROR_INIT;
  const fuzz::Bound bound(size);
  const ecad_status checked = ecad_program_check(bytes.get(), size, &err);
  bound.check();
  fuzz::promise(checked == ECAD_OK || (checked == ECAD_BAD_PROGRAM && err.message[0] != 0) || (size == 0 && checked == ECAD_INVALID_ARGUMENT), "a check says yes or why not:", err.message);
  if (checked != ECAD_OK) return;
  ecad_program* raw = nullptr;
  const ecad_status loaded = ecad_program_load(lasting.device.get(), lasting.weights.get(), bytes.get(), size, &raw, &err);
  const Handle<ecad_program> program(raw);
  fuzz::promise(loaded == ECAD_OK || loaded == ECAD_BAD_WEIGHTS || loaded == ECAD_OUT_OF_MEMORY, "what passed the check loads, or lacks weights or memory:", err.message);
  if (loaded == ECAD_OK && fuzz::small(raw)) run(raw, data, size);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  one(data, size);
  std::vector<uint8_t> sealed(data, data + size);
  writer::seal(&sealed);
  one(sealed.data(), sealed.size());
  return 0;
}
