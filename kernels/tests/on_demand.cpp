// Weights whose bytes are there only while they are read.
#include <map>

#include "corpus.h"

namespace {

// Tensors of the corpus; each is NaN unless it is held.
struct Source {
  struct Held {
    std::vector<float> data;
    int holds = 0;
    int needs = 0;
  };
  std::vector<ecad_tensor_desc> descs = corpus::tensors();
  std::vector<Held> held;
  int refuse = -1;
  int released = 0;

  Source() : held(descs.size()) {
    for (size_t i = 0; i < descs.size(); ++i) {
      held[i].data.assign(descs[i].nbytes / 4, NAN);
      descs[i].data = held[i].data.data();
    }
  }
  static Source* of(void* user) { return static_cast<Source*>(user); }
  ecad_weights_source calls() {
    ecad_weights_source s = ECAD_WEIGHTS_SOURCE_INIT;
    s.need = [](void* user, uint64_t i) -> int32_t {
      if (of(user)->refuse == static_cast<int>(i)) return 1;
      Held& h = of(user)->held[i];
      CHECK_EQ(h.holds, 0);
      ++h.holds;
      ++h.needs;
      h.data.assign(h.data.size(), 0.125f);
      return 0;
    };
    s.drop = [](void* user, uint64_t i) {
      Held& h = of(user)->held[i];
      CHECK_EQ(h.holds, 1);
      --h.holds;
      h.data.assign(h.data.size(), NAN);
    };
    s.release = [](void* user) { ++of(user)->released; };
    s.user = this;
    return s;
  }
  const Held& operator[](const char* name) const {
    for (size_t i = 0; i < descs.size(); ++i)
      if (std::strcmp(descs[i].name, name) == 0) return held[i];
    throw check::Abandon();
  }
  int holds() const {
    int n = 0;
    for (const Held& h : held) n += h.holds;
    return n;
  }
};

Handle<ecad_weights> create(ecad_device* device, Source* source) {
  const ecad_weights_source calls = source->calls();
  ecad_weights* w = nullptr;
  CHECK_OK(ecad_weights_create_on_demand(device, source->descs.data(), source->descs.size(), &calls, &w, &err));
  return Handle<ecad_weights>(w);
}

std::vector<float> run(ecad_program* program) {
  auto state = new_state(program);
  std::vector<float> latents(2 * 3 * 4 * 4);
  for (size_t i = 0; i < latents.size(); ++i) latents[i] = 0.01f * static_cast<float>(i);
  write(state.get(), "latents", latents);
  const int32_t counts[2] = {4, 3};
  CHECK_OK(ecad_state_write(state.get(), "counts", counts, sizeof counts, &err));
  CHECK_OK(ecad_run_schedule(state.get(), program, 0, nullptr, &err));
  return read(state.get(), "latents", latents.size());
}

void held_only_while_read(int32_t backend) {
  auto device = open_device(backend);
  auto lent = corpus::weights(device.get());
  const auto want = run(load(device.get(), lent.get(), corpus::every_op()).get());
  Source source;
  {
    auto weights = create(device.get(), &source);
    CHECK_EQ(source.holds(), 0);
    auto program = load(device.get(), weights.get(), corpus::every_op()), second = load(device.get(), weights.get(), corpus::every_op());
    if (backend == ECAD_BACKEND_CPU) {  // packed once, let go; read as they lie, held
      for (const char* name : {"qkv.weight", "qkv.bias", "gate.weight", "up.weight", "patch.weight", "conv.weight", "out.weight"}) {
        CHECK_EQ(source[name].holds, 0);
        CHECK_EQ(source[name].needs, 1);
      }
    } else {
      CHECK_EQ(source["qkv.weight"].holds, 1);
    }
    CHECK_EQ(source["table"].holds, 1);
    CHECK_EQ(source["norm.weight"].holds, 1);
    second.reset();
    CHECK_EQ(source["table"].holds, 1);
    CHECK(run(program.get()) == want);
    weights.reset();  // the program keeps it alive
    CHECK_EQ(source.released, 0);
    CHECK(run(program.get()) == want);
  }
  CHECK_EQ(source.holds(), 0);
  CHECK_EQ(source.released, 1);
}

}  // namespace

TEST(held_only_while_read_by_the_reference) { held_only_while_read(ECAD_BACKEND_REFERENCE); }

TEST(held_only_while_read_by_the_cpu_backend) {
  if (ecad_device_count(ECAD_BACKEND_CPU, nullptr, 0) > 0) held_only_while_read(ECAD_BACKEND_CPU);
  else std::puts("SKIP: no cpu backend");
}

TEST(a_tensor_that_cannot_be_had) {
  for (const int32_t backend : {ECAD_BACKEND_REFERENCE, ECAD_BACKEND_CPU}) {
    if (ecad_device_count(backend, nullptr, 0) == 0) continue;
    auto device = open_device(backend);
    Source source;
    const auto bytes = corpus::every_op().bytes();
    for (size_t i = 0; i < source.descs.size(); ++i) {
      auto weights = create(device.get(), &source);
      source.refuse = static_cast<int>(i);
      ecad_program* p = nullptr;
      CHECK_FAILS(ecad_program_load(device.get(), weights.get(), bytes.data(), bytes.size(), &p, &err), ECAD_IO_ERROR, source.descs[i].name);
      CHECK_EQ(source.holds(), 0);
      source.refuse = -1;
      auto program = load(device.get(), weights.get(), corpus::every_op());  // nothing half packed stays
    }
    CHECK_EQ(source.holds(), 0);
  }
}

TEST(a_source_is_released_when_weights_cannot_be_made) {
  auto device = open_device();
  Source source;
  ecad_weights_source calls = source.calls();
  ecad_weights* w = nullptr;
  CHECK_FAILS(ecad_weights_create_on_demand(nullptr, source.descs.data(), 1, &calls, &w, &err), ECAD_INVALID_ARGUMENT, "NULL");
  CHECK_EQ(source.released, 1);
  CHECK_FAILS(ecad_weights_create_on_demand(device.get(), source.descs.data(), 1, nullptr, &w, &err), ECAD_INVALID_ARGUMENT, "NULL");
  source.descs[1].name = source.descs[0].name;
  CHECK_FAILS(ecad_weights_create_on_demand(device.get(), source.descs.data(), 2, &calls, &w, &err), ECAD_BAD_WEIGHTS, "two tensors");
  CHECK_EQ(source.released, 2);
  calls.flags = 1;
  CHECK_FAILS(ecad_weights_create_on_demand(device.get(), source.descs.data(), 1, &calls, &w, &err), ECAD_INVALID_ARGUMENT, "flags");
  CHECK_EQ(source.released, 3);
  calls.struct_size = 3;
  CHECK_FAILS(ecad_weights_create_on_demand(device.get(), source.descs.data(), 1, &calls, &w, &err), ECAD_INVALID_ARGUMENT, "struct_size");
  CHECK_EQ(source.released, 3);  // what it does not say is not called
}

// A source that says nothing is the same as none.
TEST(empty_source) {
  auto device = open_device();
  Source source;
  for (Source::Held& h : source.held) h.data.assign(h.data.size(), 0.125f);
  const ecad_weights_source none = ECAD_WEIGHTS_SOURCE_INIT;
  ecad_weights* w = nullptr;
  CHECK_OK(ecad_weights_create_on_demand(device.get(), source.descs.data(), source.descs.size(), &none, &w, &err));
  Handle<ecad_weights> weights(w);
  auto lent = corpus::weights(device.get());
  CHECK(run(load(device.get(), weights.get(), corpus::every_op()).get()) == run(load(device.get(), lent.get(), corpus::every_op()).get()));
}

CHECK_MAIN()
