// Opcode chain.
#include "../core/text.h"
#include "kernels/chain.h"
#include "operands.h"

namespace ecad::cuda {
namespace {

constexpr int64_t kMaxChannels = 8192;  // a thread holds 8, a block has 1024

// At most kMaxChainTerms terms go into a launch; longer chains pass a float32 sum through scratch.
class Chain final : public CudaOp {
 public:
  using CudaOp::CudaOp;

  Status bind(const Binder& b) {
    const auto n = static_cast<size_t>(b.op.attr[0]);
    ECAD_TRY(computed_input(b, 0, "x", &x_));
    for (size_t i = 0; i < n; ++i) {
      Term t;
      ECAD_TRY(computed_input(b, 1 + 2 * i, "s", &t.slot));
      ECAD_TRY(computed_input(b, 2 + 2 * i, "g", &t.gate));
      terms_.push_back(t);
    }
    Source* last[] = {&scale_, &shift_, &weight_, &bias_};
    const char* names[] = {"scale", "shift", "weight", "bias"};
    for (size_t i = 0; i < 4; ++i) ECAD_TRY(computed_input(b, 1 + 2 * n + i, names[i], last[i]));
    ECAD_TRY(b.output(0, "x'", &sum_));
    ECAD_TRY(b.output(1, "y", &y_));
    const Tensor& x = *x_.tensor;
    if (x.dims[2] > kMaxChannels) return unsupported(text("adds rows of at most ", kMaxChannels, " channels: x has ", x.dims[2]));
    if (x.dims[0] > 65535 || x.dims[1] > (int64_t{1} << 30)) return unsupported(text("adds at most 65535 samples of 2^30 tokens: x is ", dims_text(x)));
    p_.tokens = static_cast<int32_t>(x.dims[1]);
    p_.cols = static_cast<int32_t>(x.dims[2]);
    p_.eps = static_cast<float>(b.op.fattr[0]);
    norm_ = static_cast<Norm>(b.op.attr[1]);
    shape_.batch = static_cast<int32_t>(x.dims[0]);
    choose(n);
    if (ceil_div(static_cast<int64_t>(n), kMaxChainTerms) > 1) ECAD_TRY(cx_.reserve_scratch(scratch_bytes()));
    return Status::ok();
  }

  Status enqueue(const Launch& l) override {
    p_.head = l.head;
    p_.wide = wide_;
    size_t first = 0;
    do {
      const size_t n = std::min<size_t>(terms_.size() - first, kMaxChainTerms);
      const bool starts = first == 0, ends = first + n == terms_.size();
      p_.x = starts ? view(x_, l) : scratch_view();
      p_.sum = !ends ? scratch_view() : view(sum_, l);
      p_.y = ends ? view(y_, l) : TokenView{};
      p_.norm = ends ? norm_ : Norm::kNone;
      p_.scale = view_of_sample(scale_, l);
      p_.shift = view_of_sample(shift_, l);
      p_.weight = view_of_sample(weight_, l);
      p_.bias = view_of_sample(bias_, l);
      for (size_t i = 0; i < n; ++i) p_.terms[i] = {view(terms_[first + i].slot, l), view_of_sample(terms_[first + i].gate, l)};
      p_.num_terms = static_cast<int32_t>(n);
      ECAD_TRY(launch_chain(l.stream->native(), shape_, p_));
      first += n;
    } while (first < terms_.size());
    return Status::ok();
  }

 private:
  struct Term { Source slot, gate; };

  // Wide operands and bfloat16 slots take the fast kernel; tokens are grouped when that leaves every multiprocessor two blocks.
  void choose(size_t n) {
    const auto row_wide = [](const Source& s) { return !s.present() || wide(*s.tensor, s.dtype); };
    const auto out_wide = [](const Sink& s) { return !s.present() || wide(*s.tensor, s.dtype); };
    bool all = row_wide(x_) && out_wide(sum_) && out_wide(y_), narrow = true;
    for (const Term& t : terms_) {
      all = all && row_wide(t.slot) && row_wide(t.gate);
      narrow = narrow && t.slot.dtype == DType::kBF16;
    }
    for (const Source* s : {&scale_, &shift_, &weight_, &bias_}) all = all && row_wide(*s);
    wide_ = all;
    shape_.fast = all && (narrow || n == 0);
    const int64_t rows = shape_.batch * static_cast<int64_t>(p_.tokens), threads = ceil_div(p_.cols, kVector);
    shape_.tokens_per_thread = shape_.fast && rows / 4 * threads >= int64_t{512} * cx_.device.multiprocessors ? 4 : 1;
  }

  size_t scratch_bytes() const { return static_cast<size_t>(shape_.batch) * static_cast<size_t>(p_.tokens) * static_cast<size_t>(p_.cols) * sizeof(float); }
  TokenView scratch_view() const {
    const int64_t row = static_cast<int64_t>(p_.cols) * 4;
    return {fixed_ref(cx_.scratch()), row * p_.tokens, row, Elem::kF32, 1, p_.cols % kVector == 0};
  }
  template <class Operand>
  static TokenView view(const Operand& o, const Launch& l) {
    TokenView v = token_view(o);
    if (o.present()) v.ref = o.ref(l);
    return v;
  }
  static SampleView view_of_sample(const Source& s, const Launch& l) {
    SampleView v = sample_view(s);
    if (s.present()) v.ref = s.ref(l);
    return v;
  }

  Source x_, scale_, shift_, weight_, bias_;
  std::vector<Term> terms_;
  Sink sum_, y_;
  Norm norm_ = Norm::kNone;
  bool wide_ = false;
  ChainShape shape_ = {};
  ChainParams<kMaxChainTerms> p_ = {};
};

}  // namespace

Status bind_chain(const Binder& b, std::unique_ptr<Kernel>* out) { return b.as<Chain>(out); }

}  // namespace ecad::cuda
