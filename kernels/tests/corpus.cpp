#include "corpus.h"

namespace corpus {

using namespace writer;

namespace {

constexpr int64_t kB = 2, kN = 4, kC = 6, kHeads = 2, kWidth = 8;

struct Weight {
  const char* name;
  Dims dims;
};
const std::vector<Weight>& weight_list() {
  static const std::vector<Weight> all = {{"qkv.weight", {3 * kC, kC}}, {"qkv.bias", {3 * kC}}, {"up.weight", {kWidth, kC}}, {"gate.weight", {kWidth, kC}}, {"patch.weight", {kC, 3, 2, 2}},
                                          {"patch.bias", {kC}},         {"table", {5, kC}},     {"norm.weight", {kC}},       {"conv.weight", {kC, kC, 3, 3}}, {"out.weight", {12, kC}}};
  return all;
}

uint32_t find(Program* p, const char* name) {
  for (const Weight& w : weight_list()) {
    if (std::strcmp(w.name, name) == 0) return p->weight(name, w.dims);
  }
  throw check::Abandon();
}

// Prologue: everything that the steps share.
void prologue(Program* p, uint32_t modulation, uint32_t text) {
  p->section(0, "prologue");
  const float t[3] = {900, 500, 100};
  const uint32_t times = p->constant(kF32, {3}, t);
  p->op(kTimestepEmbed, {times}, {modulation}, {1}, {10000, 1, 0}, "t.embed");
  const int32_t ids[2][2] = {{0, 4}, {3, 1}};
  p->op(kEmbedding, {p->constant(kI32, {2, 2}, ids), find(p, "table")}, {text}, {}, {}, "text.embed");
}

}  // namespace

Program every_op() {
  Program p;
  p.steps = 3;
  const uint32_t latents = p.persistent("latents", kF32, {kB, 3, 4, 4}), counts = p.persistent("counts", kI32, {kB});
  const uint32_t modulation = p.persistent("modulation", kF32, {3, kC}), text = p.persistent("text", kBF16, {kB, 2, kC});
  const uint32_t slot = p.persistent("block0.attn", kBF16, {kB, kN, kC}, 1);
  prologue(&p, modulation, text);
  const uint32_t row = p.view(modulation, {1, kC}, {kC, 1}, 0, kC);

  p.section(1, "step");
  const uint32_t x = p.arena(kF32, {kB, kN, kC}), normed = p.arena(kBF16, {kB, kN, kC});
  p.op(kPatchEmbed, {latents, find(&p, "patch.weight"), find(&p, "patch.bias")}, {x}, {2, 1}, {}, "patch");
  const uint32_t norm_weight = find(&p, "norm.weight");
  p.op(kChain, {x, kAbsent, kAbsent, norm_weight}, {kAbsent, normed}, {0, 2}, {1e-6}, "norm");
  const uint32_t qkv = p.arena(kBF16, {kB, kN, 3 * kC});
  p.op(kLinear, {normed, find(&p, "qkv.weight"), find(&p, "qkv.bias")}, {qkv}, {1, 1, 0}, {}, "qkv");
  const auto part = [&](uint64_t i) { return p.view(qkv, {kB, kN, kC}, {kN * 3 * kC, 3 * kC, 1}, i * kC); };
  float rope[kN][kC];
  for (int64_t n = 0; n < kN; ++n)
    for (int64_t m = 0; m < kC; m += 2) {
      rope[n][m] = std::cos(static_cast<float>(n * (m + 1)));
      rope[n][m + 1] = std::sin(static_cast<float>(n * (m + 1)));
    }
  p.op(kQkNormRope, {part(0), part(1), norm_weight, norm_weight, p.constant(kF32, {kN, kC}, rope)}, {part(0), part(1)}, {1, kC}, {1e-6}, "rotate");
  OpRecord& attn = p.op(kAttention, {part(0), part(1), part(2), counts}, {slot}, {kHeads, kC / kHeads, 0}, {0.57}, "attn");
  attn.block = 0;
  attn.component = 0;
  p.op(kChain, {x, slot, row, row, row}, {x, normed}, {1, 1}, {1e-6}, "residual");
  const uint32_t wide = p.arena(kF32, {kB, kN, kWidth});
  p.op(kGatedLinear, {normed, find(&p, "gate.weight"), find(&p, "up.weight")}, {wide}, {3}, {}, "ff");
  p.op(kUnary, {wide}, {wide}, {2}, {}, "act");
  const uint32_t patches = p.arena(kF32, {kB, kN, 12}), noise = p.arena(kF32, {kB, 3, 4, 4});
  p.op(kLinear, {x, find(&p, "out.weight")}, {patches}, {1, 1, 1}, {}, "out");
  p.op(kUnpatchify, {patches}, {noise}, {2, 0, 3}, {}, "unpatchify");
  const double mix[3][2] = {{1, -0.5}, {0.9, 0}, {0.8, 0.1}};
  p.op(kLincomb, {latents, noise, p.view(p.constant(kF64, {3, 2}, mix), {2}, {1}, 0, 2)}, {latents}, {2, 1}, {-50, 50}, "sample");

  p.section(2, "image");
  const uint32_t image = p.arena(kF16, {kB, 4, 4, kC}), grey = p.arena(kF32, {kB, 4, 4, kC}), channels = p.arena(kF32, {kB, kC, 4, 4}), large = p.arena(kF32, {kB, 8, 8, kC});
  const float spread[kC] = {1, 2, 3, 4, 5, 6};
  const uint32_t constant = p.constant(kF32, {kC}, spread);
  p.op(kCopy, {p.view(constant, {kB, 4, 4, kC}, {0, 0, 0, 1})}, {image}, {}, {}, "fill");
  p.op(kConv2d, {image, find(&p, "conv.weight")}, {grey}, {1, 1}, {}, "conv");
  p.op(kGroupNorm, {grey, norm_weight, constant}, {image}, {2, 3}, {1e-5}, "group");
  p.op(kAdd, {image, p.view(constant, {1, 1, 1, kC}, {kC, kC, kC, 1})}, {grey}, {}, {}, "shift");
  p.op(kUpsample, {grey}, {large}, {2}, {}, "up");
  p.op(kPermute, {grey}, {channels}, {0, 3, 1, 2}, {}, "permute");
  p.io("latents", latents, 3);
  p.io("counts", counts, 1);
  p.schedule("all", {{0, 0}, {1, 0}, {1, 1}, {1, 2}, {2, 2}});
  p.schedule("image alone", {{2, 0}});
  return p;
}

Program joint() {
  constexpr int64_t kText = 2, kAll = kText + kN;
  Program p;
  const uint32_t latents = p.persistent("latents", kF32, {kB, 3, 4, 4}), text = p.persistent("text", kF32, {kB, kText, kC}), out = p.persistent("out", kBF16, {kB, kAll, kC});
  const float turn[kAll][kC] = {{1, 0, 1, 0, 1, 0}, {1, 0, 1, 0, 1, 0}, {0, 1, 1, 0, 0.6f, 0.8f}, {1, 0, 0, 1, 0.6f, 0.8f}, {0, 1, 0, 1, 0, -1}, {0.8f, -0.6f, 1, 0, 0, 1}};
  const uint32_t rope = p.constant(kF32, {kAll, kC}, turn), norm = find(&p, "norm.weight"), weight = find(&p, "qkv.weight"), bias = find(&p, "qkv.bias");
  p.section(1, "step");
  const uint32_t x = p.arena(kF32, {kB, kAll, kC}), normed = p.arena(kBF16, {kB, kAll, kC}), qkv = p.arena(kBF16, {kB, kAll, 3 * kC}), attended = p.arena(kF32, {kB, kAll, kC});
  // rows first..first+n of a joint buffer, columns from `column` on
  const auto rows = [&](uint32_t of, int64_t first, int64_t n, int64_t width, int64_t column, int64_t columns) {
    return p.view(of, {kB, n, columns}, {kAll * width, width, 1}, static_cast<uint64_t>(first * width + column));
  };
  const auto stream = [&](uint32_t of, bool image) { return rows(of, image ? kText : 0, image ? kN : kText, kC, 0, kC); };
  p.op(kPatchEmbed, {latents, find(&p, "patch.weight"), find(&p, "patch.bias")}, {stream(x, true)}, {2, 1}, {}, "x_embedder");
  p.op(kChain, {text}, {stream(x, false), stream(normed, false)}, {0, 1}, {1e-6}, "text.norm");
  p.op(kChain, {stream(x, true)}, {kAbsent, stream(normed, true)}, {0, 1}, {1e-6}, "image.norm");
  for (const bool image : {true, false}) {
    const int64_t first = image ? kText : 0, n = image ? kN : kText;
    p.op(kLinear, {stream(normed, image), weight, bias}, {rows(qkv, first, n, 3 * kC, 0, 3 * kC)}, {1, 1, 0}, {}, "qkv");
    const uint32_t q = rows(qkv, first, n, 3 * kC, 0, kC), k = rows(qkv, first, n, 3 * kC, kC, kC);
    p.op(kQkNormRope, {q, k, norm, norm, p.view(rope, {n, kC}, {kC, 1}, static_cast<uint64_t>(first * kC))}, {q, k}, {1, kC}, {1e-6}, "rotate");
  }
  const auto all = [&](int64_t part) { return rows(qkv, 0, kAll, 3 * kC, part * kC, kC); };
  p.op(kAttention, {all(0), all(1), all(2)}, {attended}, {1, kC, 0}, {0.4}, "attn");
  p.op(kChain, {attended}, {out}, {0, 0}, {}, "keep");
  p.io("latents", latents, 1);
  p.io("text", text, 1);
  p.io("out", out, 2);
  p.schedule("s", {{0, 0}});
  return p;
}

Program small() {
  Program p;
  p.steps = 2;
  const double c[2][1] = {{2}, {0}};
  const uint32_t x = p.persistent("x", kF32, {2, 3}), t = p.arena(kF32, {2, 3});
  p.op(kUnary, {x}, {t}, {1}, {}, "act");
  p.op(kLincomb, {t, p.view(p.constant(kF64, {2, 1}, c), {1}, {1}, 0, 1)}, {x}, {1, 0}, {}, "mix");
  p.io("x", x, 3);
  p.schedule("s", {{0, 0}, {0, 1}});
  return p;
}

std::vector<ecad_tensor_desc> tensors() {
  static const std::vector<float> data(4096, 0.125f);
  std::vector<ecad_tensor_desc> descs;
  for (const Weight& w : weight_list()) {
    ecad_tensor_desc d{w.name, ECAD_FLOAT32, static_cast<int32_t>(w.dims.size()), {1, 1, 1, 1}, data.data(), 4};
    for (size_t i = 0; i < w.dims.size(); ++i) {
      d.dims[i] = w.dims[i];
      d.nbytes *= static_cast<uint64_t>(w.dims[i]);
    }
    descs.push_back(d);
  }
  return descs;
}

Handle<ecad_weights> weights(ecad_device* device) {
  const auto descs = tensors();
  ecad_weights* out = nullptr;
  CHECK_OK(ecad_weights_create(device, descs.data(), descs.size(), &out, &err));
  return Handle<ecad_weights>(out);
}

}  // namespace corpus
