// Sequences of calls of the C interface. The input is a list of calls: which one, on which of the objects made so far (or NULL), with which
// sizes, names, items and flags. Only what the header demands of a caller is kept: objects are alive, and memory that a size speaks of is there.
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

namespace {

// Takes the input apart; what is past its end is 0.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : p_(data), end_(data + size) {}
  bool empty() const { return p_ == end_; }
  uint8_t byte() { return empty() ? uint8_t{0} : *p_++; }
  uint64_t number() {  // small ones mostly, and those on edges
    static constexpr uint64_t kEdges[] = {0, 1, 24, 96, 384, 0x7fffffff, 0x80000000u, 0xffffffffu, uint64_t{1} << 32, uint64_t{1} << 62, INT64_MAX, uint64_t{1} << 63, UINT64_MAX};
    const uint8_t kind = byte();
    if (kind < 160) return kind;
    if (kind < 240) return kEdges[kind % (sizeof kEdges / sizeof kEdges[0])];
    uint64_t v = 0;
    for (int i = 0; i < 8; ++i) v = v << 8 | byte();
    return v;
  }
  size_t below(size_t n) { return n == 0 ? 0 : byte() % n; }

 private:
  const uint8_t* p_;
  const uint8_t* end_;
};

constexpr size_t kRoom = 1 << 16;  // bytes that any data pointer of ours has behind it

template <class T>
struct Pool {
  std::vector<Handle<T>> all;
  T* pick(Input* in) {  // NULL now and then
    const size_t i = in->below(all.size() + 1);
    return i == all.size() ? nullptr : all[i].get();
  }
  void keep(T* made) {
    if (made == nullptr) return;
    if (all.size() >= 6) all.erase(all.begin());
    all.emplace_back(made);
  }
  void drop(Input* in) {
    if (!all.empty()) all.erase(all.begin() + static_cast<std::ptrdiff_t>(in->below(all.size())));
  }
};

// A struct with a size of the caller's choice and room for it.
template <class T>
struct Sized {
  alignas(16) unsigned char room[8192] = {};
  Sized(Input* in, const T& init) {
    std::memcpy(room, &init, sizeof init);
    const uint64_t choice = in->number();
    if (choice < 160) return;  // as the _INIT macro has it
    const auto size = static_cast<uint32_t>(choice % 2 ? in->number() : sizeof(T) + 8 * in->below(4));
    std::memcpy(room, &size, 4);
    if (size > sizeof(T) && size <= 4096 && choice % 3 == 0) room[sizeof(T) + in->below(size - sizeof(T))] = 1;
  }
  T* get() { return reinterpret_cast<T*>(room); }
};

const std::vector<uint8_t>* good_programs() {
  static const std::vector<uint8_t> all[] = {corpus::small().bytes(), corpus::every_op().bytes()};
  return all;
}

// Weights whose bytes are there only while they are read. The library's promises to it are checked: every need that was met is followed by one
// drop, and release comes once, last.
struct Source {
  explicit Source(Input* in) : in(in) {}
  ~Source() { fuzz::promise(releases == 1 && held == 0, "a source of weights is dropped as often as it was needed, and released once"); }
  static Source* of(void* user) {
    auto* s = static_cast<Source*>(user);
    fuzz::promise(s->releases == 0, "a source is not called once it was released");
    return s;
  }
  static int32_t need(void* user, uint64_t index) {
    Source* s = of(user);
    fuzz::promise(index < s->count, "a source is asked for tensors that it has");
    if (s->in->byte() > 240) return 1;
    ++s->held;
    return 0;
  }
  static void drop(void* user, uint64_t) { --of(user)->held; }
  static void release(void* user) { ++of(user)->releases; }

  Input* in;
  size_t count = 0;
  int64_t held = 0;
  int releases = 0;
};

class Session {
 public:
  explicit Session(Input in) : in_(in), data_(kRoom) {
    for (size_t i = 0; i < kRoom; i += 4) {
      const float f = static_cast<float>(i % 61) / 8 - 3;
      std::memcpy(data_.data() + i, &f, 4);
    }
  }

  void run() {
    devices_.keep(open(ECAD_BACKEND_REFERENCE));
    for (int calls = 0; !in_.empty() && calls < 200; ++calls) step();
  }

  // Within a run's callback: calls that are allowed there, and those that must be refused.
  int32_t on_item() {
    const size_t mark = errors_.size();
    if (++depth_ == 1 && in_.byte() % 4 == 0) {
      const uint8_t what = in_.byte();
      if (what % 4 == 0) read_state();
      if (what % 4 == 1) run_program();  // on this device refused, on another one fine
      if (what % 4 == 2) load_program();
      if (what % 4 == 3) query();
    }
    --depth_;
    errors_.resize(mark);
    return in_.byte() > 250;
  }

 private:
  static ecad_device* open(int32_t backend) {
    ecad_device_config config = ECAD_DEVICE_CONFIG_INIT;
    config.backend = backend;
    ecad_device* d = nullptr;
    (void)ecad_device_open(&config, &d, nullptr);
    return d;
  }

  void step() {
    switch (in_.byte() % 19) {
      case 0: open_device(); break;
      case 1: create_weights(); break;
      case 2: case 3: load_program(); break;
      case 4: create_state(); break;
      case 5: fork_state(); break;
      case 6: case 7: write_state(); break;
      case 8: read_state(); break;
      case 9: case 10: run_program(); break;
      case 11: query(); break;
      case 12: cancels_.all.size() < 4 ? cancels_.keep(ecad_cancel_create()) : cancels_.drop(&in_); break;
      case 13: in_.byte() % 2 ? ecad_cancel_trigger(cancels_.pick(&in_)) : ecad_cancel_reset(cancels_.pick(&in_)); break;
      case 14: (void)finish(ecad_state_reset(states_.pick(&in_), err())); break;
      case 16: create_weights_on_demand(); break;
      case 17: find_weights(); break;
      case 18: inspect(); break;
      default: release(); break;
    }
  }

  // A fresh error struct of some size, or none.
  ecad_error* err() {
    const ecad_error init = ECAD_ERROR_INIT;
    errors_.push_back(std::make_unique<Sized<ecad_error>>(&in_, init));
    return in_.byte() % 8 == 0 ? nullptr : errors_.back()->get();
  }

  ecad_status finish(ecad_status s) {
    fuzz::promise(s >= ECAD_NOT_READY && s <= ECAD_CANCELLED, "a status is one of the documented ones, and none is internal");
    const ecad_error* e = errors_.back()->get();
    if (s != ECAD_OK && e->struct_size == sizeof *e && e->code == s) fuzz::promise(e->message[0] != 0 && std::memchr(e->message, 0, sizeof e->message) != nullptr, "an error says something");
    errors_.pop_back();
    return s;
  }

  void open_device() {
    ecad_device_config init = ECAD_DEVICE_CONFIG_INIT;
    init.backend = in_.byte() % 2 ? ECAD_BACKEND_REFERENCE : static_cast<int32_t>(in_.number());
    if (in_.byte() > 200) init.ordinal = static_cast<int32_t>(in_.number()), init.num_threads = static_cast<int32_t>(in_.number()), init.isa = static_cast<int32_t>(in_.number()), init.flags = in_.byte(), init.gemm = static_cast<int8_t>(in_.byte());
    Sized<ecad_device_config> config(&in_, init);
    ecad_device* d = nullptr;
    (void)finish(ecad_device_open(in_.byte() == 255 ? nullptr : config.get(), &d, err()));
    if (devices_.all.size() < 3) devices_.keep(d);
    else ecad_device_release(d);
  }

  // Good descriptors of every tensor, some of them damaged; count: how many of them to tell of.
  std::vector<ecad_tensor_desc> descriptors(size_t* count) {
    auto descs = corpus::tensors();
    for (size_t k = in_.below(4); k-- > 0;) {
      ecad_tensor_desc& d = descs[in_.below(descs.size())];
      switch (in_.byte() % 6) {
        case 0: d.dtype = static_cast<int32_t>(in_.number()); break;
        case 1: d.rank = static_cast<int32_t>(in_.number()); break;
        case 2: d.dims[in_.below(4)] = static_cast<int64_t>(in_.number()); break;
        case 3: d.nbytes = in_.number(); break;
        case 4: d.name = descs[in_.below(descs.size())].name; break;
        default: d.name = in_.byte() % 2 ? nullptr : ""; break;
      }
      d.data = d.nbytes <= kRoom && in_.byte() < 250 ? data_.data() : nullptr;
    }
    for (ecad_tensor_desc& d : descs) {
      if (d.data != nullptr) d.data = data_.data();  // all with room enough
    }
    *count = in_.below(descs.size() + 1) == 0 ? in_.below(descs.size()) : descs.size();
    return descs;
  }

  void create_weights() {
    size_t count = 0;
    const auto descs = descriptors(&count);
    ecad_weights* w = nullptr;
    (void)finish(ecad_weights_create(devices_.pick(&in_), in_.byte() == 255 ? nullptr : descs.data(), count, &w, err()));
    weights_.keep(w);
  }

  void create_weights_on_demand() {
    if (sources_.size() == 8) return;
    size_t count = 0;
    const auto descs = descriptors(&count);
    sources_.push_back(std::make_unique<Source>(&in_));
    Source& source = *sources_.back();
    source.count = count;
    ecad_weights_source init = ECAD_WEIGHTS_SOURCE_INIT;
    init.need = Source::need;
    init.drop = Source::drop;
    init.release = Source::release;
    init.user = &source;
    const uint8_t with = in_.byte();
    if (with > 250) init.flags = static_cast<uint32_t>(in_.number());
    Sized<ecad_weights_source> given(&in_, init);
    const uint32_t size = given.get()->struct_size;
    if (size < sizeof init) std::memset(given.room + 8, 0, sizeof init - 8);  // a caller of less has no callbacks
    ecad_weights* w = nullptr;
    const ecad_status s = finish(ecad_weights_create_on_demand(devices_.pick(&in_), with == 250 ? nullptr : descs.data(), count, with == 249 ? nullptr : given.get(), &w, err()));
    if (s != ECAD_OK && with != 249 && size == sizeof init) fuzz::promise(source.releases == 1, "a source is released when weights cannot be made of it");
    else if (s != ECAD_OK || size < sizeof init) source.releases = 1;  // not read, or without callbacks
    weights_.keep(w);
  }

  void find_weights() {
    static constexpr const char* kNames[] = {"", "nothing", "\xff\xfe"};
    const auto descs = corpus::tensors();
    const size_t i = in_.below(descs.size() + 4);
    const char* wanted = i < descs.size() ? descs[i].name : i < descs.size() + 3 ? kNames[i - descs.size()] : nullptr;
    ecad_tensor_desc out{};
    (void)finish(ecad_weights_find(weights_.pick(&in_), wanted, in_.byte() == 255 ? nullptr : &out, err()));
  }

  // One of the good programs, some of its words changed, mostly with the checksums set right.
  std::vector<uint8_t> program_bytes() {
    std::vector<uint8_t> bytes = good_programs()[in_.byte() % 2];
    for (size_t k = in_.byte() % 3 == 0 ? in_.below(4) : 0; k-- > 0;) {
      const size_t at = static_cast<size_t>(in_.number() * 4 % bytes.size());
      const auto value = static_cast<uint32_t>(in_.number());
      std::memcpy(bytes.data() + at, &value, std::min<size_t>(4, bytes.size() - at));
    }
    if (in_.byte() % 16 != 0) writer::seal(&bytes);
    return bytes;
  }

  void inspect() {
    const std::vector<uint8_t> bytes = program_bytes();
    const auto copy = fuzz::exact(bytes.data(), bytes.size());
    const ecad_program_info init = ECAD_PROGRAM_INFO_INIT;
    Sized<ecad_program_info> info(&in_, init);
    (void)finish(ecad_program_inspect(in_.byte() == 255 ? nullptr : copy.get(), bytes.size(), info.get(), err()));
  }

  void load_program() {
    const std::vector<uint8_t> bytes = program_bytes();
    const auto copy = fuzz::exact(bytes.data(), bytes.size());
    ecad_program* p = nullptr;
    const uint8_t from = in_.byte();
    if (from > 240) {  // through a file in memory, or one that is not there
      const int file = memfd_create("program", MFD_CLOEXEC);
      if (file < 0 || write(file, copy.get(), bytes.size()) != static_cast<ssize_t>(bytes.size())) std::abort();
      const std::string path = from == 255 ? "/nothing/here" : "/proc/self/fd/" + std::to_string(file);
      (void)finish(ecad_program_open(devices_.pick(&in_), weights_.pick(&in_), from == 254 ? nullptr : path.c_str(), &p, err()));
      close(file);
    } else {
      (void)finish(ecad_program_load(devices_.pick(&in_), weights_.pick(&in_), copy.get(), bytes.size(), &p, err()));
    }
    if (p != nullptr && !fuzz::small(p)) ecad_program_release(p);
    else programs_.keep(p);
  }

  void create_state() {
    ecad_state* s = nullptr;
    (void)finish(ecad_state_create(programs_.pick(&in_), &s, err()));
    states_.keep(s);
  }

  void fork_state() {
    ecad_state *s = nullptr, *from = states_.pick(&in_);
    if (from == running_) return;
    (void)finish(ecad_state_fork(from, &s, err()));
    states_.keep(s);
  }

  const char* name() {
    static constexpr const char* kNames[] = {"latents", "counts", "x", "", "nothing", "\xff\xfe"};
    const size_t i = in_.below(7);
    return i == 6 ? nullptr : kNames[i];
  }

  uint64_t io_bytes() {
    static constexpr uint64_t kUsual[] = {384, 8, 24};
    return in_.byte() % 4 ? kUsual[in_.below(3)] : in_.number();
  }

  // Contents that the ops can work with, or any bytes at all.
  void fill() {
    if (in_.byte() % 2) return;
    const size_t at = in_.below(kRoom / 4) * 4;
    const auto value = static_cast<uint32_t>(in_.number());
    std::memcpy(data_.data() + at % 512, &value, 4);
  }

  void write_state() {
    fill();
    static const int32_t counts[2] = {4, 1};
    const uint64_t nbytes = io_bytes();
    const void* from = nbytes == 8 && in_.byte() % 2 ? static_cast<const void*>(counts) : data_.data();
    if (nbytes > kRoom && in_.byte() % 2) from = nullptr;
    ecad_state* s = states_.pick(&in_);
    if (in_.byte() % 4) (void)finish(ecad_state_write(s, name(), from, nbytes, err()));
    else (void)finish(ecad_state_write_buffer(s, static_cast<uint32_t>(in_.number()), from, nbytes, err()));
  }

  void read_state() {
    std::vector<uint8_t> to(512);
    const uint64_t nbytes = io_bytes();
    ecad_state* s = states_.pick(&in_);
    if (in_.byte() % 4) (void)finish(ecad_state_read(s, name(), in_.byte() == 255 ? nullptr : to.data(), nbytes, err()));
    else (void)finish(ecad_state_read_buffer(s, static_cast<uint32_t>(in_.number()), to.data(), nbytes, err()));
  }

  void run_program() {
    ecad_run_args init = ECAD_RUN_ARGS_INIT;
    std::vector<ecad_op_time> times(in_.below(40));
    const uint8_t with = in_.byte();
    if (with % 2) init.flags = ECAD_RUN_CHECK_FINITE;
    if (with > 250) init.flags = static_cast<uint32_t>(in_.number());
    if (with & 2) init.cancel = cancels_.pick(&in_);
    if (with & 4) init.on_item = [](void* user, uint32_t, uint32_t) { return static_cast<Session*>(user)->on_item(); };
    init.user = this;
    if (with & 8) init.times = times.data(), init.times_cap = times.size();
    Sized<ecad_run_args> args(&in_, init);
    ecad_state *state = states_.pick(&in_), *outer = running_;
    ecad_program* program = programs_.pick(&in_);
    ecad_run_args* given = with & 16 ? args.get() : nullptr;
    running_ = state;
    if (in_.byte() % 2) {
      (void)finish(ecad_run_schedule(state, program, static_cast<uint32_t>(in_.byte() % 8 ? in_.below(3) : in_.number()), given, err()));
    } else {
      ecad_run_item items[6];
      const size_t count = in_.below(7);
      for (size_t i = 0; i < count; ++i) items[i] = {static_cast<uint32_t>(in_.byte() % 8 ? in_.below(3) : in_.number()), static_cast<uint32_t>(in_.byte() % 8 ? in_.below(3) : in_.number())};
      (void)finish(ecad_run(state, program, count == 0 && in_.byte() % 2 ? nullptr : items, count, given, err()));
    }
    running_ = outer;
  }

  void query() {
    const auto index = static_cast<uint32_t>(in_.byte() % 4 ? in_.below(24) : in_.number());
    ecad_program* p = programs_.pick(&in_);
    switch (in_.byte() % 7) {
      case 0: {
        Sized<ecad_program_info> info(&in_, ecad_program_info{sizeof(ecad_program_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}});
        (void)finish(ecad_program_query(p, info.get(), err()));
        break;
      }
      case 1: {
        Sized<ecad_io_info> info(&in_, ecad_io_info{sizeof(ecad_io_info), 0, 0, 0, {0}, 0, {0}});
        (void)finish(ecad_program_io(p, index, info.get(), err()));
        break;
      }
      case 2: {
        ecad_op_info init{};
        init.struct_size = sizeof init;
        Sized<ecad_op_info> info(&in_, init);
        (void)finish(ecad_program_op(p, index, info.get(), err()));
        break;
      }
      case 3: {
        ecad_run_item items[8];
        size_t count = 0;
        (void)finish(ecad_program_schedule(p, index, items, in_.below(9), &count, err()));
        break;
      }
      case 5: {
        const ecad_section_info init = ECAD_SECTION_INFO_INIT;
        Sized<ecad_section_info> info(&in_, init);
        (void)finish(ecad_program_section(p, index, info.get(), err()));
        break;
      }
      case 6: {
        const ecad_schedule_info init = ECAD_SCHEDULE_INFO_INIT;
        Sized<ecad_schedule_info> info(&in_, init);
        (void)finish(ecad_program_schedule_query(p, index, info.get(), err()));
        break;
      }
      default: {
        ecad_device_info init{};
        init.struct_size = sizeof init;
        Sized<ecad_device_info> info(&in_, init);
        (void)finish(ecad_device_query(devices_.pick(&in_), info.get(), err()));
        break;
      }
    }
    (void)ecad_status_name(static_cast<ecad_status>(in_.number()));
    char why[40];
    (void)ecad_device_count(static_cast<int32_t>(in_.number()), why, in_.below(sizeof why));
  }

  void release() {
    switch (in_.byte() % 4) {
      case 0: devices_.drop(&in_); break;
      case 1: weights_.drop(&in_); break;
      case 2: programs_.drop(&in_); break;
      default: states_.drop(&in_); break;
    }
  }

  Input in_;
  std::vector<uint8_t> data_;
  std::vector<std::unique_ptr<Sized<ecad_error>>> errors_;  // of the calls that are under way
  // A state that runs belongs to its run alone; a callback leaves the others' lists alone, too.
  ecad_state* running_ = nullptr;
  int depth_ = 0;
  std::vector<std::unique_ptr<Source>> sources_;  // outlive what was made of them
  Pool<ecad_device> devices_;
  Pool<ecad_weights> weights_;
  Pool<ecad_program> programs_;
  Pool<ecad_state> states_;
  Pool<ecad_cancel> cancels_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool made = good_programs() != nullptr && !corpus::tensors().empty();  // what is made once and kept
  const long before = allocations::live();
  {
    Session session(Input(data, size));
    session.run();
  }
  fuzz::promise(made && allocations::live() == before, "everything is given back");
  return 0;
}
