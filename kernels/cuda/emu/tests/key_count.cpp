// A wrong key count can be seen: attention told of one key too few gives other values, of one too many NaN, of more than there is memory for a report.
#include <algorithm>
#include <cmath>

#include "../../../tests/check.h"
#include "../../kernels/attention_sm90.h"
#include "emu_gemm.h"

namespace {

using namespace ecad::cuda;
namespace ptx = ecad::ptx;

constexpr int32_t kKeyRows = 40, kTrueKeys = 20;  // keys in memory; those that the sample has: NaN lies behind them

struct Attended {
  emu::Report report;
  bool finite = true, exact = true;  // every result is the mean of the values of the true keys
};

// One head of dim 64 whose queries are zeros, so that each result is the mean of the values 0, 1, 2, ... of its keys. keys, count: what the kernel is told.
Attended attend(bool wgmma, int32_t keys, int32_t count) {
  constexpr int32_t kDepth = 64, kQueries = 24;
  const auto bytes = [](int32_t rows) { return static_cast<size_t>(rows) * kDepth * 2; };
  emu_test::Buffer q(bytes(kQueries)), k(bytes(kKeyRows)), v(bytes(kKeyRows)), y(bytes(kQueries)), counts(4), frame(sizeof(Frame)), crumb(sizeof(Breadcrumb));
  std::fill_n(q.as<ptx::bf16>(), kQueries * kDepth, ptx::to_bf16(0));
  for (int32_t i = 0; i < kTrueKeys * kDepth; ++i) {
    k.as<ptx::bf16>()[i] = ptx::to_bf16(emu_test::integer_at(static_cast<uint64_t>(i), 1));
    v.as<ptx::bf16>()[i] = ptx::to_bf16(static_cast<float>(i / kDepth));
  }
  *counts.as<int32_t>() = count;
  *crumb.as<Breadcrumb>() = {};
  *frame.as<Frame>() = {crumb.as<Breadcrumb>(), 0, 0, {nullptr}};
  AttentionSm90Params a = {};
  AttentionParams& p = a.base;
  const auto view = [](emu_test::Buffer& b) { return TokenView{fixed_ref(b.as<void>()), 0, kDepth * 2, Elem::kBF16, 1, 1}; };
  p.head = {frame.as<Frame>(), 0, 0};
  p.q = view(q), p.k = view(k), p.v = view(v), p.y = view(y);
  p.counts = fixed_ref(counts.as<void>());
  p.has_counts = 1, p.heads = 1, p.depth = kDepth, p.queries = kQueries, p.keys = keys, p.scale = 0.125f;
  Attended r;
  emu::set_observer([&r](const emu::Report& report) { r.report = report; });
  if (wgmma) {
    const AttentionSm90Variant* variant = choose_attention_sm90(1, p, 4);
    const auto encode = [&](emu_test::Buffer& b, const TokenView& view, int32_t rows, int32_t box, TensorMap* map) {
      TensorMapDesc maps[2];
      attention_maps(b.as<void>(), view, 1, rows, p, box, maps);
      CHECK(emu::encode_tensor_map(maps[0], map).is_ok());
    };
    encode(q, p.q, kQueries, 64 * variant->consumers, &a.q[0]);
    encode(k, p.k, keys, variant->keys, &a.k[0]);
    encode(v, p.v, keys, variant->keys, &a.v[0]);
    (void)variant->launch(nullptr, 1, a);
  } else {
    (void)launch_attention_mma(nullptr, false, 1, p);
  }
  emu::set_observer({});
  for (int32_t i = 0; i < kQueries * kDepth; ++i) {
    const float got = ptx::to_f32(y.as<ptx::bf16>()[i]);
    r.finite = r.finite && std::isfinite(got);
    r.exact = r.exact && got == (kTrueKeys - 1) / 2.0f;
  }
  return r;
}

TEST(wrong_key_count) {
  for (const bool wgmma : {false, true}) {
    const Attended right = attend(wgmma, kKeyRows, kTrueKeys);
    CHECK_EQ(right.report.text(), "");
    CHECK(right.exact);
    const Attended fewer = attend(wgmma, kKeyRows, kTrueKeys - 1);  // every access is in order: the values tell
    CHECK_EQ(fewer.report.text(), "");
    CHECK(fewer.finite && !fewer.exact);
    CHECK(!attend(wgmma, kKeyRows, kTrueKeys + 1).finite);          // what lies behind the keys is NaN
    CHECK(attend(wgmma, kKeyRows + 1, kKeyRows + 1).report.has(emu::Fault::kBounds));  // more keys than there is memory
  }
}

}  // namespace

CHECK_MAIN()
