#include <cstring>

#include "loaded.h"
#include "text.h"

namespace ecad {

Status State::create(std::shared_ptr<Device> device, std::shared_ptr<const Layout> layout, std::unique_ptr<State>* out) {
  std::unique_ptr<State> state(new State(std::move(device), std::move(layout)));
  const size_t count = state->layout_->persistent.size();
  state->bases_.resize(kFirstPersistentBase + count, nullptr);  // before the slots: reset walks the slots
  state->slots_.resize(count);
  *out = std::move(state);
  return Status::ok();
}

State::~State() { reset(); }

Status State::fork(std::unique_ptr<State>* out) const {
  ECAD_TRY(create(device_, layout_, out));
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].buffer != nullptr) Device::retain(slots_[i].buffer);
    (*out)->slots_[i] = slots_[i];
    (*out)->bases_[kFirstPersistentBase + i] = bases_[kFirstPersistentBase + i];
  }
  return Status::ok();
}

void State::reset() {
  for (size_t i = 0; i < slots_.size(); ++i) {
    device_->release(slots_[i].buffer);
    slots_[i] = Slot();
    bases_[kFirstPersistentBase + i] = nullptr;
  }
}

Status State::find(const char* io_name, int32_t direction, uint32_t* index) const {
  for (const Layout::Port& port : layout_->ports) {
    if (port.name != io_name) continue;
    if ((port.direction & direction) == 0) return Status(ECAD_INVALID_ARGUMENT, text("io \"", port.name, "\" is an output, it cannot be written"));
    *index = port.index;
    return Status::ok();
  }
  std::string names;
  for (const Layout::Port& port : layout_->ports) names += text(names.empty() ? "" : ", ", port.name);
  return Status(ECAD_INVALID_ARGUMENT, text("io \"", io_name, "\" does not exist; there are: ", names));
}

Status State::check(uint32_t index, const void* data, uint64_t nbytes) const {
  if (index >= slots_.size()) return Status(ECAD_INVALID_ARGUMENT, text("persistent buffer ", index, " does not exist, there are ", slots_.size()));
  const Layout::Persistent& p = layout_->persistent[index];
  if (nbytes != p.bytes) return Status(ECAD_SHAPE_MISMATCH, text("\"", p.name, "\" has ", p.bytes, " bytes, the caller gives ", nbytes));
  if (data == nullptr) return Status(ECAD_INVALID_ARGUMENT, "data is NULL");
  return Status::ok();
}

Status State::own(uint32_t index, SharedBuffer** replaced) {
  Slot& slot = slots_[index];
  *replaced = nullptr;
  if (slot.buffer != nullptr && slot.buffer->refs.load(std::memory_order_acquire) == 1) return Status::ok();
  SharedBuffer* fresh = nullptr;
  ECAD_TRY(device_->acquire(layout_->persistent[index].bytes, &fresh));
  *replaced = slot.buffer;
  slot.buffer = fresh;
  bases_[kFirstPersistentBase + index] = static_cast<char*>(fresh->data);
  return Status::ok();
}

Status State::write(uint32_t index, const void* data, uint64_t nbytes) {
  ECAD_TRY(check(index, data, nbytes));
  return device_->call([&] {
    SharedBuffer* replaced = nullptr;
    ECAD_TRY(own(index, &replaced));
    device_->release(replaced);
    slots_[index].valid = false;
    ECAD_TRY(device_->backend().upload(slots_[index].buffer->data, data, nbytes));
    slots_[index].valid = true;
    return Status::ok();
  });
}

Status State::read(uint32_t index, void* data, uint64_t nbytes) const {
  ECAD_TRY(check(index, data, nbytes));
  if (!slots_[index].valid) return Status(ECAD_NOT_READY, text("\"", layout_->persistent[index].name, "\" was never written"));
  return device_->call([&] { return device_->backend().download(data, slots_[index].buffer->data, nbytes); });
}

}  // namespace ecad
