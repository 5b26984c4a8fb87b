// Every opcode of the reference backend against formulas written once more, in float64 over index functions, for all float types, strided
// and step-indexed operands, constants and weights.
#include "one_op.h"

TEST(copy_and_permute) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const In x = operand({2, 3, 4, 5}, wide, true);
    Out y = result({2, 3, 4, 5}, false);
    expect(run_op(writer::kCopy, {x}, {y})[0], x.a, y.dtype, true, "copy");
    y.dims = {4, 2, 5, 3};
    const Array want = made(y.dims, [&](int64_t i, int64_t j, int64_t k, int64_t l) { return x.a(j, l, i, k); });
    expect(run_op(writer::kPermute, {x}, {y}, {2, 0, 3, 1})[0], want, y.dtype, true, "permute");
  }
  // Integers move unchanged, large ones too.
  const In ids{made({2, 3, 1, 2}, [](int64_t i, int64_t j, int64_t, int64_t l) { return 2147483647.0 - static_cast<double>(7 * i + 3 * j + l); }), kI32, Where::kStrided, false};
  CHECK(run_op(writer::kCopy, {ids}, {{ids.a.dims, kI32, false}})[0].v == ids.a.v);
}

TEST(linear) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const int kind = round % 6;
    const In x1 = operand({2, 5, 7}, wide), x2 = operand({2, 5, 4}, wide), w1 = operand({6, 11}, wide, true, 0.3), w2 = operand({3, 11}, wide, true, 0.3), b = operand({3}, wide, true);
    const Out y = result({2, 5, 9}, wide);
    const Array want = made(y.dims, [&](int64_t i, int64_t j, int64_t n, int64_t) {
      const Array& w = n < 6 ? w1.a : w2.a;
      const int64_t row = n < 6 ? n : n - 6;
      double sum = n < 6 ? 0 : b.a(row);
      for (int64_t k = 0; k < 11; ++k) sum += (k < 7 ? x1.a(i, j, k) : x2.a(i, j, k - 7)) * w(row, k);
      return act(kind, sum);
    });
    expect(run_op(writer::kLinear, {x1, x2, w1, w2, absent(), b}, {y}, {2, 2, kind})[0], want, y.dtype, wide, "linear");
  }
}

TEST(linear_exact_by_hand) {
  const In x{made({1, 3}, [](int64_t, int64_t j, int64_t, int64_t) { return static_cast<double>(j + 1); }), kF32, Where::kDense, false};
  const In w{made({2, 3}, [](int64_t i, int64_t j, int64_t, int64_t) { return i == 0 ? 1.0 : static_cast<double>(j - 1); }), kBF16, Where::kWeight, false};
  const auto y = run_op(writer::kLinear, {x, w}, {{{1, 2}, kF32, false}}, {1, 1, 0})[0];  // the bias is left out
  CHECK(y.v == std::vector<double>({6, 2}));
}

TEST(gated_linear) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const In x = operand({3, 2, 6}, wide), g = operand({5, 6}, wide, true, 0.4), u = operand({5, 6}, wide, true, 0.4);
    const Out y = result({3, 2, 5}, wide);
    const Array want = made(y.dims, [&](int64_t i, int64_t j, int64_t n, int64_t) {
      double a = 0, b = 0;
      for (int64_t k = 0; k < 6; ++k) a += x.a(i, j, k) * g.a(n, k), b += x.a(i, j, k) * u.a(n, k);
      return act(round % 6, a) * b;
    });
    expect(run_op(writer::kGatedLinear, {x, g, u}, {y}, {round % 6})[0], want, y.dtype, wide, "gated_linear");
  }
}

TEST(attention) {
  for (int round = 0; round < 2 * kRounds; ++round) {
    const bool wide = round % 4 == 0, causal = round % 3 == 0, counted = round % 2 == 0, biased = round % 5 < 3;
    const int64_t heads = 2, depth = 3, queries = 4, keys = causal ? 4 : 6, c = heads * depth;
    const In q = operand({2, queries, c}, wide), k = operand({2, keys, c}, wide), v = operand({2, keys, c}, wide);
    const In counts{made({2}, [](int64_t b, int64_t, int64_t, int64_t) { return b == 0 ? 1.0 : 3.0; }), kI32, Where::kStep, !counted};
    In bias = operand({heads, queries, keys}, wide, true);
    bias.absent = !biased;
    const double scale = 0.7;
    const Out y = result({2, queries, c}, wide);
    const Array want = made(y.dims, [&](int64_t b, int64_t i, int64_t e, int64_t) {
      const int64_t h = e / depth, present = counted ? static_cast<int64_t>(counts.a(b)) : keys;
      double top = 0, bottom = 0;
      for (int64_t j = 0; j < present; ++j) {
        if (causal && j > i) continue;
        double score = 0;
        for (int64_t d = 0; d < depth; ++d) score += q.a(b, i, h * depth + d) * k.a(b, j, h * depth + d);
        const double p = std::exp(scale * score + (biased ? bias.a(h, i, j) : 0));
        top += p * v.a(b, j, e);
        bottom += p;
      }
      return top / bottom;
    });
    expect(run_op(writer::kAttention, {q, k, v, counts, bias}, {y}, {2, 3, causal ? 1 : 0}, {scale})[0], want, y.dtype, wide, "attention");
  }
}

TEST(qk_norm_rope) {
  for (int round = 0; round < 2 * kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const int64_t heads = 1 + round % 3, depth = 2 * (1 + round % 4), c = heads * depth;
    const In q = operand({2, 5, c}, wide), k = operand({2, 5, c}, wide), wq = operand({depth}, wide, true), wk = operand({depth}, wide, true), rope = operand({5, depth}, wide, true);
    const Out y = result({2, 5, c}, wide), z = result({2, 5, c}, wide);
    const double eps = round % 2 ? 1e-6 : 0.3;
    const auto got = run_op(writer::kQkNormRope, {q, k, wq, wk, rope}, {y, z}, {static_cast<int32_t>(heads), static_cast<int32_t>(depth)}, {eps});
    for (size_t i = 0; i < 2; ++i) {
      const Array &x = i == 0 ? q.a : k.a, &w = i == 0 ? wq.a : wk.a;
      const Array want = made(y.dims, [&](int64_t b, int64_t n, int64_t e, int64_t) {
        const int64_t first = e / depth * depth, d = e % depth, pair = d / 2 * 2;
        double mean = 0;
        for (int64_t j = 0; j < depth; ++j) mean += x(b, n, first + j) * x(b, n, first + j) / static_cast<double>(depth);
        const auto normed = [&](int64_t j) { return x(b, n, first + j) / std::sqrt(mean + eps) * w(j); };
        const double cosine = rope.a(n, pair), sine = rope.a(n, pair + 1);
        return d == pair ? normed(pair) * cosine - normed(pair + 1) * sine : normed(pair + 1) * cosine + normed(pair) * sine;
      });
      expect(got[i], want, i == 0 ? y.dtype : z.dtype, wide, i == 0 ? "q'" : "k'");
    }
  }
}

TEST(qk_norm_rope_by_hand) {  // norms of (3, 4) and (1, 1) without eps, a quarter turn
  const auto in = [](Dims dims, std::vector<double> v) {
    In i{Array(std::move(dims)), kF32, Where::kDense, false};
    i.a.v = std::move(v);
    return i;
  };
  const auto got = run_op(writer::kQkNormRope, {in({1, 1, 2}, {3, 4}), in({1, 1, 2}, {1, 1}), in({2}, {1, 2}), in({2}, {1, 1}), in({1, 2}, {0, 1})},
                          {{{1, 1, 2}, kF32, false}, {{1, 1, 2}, kF32, false}}, {1, 2}, {0.0});
  const double rms = std::sqrt(12.5);
  CHECK(check::near(got[0].v[0], -8 / rms, 1e-6) && check::near(got[0].v[1], 3 / rms, 1e-6));
  CHECK(check::near(got[1].v[0], -1, 1e-6) && check::near(got[1].v[1], 1, 1e-6));
}

TEST(attention_of_large_scores) {  // exp of 1000s must not overflow
  const In q{made({1, 1, 1}, [](int64_t, int64_t, int64_t, int64_t) { return 1000.0; }), kF32, Where::kDense, false};
  const In k{made({1, 2, 1}, [](int64_t, int64_t j, int64_t, int64_t) { return j == 0 ? 5.0 : 5.001; }), kF32, Where::kDense, false};
  const In v{made({1, 2, 1}, [](int64_t, int64_t j, int64_t, int64_t) { return static_cast<double>(j); }), kF32, Where::kDense, false};
  const double got = run_op(writer::kAttention, {q, k, v}, {{{1, 1, 1}, kF32, false}}, {1, 1, 0}, {1.0})[0].v[0];
  CHECK(check::near(got, 1 / (1 + std::exp(-1.0)), 2e-4));
}

TEST(chain) {
  for (int round = 0; round < 3 * kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const int norm = round % 3, n = round % 4;
    const Dims dims{2, 3, 8};
    const In x = operand(dims, wide, false, 2);
    std::vector<In> in{x};
    for (int i = 0; i < n; ++i) {
      in.push_back(operand(dims, wide));
      in.push_back(i == 1 ? absent() : operand({i == 0 ? 1 : 2, 8}, wide));
    }
    const bool modulated = round % 2 == 0, affine = round % 5 < 2;
    const In scale = modulated ? operand({2, 8}, wide) : absent(), shift = modulated ? operand({1, 8}, wide) : absent();
    const In weight = affine ? operand({8}, wide, true) : absent(), bias = round % 5 == 1 ? operand({8}, wide, true) : absent();
    for (const In& i : {scale, shift, weight, bias}) in.push_back(i);
    const double eps = 1e-3;
    Out sum = result(dims, wide), y = result(dims, wide);
    sum.absent = round % 7 == 1;
    y.absent = round % 7 == 2;
    const Array want_sum = made(dims, [&](int64_t b, int64_t t, int64_t c, int64_t) {
      double s = x.a(b, t, c);
      for (int i = 0; i < n; ++i) {
        const In& term = in[static_cast<size_t>(1 + 2 * i)];
        const In& gate = in[static_cast<size_t>(2 + 2 * i)];
        s += term.a(b, t, c) * (gate.absent ? 1 : gate.a(gate.a.dims[0] == 1 ? 0 : b, c));
      }
      return s;
    });
    const Array want_y = made(dims, [&](int64_t b, int64_t t, int64_t c, int64_t) {
      double mean = 0, square = 0;
      for (int64_t k = 0; k < 8; ++k) mean += want_sum(b, t, k) / 8;
      for (int64_t k = 0; k < 8; ++k) square += std::pow(want_sum(b, t, k) - (norm == 1 ? mean : 0), 2) / 8;
      double v = want_sum(b, t, c);
      if (norm == 1) v = (v - mean) / std::sqrt(square + eps);
      if (norm == 2) v = v / std::sqrt(square + eps);
      if (affine) v *= weight.a(c);
      if (!bias.absent) v += bias.a(c);
      return modulated ? v * (1 + scale.a(b, c)) + shift.a(0, c) : v;
    });
    const auto got = run_op(writer::kChain, in, {sum, y}, {n, norm}, {eps});
    if (!sum.absent) expect(got[0], want_sum, sum.dtype, wide, "chain x'");
    if (!y.absent) expect(got[1], want_y, y.dtype, wide, "chain y");
  }
}

TEST(patch_embed_and_unpatchify) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const In x = operand({2, 3, 4, 6}, wide), w = operand({5, 3, 2, 2}, wide, true), b = round % 2 ? operand({5}, wide, true) : absent(), pos = round % 3 ? operand({6, 5}, wide, true) : absent();
    const Out y = result({4, 6, 5}, wide);
    const Array want = made(y.dims, [&](int64_t rb, int64_t n, int64_t o, int64_t) {
      double s = (b.absent ? 0 : b.a(o)) + (pos.absent ? 0 : pos.a(n, o));
      for (int64_t c = 0; c < 3; ++c) for (int64_t p = 0; p < 2; ++p) for (int64_t q = 0; q < 2; ++q) s += x.a(rb % 2, c, n / 3 * 2 + p, n % 3 * 2 + q) * w.a(o, c, p, q);
      return s;
    });
    expect(run_op(writer::kPatchEmbed, {x, w, b, pos}, {y}, {2, 2})[0], want, y.dtype, wide, "patch_embed");

    const int order = round % 2;
    const In tokens = operand({2, 6, 12}, wide);
    const Out image = result({2, 2, 4, 6}, wide);  // two of the three channels
    const Array picture = made(image.dims, [&](int64_t i, int64_t c, int64_t r, int64_t s) {
      return tokens.a(i, r / 2 * 3 + s / 2, order == 0 ? (r % 2 * 2 + s % 2) * 3 + c : c * 4 + r % 2 * 2 + s % 2);
    });
    expect(run_op(writer::kUnpatchify, {tokens}, {image}, {2, order, 3})[0], picture, image.dtype, wide, "unpatchify");
  }
}

TEST(timestep_embed) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0, cos_first = round % 2 == 0;
    const In t{made({3}, [&](int64_t i, int64_t, int64_t, int64_t) { return i == 0 ? 0 : i == 1 ? 7.5 : 31; }), wide ? uint32_t{kF64} : uint32_t{kF32}, Where::kDense, false};
    const double shift = round % 3 == 0 ? 1 : 0, scale = round % 5 == 0 ? 2 : 1;
    const Out y = result({3, 10}, wide);
    const Array want = made(y.dims, [&](int64_t i, int64_t e, int64_t, int64_t) {
      const double a = scale * t.a(i) * std::exp(-std::log(10000.0) * static_cast<double>(e % 5) / (5 - shift));
      return (e < 5) == cos_first ? std::cos(a) : std::sin(a);
    });
    expect(run_op(writer::kTimestepEmbed, {t}, {y}, {cos_first ? 1 : 0}, {10000, scale, shift})[0], want, y.dtype, wide, "timestep_embed");
  }
}

TEST(embedding) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const In ids{made({2, 3}, [](int64_t i, int64_t j, int64_t, int64_t) { return static_cast<double>((5 * i + 3 * j) % 7); }), kI32, round % 2 ? Where::kStrided : Where::kStep, false};
    const In table = operand({7, 4}, wide, true);
    const Out y = result({2, 3, 4}, wide);
    const Array want = made(y.dims, [&](int64_t i, int64_t j, int64_t c, int64_t) { return table.a(static_cast<int64_t>(ids.a(i, j)), c); });
    expect(run_op(writer::kEmbedding, {ids, table}, {y})[0], want, y.dtype, true, "embedding");
  }
}

TEST(lincomb) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0, clamp = round % 2 == 0;
    const In a = operand({2, 3}, wide), b = operand({2, 3}, wide), c = operand({2, 3}, wide);
    const In k{made({3}, [](int64_t i, int64_t, int64_t, int64_t) { return i == 1 ? 0 : 0.3 - static_cast<double>(i); }), kF64, round % 3 ? Where::kStep : Where::kConstant, false};
    const Out y = result({2, 3}, wide);
    const Array want = made(y.dims, [&](int64_t i, int64_t j, int64_t, int64_t) {
      const double s = 0.3 * a.a(i, j) - 1.7 * c.a(i, j);
      return clamp ? std::min(std::max(s, -0.5), 0.25) : s;
    });
    const auto got = clamp ? run_op(writer::kLincomb, {a, b, c, k}, {y}, {3, 1}, {-0.5, 0.25}) : run_op(writer::kLincomb, {a, b, c, k}, {y}, {3, 0});
    expect(got[0], want, y.dtype, true, "lincomb");
  }
}

TEST(add_spreads) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const In a = operand({2, 1, 4, 3}, wide, true), b = operand({1, 5, 4, 1}, wide, true);
    const Out y = result({2, 5, 4, 3}, wide);
    const Array want = made(y.dims, [&](int64_t i, int64_t j, int64_t k, int64_t l) { return a.a(i, 0, k, l) + b.a(0, j, k, 0); });
    expect(run_op(writer::kAdd, {a, b}, {y})[0], want, y.dtype, wide, "add");
  }
}

TEST(unary) {
  for (int kind = 0; kind < 6; ++kind) {
    for (bool wide : {false, true}) {
      In x = operand({4, 9}, wide, false, 3);
      x.a.v[0] = 40, x.a.v[1] = -40, x.a.v[2] = 0;
      const Out y = result({4, 9}, wide);
      const Array want = made(y.dims, [&](int64_t i, int64_t j, int64_t, int64_t) { return act(kind, x.a(i, j)); });
      expect(run_op(writer::kUnary, {x}, {y}, {kind})[0], want, y.dtype, wide, "unary");
    }
  }
}

TEST(conv2d) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const int stride = 1 + round % 2, pad = round % 3;
    const int64_t h = 5, wd = 6, kh = 3, kw = 2, ho = (h + 2 * pad - kh) / stride + 1, wo = (wd + 2 * pad - kw) / stride + 1;
    const In x = operand({2, h, wd, 3}, wide), w = operand({4, 3, kh, kw}, wide, true), b = round % 2 ? operand({4}, wide, true) : absent();
    const Out y = result({2, ho, wo, 4}, wide);
    const Array want = made(y.dims, [&](int64_t n, int64_t i, int64_t j, int64_t o) {
      double s = b.absent ? 0 : b.a(o);
      for (int64_t p = 0; p < kh; ++p) for (int64_t q = 0; q < kw; ++q) for (int64_t c = 0; c < 3; ++c) {
        const int64_t r = i * stride + p - pad, t = j * stride + q - pad;
        if (r >= 0 && r < h && t >= 0 && t < wd) s += x.a(n, r, t, c) * w.a(o, c, p, q);
      }
      return s;
    });
    expect(run_op(writer::kConv2d, {x, w, b}, {y}, {stride, pad})[0], want, y.dtype, wide, "conv2d");
  }
}

TEST(group_norm_and_upsample) {
  for (int round = 0; round < kRounds; ++round) {
    const bool wide = round % 4 == 0;
    const In x = operand({2, 3, 2, 6}, wide, false, 2), w = operand({6}, wide, true), b = operand({6}, wide, true);
    Out y = result({2, 3, 2, 6}, wide);
    const Array want = made(y.dims, [&](int64_t n, int64_t i, int64_t j, int64_t c) {
      const int64_t first = c / 2 * 2;
      double mean = 0, square = 0;
      for (int64_t p = 0; p < 3; ++p) for (int64_t q = 0; q < 2; ++q) for (int64_t k = first; k < first + 2; ++k) mean += x.a(n, p, q, k) / 12;
      for (int64_t p = 0; p < 3; ++p) for (int64_t q = 0; q < 2; ++q) for (int64_t k = first; k < first + 2; ++k) square += std::pow(x.a(n, p, q, k) - mean, 2) / 12;
      return act(round % 6, (x.a(n, i, j, c) - mean) / std::sqrt(square + 1e-6) * w.a(c) + b.a(c));
    });
    expect(run_op(writer::kGroupNorm, {x, w, b}, {y}, {3, round % 6}, {1e-6})[0], want, y.dtype, wide, "group_norm");
    y.dims = {2, 9, 6, 6};
    const Array larger = made(y.dims, [&](int64_t n, int64_t i, int64_t j, int64_t c) { return x.a(n, i / 3, j / 3, c); });
    expect(run_op(writer::kUpsample, {x}, {y}, {3})[0], larger, y.dtype, true, "upsample");
  }
}

CHECK_MAIN()
