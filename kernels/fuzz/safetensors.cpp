// Safetensors files: the reader on bytes, and the whole way through a file, a map and a program that looks its weights up.
#include <sys/mman.h>
#include <unistd.h>

#include "../core/weights.h"
#include "fuzz.h"

namespace {

void read(const uint8_t* data, size_t size) {
  const auto bytes = fuzz::exact(data, size);
  ecad::TensorTable table;
  const fuzz::Bound bound(size);
  const ecad::Status s = ecad::read_safetensors("fuzz", bytes.get(), size, &table);
  bound.check();
  fuzz::promise(s.is_ok() || (s.code() == ECAD_BAD_WEIGHTS && !s.message().empty()), "a file is read or refused:", s.message().c_str());
  if (!s.is_ok()) return;
  uint64_t total = 0;
  for (size_t i = 0; i < table.size(); ++i) {
    const ecad::StoredTensor& t = table.at(i);
    const auto at = static_cast<uint64_t>(t.data - bytes.get());
    fuzz::promise(at <= size && t.nbytes <= size - at && table.find(table.name(t)) == &t, "a tensor lies in the file and is found");
    total += t.nbytes;
  }
  uint64_t header = 0;
  std::memcpy(&header, bytes.get(), 8);
  fuzz::promise(total == size - 8 - header, "tensors fill the file");
}

void open(const uint8_t* data, size_t size) {
  static const Handle<ecad_device> device = open_device();
  static const std::vector<uint8_t> program = corpus::every_op().bytes();
  static const int file = memfd_create("fuzz", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != static_cast<ssize_t>(size)) return;
  ecad_weights* raw = nullptr;
  ecad_error err = ECAD_ERROR_INIT;
  const ecad_status s = ecad_weights_open(device.get(), path.c_str(), &raw, &err);
  const Handle<ecad_weights> weights(raw);
  fuzz::promise(s == ECAD_OK || (s == ECAD_BAD_WEIGHTS && err.message[0] != 0), "a file is opened or refused:", err.message);
  if (s != ECAD_OK) return;
  ecad_program* loaded = nullptr;
  const ecad_status l = ecad_program_load(device.get(), raw, program.data(), program.size(), &loaded, &err);
  const Handle<ecad_program> owner(loaded);
  fuzz::promise(l == ECAD_OK || l == ECAD_BAD_WEIGHTS, "weights fit or are refused:", err.message);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  read(data, size);
  open(data, size);
  return 0;
}
