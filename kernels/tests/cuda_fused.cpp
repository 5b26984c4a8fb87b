// Programs in which the executor takes a linear and the qk_norm_rope behind it for one, and programs in which it must not: against float64, and against the two ops one by
// one. On a GPU the shape decides by another number of multiprocessors, so what ran is not asked there.
#include <list>

#include "../core/dtype.h"
#include "fixture.h"
#ifdef ECAD_EMULATE
#include "../cuda/emu/emulator.h"
#endif

namespace {

using namespace ecad;

// Standard normal values, the same everywhere.
struct Random {
  uint64_t state = 88172645463325252u;
  double uniform() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<double>(state >> 11) * 0x1p-53;
  }
  double normal() { return std::sqrt(-2 * std::log(1 - uniform())) * std::cos(6.283185307179586 * uniform()); }
};

double rounded(double v, DType t) {
  char raw[8] = {};
  store_element(raw, t, 0, v);
  return load_element(raw, t, 0);
}

// A joint stream [B,T,K] whose text and image rows have weights of their own, as FLUX's double blocks: two linears and two qk_norm_rope.
struct Model {
  int64_t samples, text, image, k, heads, depth;
  int32_t act = 0;  // 0 or silu
  bool in_place = true, x_in_state = false;
  int64_t tokens() const { return text + image; }
  int64_t width() const { return heads * depth; }
};

std::vector<uint16_t> as_bf16(const std::vector<double>& v) {
  std::vector<uint16_t> out;
  for (const double d : v) out.push_back(float_to_bf16(static_cast<float>(d)));
  return out;
}
std::vector<float> as_f32(const std::vector<double>& v) { return {v.begin(), v.end()}; }

// The operands' values, the truth, and the program.
class Joint {
 public:
  explicit Joint(const Model& m) : m_(m) {
    x_ = values(m.samples * m.tokens() * m.k, 1, true);
    rope_ = values(m.tokens() * m.depth, 0, false);
    for (size_t i = 0; i < rope_.size(); i += 2) {
      const double angle = 6.28 * random_.normal();
      rope_[i] = rounded(std::cos(angle), DType::kF32);
      rope_[i + 1] = rounded(std::sin(angle), DType::kF32);
    }
    for (Stream& s : streams_) {
      s.w = values(3 * m.width() * m.k, 1 / std::sqrt(static_cast<double>(m.k)), true);
      s.b = values(3 * m.width(), 0.5, false);
      for (auto& n : s.norm) {
        n = values(m.depth, 0.3, false);
        for (double& v : n) v = rounded(v + 1, DType::kF32);
      }
    }
  }

  writer::Program program() const {
    writer::Program p;
    const int64_t t = m_.tokens(), w = m_.width();
    const uint32_t input = p.persistent("x", writer::kBF16, {m_.samples, t, m_.k}), qk = p.persistent("qk", writer::kBF16, {m_.samples, t, 2 * w}), v = p.persistent("v", writer::kBF16, {m_.samples, t, w});
    p.io("x", input, 1);
    p.io("qk", qk, 2);
    p.io("v", v, 2);
    const std::vector<float> turns = as_f32(rope_);
    const uint32_t rope = p.constant(writer::kF32, {t, m_.depth}, turns.data());
    p.section(1, "step");
    uint32_t x = input;
    if (!m_.x_in_state) p.op(writer::kCopy, {input}, {x = p.arena(writer::kBF16, {m_.samples, t, m_.k})});
    const uint32_t y = p.arena(writer::kBF16, {m_.samples, t, 3 * w}), z = m_.in_place ? y : p.arena(writer::kBF16, {m_.samples, t, 3 * w});
    const auto part = [&](uint32_t of, int64_t from, int64_t rows, int64_t stride, int64_t column, int64_t columns) {
      return p.view(of, {m_.samples, rows, columns}, {t * stride, stride, 1}, static_cast<uint64_t>(from * stride + column));
    };
    for (int i = 0; i < 2; ++i) {
      const int64_t from = i == 0 ? 0 : m_.text, rows = i == 0 ? m_.text : m_.image;
      const std::string name = i == 0 ? "text" : "image";
      std::vector<uint32_t> in = {part(x, from, rows, m_.k, 0, m_.k)};
      for (const char* what : {".wq", ".wk", ".wv"}) in.push_back(p.weight(name + what, {w, m_.k}));
      for (const char* what : {".bq", ".bk", ".bv"}) in.push_back(p.weight(name + what, {w}));
      p.op(writer::kLinear, in, {part(y, from, rows, 3 * w, 0, 3 * w)}, {1, 3, m_.act});
      const uint32_t q = part(y, from, rows, 3 * w, 0, w), k = part(y, from, rows, 3 * w, w, w);
      const uint32_t q_out = m_.in_place ? q : part(z, from, rows, 3 * w, 0, w), k_out = m_.in_place ? k : part(z, from, rows, 3 * w, w, w);
      p.op(writer::kQkNormRope, {q, k, p.weight(name + ".nq", {m_.depth}), p.weight(name + ".nk", {m_.depth}), p.view(rope, {rows, m_.depth}, {m_.depth, 1}, static_cast<uint64_t>(from * m_.depth))}, {q_out, k_out},
           {static_cast<int32_t>(m_.heads), static_cast<int32_t>(m_.depth)}, {1e-6});
    }
    p.op(writer::kCopy, {part(z, 0, t, 3 * w, 0, 2 * w)}, {qk});
    p.op(writer::kCopy, {part(y, 0, t, 3 * w, 2 * w, w)}, {v});
    p.schedule("all", {{0, 0}});
    return p;
  }

  Handle<ecad_weights> weights(ecad_device* device) {
    std::vector<ecad_tensor_desc> descs;
    stored_.clear();
    for (int i = 0; i < 2; ++i) {
      const Stream& s = streams_[i];
      const std::string name = i == 0 ? "text" : "image";
      for (int64_t j = 0; j < 3; ++j) {
        const auto w = s.w.begin() + j * m_.width() * m_.k, b = s.b.begin() + j * m_.width();
        add(&descs, name + ".w" + "qkv"[j], {m_.width(), m_.k}, as_bf16({w, w + m_.width() * m_.k}));
        add(&descs, name + ".b" + "qkv"[j], {m_.width()}, as_f32({b, b + m_.width()}));
        if (j < 2) add(&descs, name + ".n" + "qkv"[j], {m_.depth}, as_f32(s.norm[j]));
      }
    }
    ecad_weights* out = nullptr;
    CHECK_OK(ecad_weights_create(device, descs.data(), descs.size(), &out, &err));
    return Handle<ecad_weights>(out);
  }

  std::vector<uint16_t> x() const { return as_bf16(x_); }

  // [B,T,3C] in float64.
  std::vector<double> truth() const {
    std::vector<double> all;
    for (int64_t b = 0; b < m_.samples; ++b)
      for (int64_t t = 0; t < m_.tokens(); ++t) {
        const Stream& s = streams_[t < m_.text ? 0 : 1];
        std::vector<double> row(static_cast<size_t>(3 * m_.width()));
        for (int64_t n = 0; n < 3 * m_.width(); ++n) {
          double sum = s.b[static_cast<size_t>(n)];
          for (int64_t k = 0; k < m_.k; ++k) sum += x_[static_cast<size_t>((b * m_.tokens() + t) * m_.k + k)] * s.w[static_cast<size_t>(n * m_.k + k)];
          row[static_cast<size_t>(n)] = m_.act == 0 ? sum : sum / (1 + std::exp(-sum));
        }
        for (int64_t h = 0; h < 2 * m_.heads; ++h) turn_head(row.data() + h * m_.depth, s.norm[h / m_.heads].data(), rope_.data() + t * m_.depth);
        all.insert(all.end(), row.begin(), row.end());
      }
    return all;
  }

 private:
  struct Stream { std::vector<double> w, b, norm[2]; };

  std::vector<double> values(int64_t n, double spread, bool narrow) {
    std::vector<double> v(static_cast<size_t>(n));
    for (double& d : v) d = rounded(spread * random_.normal(), narrow ? DType::kBF16 : DType::kF32);
    return v;
  }

  void turn_head(double* v, const double* weight, const double* turn) const {
    double sum = 0;
    for (int64_t i = 0; i < m_.depth; ++i) sum += v[i] * v[i];
    const double scale = 1 / std::sqrt(sum / static_cast<double>(m_.depth) + 1e-6);
    for (int64_t i = 0; i < m_.depth; i += 2) {
      const double a = v[i] * scale * weight[i], b = v[i + 1] * scale * weight[i + 1];
      v[i] = a * turn[i] - b * turn[i + 1];
      v[i + 1] = b * turn[i] + a * turn[i + 1];
    }
  }

  template <class T>
  void add(std::vector<ecad_tensor_desc>* descs, const std::string& name, const std::vector<int64_t>& dims, const std::vector<T>& v) {
    stored_.emplace_back(name, std::vector<char>(reinterpret_cast<const char*>(v.data()), reinterpret_cast<const char*>(v.data() + v.size())));
    ecad_tensor_desc d{stored_.back().first.c_str(), sizeof(T) == 2 ? ECAD_BFLOAT16 : ECAD_FLOAT32, static_cast<int32_t>(dims.size()), {1, 1, 1, 1}, stored_.back().second.data(), stored_.back().second.size()};
    std::copy(dims.begin(), dims.end(), d.dims);
    descs->push_back(d);
  }

  const Model m_;
  Random random_;
  std::vector<double> x_, rope_;
  Stream streams_[2];
  std::list<std::pair<std::string, std::vector<char>>> stored_;
};

Handle<ecad_device> open_cuda(int32_t isa) {
  ecad_device_config config = ECAD_DEVICE_CONFIG_INIT;
  config.backend = ECAD_BACKEND_CUDA;
  config.isa = isa;
  ecad_device* device = nullptr;
  CHECK_OK(ecad_device_open(&config, &device, &err));
  return Handle<ecad_device>(device);
}

// [B,T,3C] as the program's outputs hold it.
std::vector<double> outputs(ecad_state* state, const Model& m) {
  const int64_t rows = m.samples * m.tokens(), w = m.width();
  std::vector<uint16_t> qk(static_cast<size_t>(rows * 2 * w), 0x7fc0), v(static_cast<size_t>(rows * w), 0x7fc0);
  CHECK_OK(ecad_state_read(state, "qk", qk.data(), qk.size() * 2, &err));
  CHECK_OK(ecad_state_read(state, "v", v.data(), v.size() * 2, &err));
  std::vector<double> all;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < 2 * w; ++c) all.push_back(load_element(qk.data(), DType::kBF16, r * 2 * w + c));
    for (int64_t c = 0; c < w; ++c) all.push_back(load_element(v.data(), DType::kBF16, r * w + c));
  }
  return all;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    sum += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(sum / norm);
}

// How often qk_norm_rope's own kernel was launched while it lives; -1 on a GPU.
class OwnLaunches {
 public:
#ifdef ECAD_EMULATE
  OwnLaunches() {
    cuda::emu::set_observer([this](const cuda::emu::Report& r) { count += r.kernel.find("qk_norm_rope_kernel") != std::string::npos; });
  }
  ~OwnLaunches() { cuda::emu::set_observer({}); }
  int count = 0;
#else
  const int count = -1;
#endif
};

// Runs the model as a whole and op by op. apart: how many of its two qk_norm_rope the executor is to leave by themselves.
void run(const Model& m, int32_t isa, int apart) {
  Joint joint(m);
  const auto device = open_cuda(isa);
  const auto weights = joint.weights(device.get());
  const auto program = load(device.get(), weights.get(), joint.program());
  const auto state = new_state(program.get());
  const std::vector<uint16_t> x = joint.x();
  CHECK_OK(ecad_state_write(state.get(), "x", x.data(), x.size() * 2, &err));
  const auto run_once = [&](uint32_t flags) {
    OwnLaunches own;
    ecad_run_args args = ECAD_RUN_ARGS_INIT;
    args.flags = flags;
    CHECK_OK(ecad_run_schedule(state.get(), program.get(), 0, &args, &err));
    return own.count;
  };
  const int launches = run_once(0);
  const std::vector<double> whole = outputs(state.get(), m), truth = joint.truth();
  for (int i = 0; i < 2; ++i) {  // captured, and as a graph
    run_once(0);
    CHECK(outputs(state.get(), m) == whole);
  }
  const int all = run_once(ECAD_RUN_CHECK_FINITE);  // op by op
  const std::vector<double> by_op = outputs(state.get(), m);
  const double error = distance(whole, truth), error_by_op = distance(by_op, truth);
  if (launches >= 0) {
    CHECK_EQ(launches, apart);
    CHECK_EQ(all, 2);
  }
  CHECK(error <= error_by_op);
  if (apart == 2) CHECK(whole == by_op);
  else if (launches >= 0) CHECK(error < error_by_op);
  if (!(error < 0.005)) check::report(false, __FILE__, __LINE__, "error " + std::to_string(error));
}

}  // namespace

TEST(two_ops_are_one) {
  for (const int32_t isa : {ECAD_ISA_AUTO, ECAD_ISA_GENERIC}) {
    run({1, 70, 130, 72, 2, 64}, isa, 0);
    run({2, 40, 96, 64, 1, 128}, isa, 0);
  }
  run({1, 70, 80, 64, 1, 64, 0, true, true}, ECAD_ISA_GENERIC, 0);
  run({1, 20, 80, 64, 1, 64}, ECAD_ISA_AUTO, 1);  // text of few rows: streamed weights
}

TEST(two_ops_stay_two) {
  for (const int32_t isa : {ECAD_ISA_AUTO, ECAD_ISA_GENERIC}) {
    run({1, 70, 80, 64, 2, 32}, isa, 2);            // head dim without a kernel
    run({1, 70, 80, 64, 1, 64, 3}, isa, 2);         // an activation between them
    run({1, 70, 80, 64, 1, 64, 0, false}, isa, 2);  // what lies between stays
    run({1, 70, 100, 1024, 1, 64}, isa, 2);         // other tiles do the product sooner
  }
  run({1, 70, 80, 64, 1, 64, 0, true, true}, ECAD_ISA_AUTO, 2);  // maps behind the table are of other tiles
}

CHECK_MAIN()
