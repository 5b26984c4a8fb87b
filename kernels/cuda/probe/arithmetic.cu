// Probes of conversions and approximate functions. Bounds: the PTX ISA's tables of maximum errors, with the half ulp that the emulator itself rounds.
#include "probe.cuh"

namespace ecad::cuda::probe {
namespace {

using ptx::f32;
using ptx::u32;

constexpr u32 kCount = 4096;

ECAD_DEVICE u32 index() { return ptx::block_x() * ptx::block_threads() + ptx::thread_id(); }
ECAD_DEVICE f32 input(const ProbeParams& p, u32 i) { return ptx::ld_global<f32>(static_cast<const f32*>(p.in) + i); }

ECAD_KERNEL narrowing(ECAD_PARAMS(ProbeParams) p) {
  const u32 i = index();
  const f32 a = input(p, i), b = input(p, kCount + i);
  const u32 pair = ptx::pack_bf16(a, b);
  put(p, 4 * i, pair);
  put(p, 4 * i + 1, u32(ptx::to_bf16(a).bits));
  put(p, 4 * i + 2, ptx::float_as_u32(ptx::low_f32(pair)));
  put(p, 4 * i + 3, ptx::float_as_u32(ptx::high_f32(pair)) ^ ptx::float_as_u32(ptx::to_f32(ptx::to_bf16(b))));
}

ECAD_KERNEL fused_multiply_add(ECAD_PARAMS(ProbeParams) p) {
  const u32 i = index();
  const f32 v = ptx::fma_rn(input(p, i), input(p, i + 1), input(p, i + 2));
  put(p, i, v == v ? ptx::float_as_u32(ptx::u32_as_float(ptx::float_as_u32(v))) : 1u);  // NaNs have many encodings
}

struct Ex2 { static ECAD_DEVICE f32 of(f32 x) { return ptx::ex2_approx(x); } };
struct Lg2 { static ECAD_DEVICE f32 of(f32 x) { return ptx::lg2_approx(x); } };
struct Rcp { static ECAD_DEVICE f32 of(f32 x) { return ptx::rcp_approx(x); } };
struct Rsqrt { static ECAD_DEVICE f32 of(f32 x) { return ptx::rsqrt_approx(x); } };
struct Tanh { static ECAD_DEVICE f32 of(f32 x) { return ptx::tanh_approx(x); } };

template <class F>
ECAD_KERNEL approximate(ECAD_PARAMS(ProbeParams) p) {
  const u32 i = index();
  put(p, i, F::of(input(p, i)));
}

// What the functions make of zeros, infinities, NaN, the largest number and those too small for a normal result: the first inputs of kFloats.
ECAD_KERNEL special_values(ECAD_PARAMS(ProbeParams) p) {
  const u32 t = ptx::thread_id();
  if (t >= 9) return;
  const f32 x = input(p, t);
  const auto canonical = [](f32 v) { return v == v ? ptx::float_as_u32(v) : 1u; };
  put(p, t, canonical(ptx::ex2_approx(x)));
  put(p, 9 + t, canonical(ptx::rcp_approx(x)));
  if (t < 7) put(p, 18 + t, canonical(ptx::tanh_approx(x)));
}

template <class F>
Probe within(const char* name, Input input, double absolute, double relative) {
  return {name, input, kCount, {{kCount / 128}, 128}, false, absolute, relative, start<approximate<F>>, nullptr, false};
}

}  // namespace

void add_arithmetic_probes(std::vector<Probe>* all) {
  all->push_back(exact<narrowing>("conversions to bfloat16", Input::kFloats, 4 * kCount, {{kCount / 128}, 128}));
  all->push_back(exact<fused_multiply_add>("fma", Input::kFloats, kCount, {{kCount / 128}, 128}));
  all->push_back(within<Ex2>("ex2.approx.ftz", Input::kSmall, 0, 0x1.8p-22));
  all->push_back(within<Lg2>("lg2.approx", Input::kPositive, 0x1p-21, 0x1p-21));
  all->push_back(within<Rcp>("rcp.approx.ftz", Input::kPositive, 0, 0x1.8p-23));
  all->push_back(within<Rsqrt>("rsqrt.approx", Input::kPositive, 0, 0x1.4p-22));
  all->push_back(within<Tanh>("tanh.approx", Input::kSmall, 0, 0x1.1p-11));
  all->push_back(exact<special_values>("special values of the approximations", Input::kFloats, 25, {{1}, 32}));
}

}  // namespace ecad::cuda::probe
