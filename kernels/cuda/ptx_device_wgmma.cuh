// The instruction layer as inline PTX: wgmma. Interface and rules: ptx.cuh. The text and the operands of an instruction are put together by the
// preprocessor from lists that grow by four accumulators, because an asm statement needs literals; each shape is then one line.
#pragma once
#include "ptx_device.cuh"

namespace ecad::ptx {

ECAD_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

namespace detail {
// Empty statements that "change" registers: what was assigned before stays before, no later use moves above.
ECAD_DEVICE void touch(f32& v) { asm volatile("" : "+f"(v)::"memory"); }
ECAD_DEVICE void touch(u32& v) { asm volatile("" : "+r"(v)::"memory"); }
template <class T, int Count>
ECAD_DEVICE void touch(T (&values)[Count]) {
#pragma unroll
  for (int i = 0; i < Count; ++i) touch(values[i]);
}
template <int N>
struct Wgmma;  // one specialisation per shape
}  // namespace detail

template <class... Registers>
ECAD_DEVICE void wgmma_fence(Registers&... registers) {
  (detail::touch(registers), ...);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
template <int N, class... Accumulators>
ECAD_DEVICE void wgmma_wait(Accumulators&... acc) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
  (detail::touch(acc), ...);
}

// Accumulators %0..%(4j-1) as text, and as operands.
#define ECAD_T1 "%0,%1,%2,%3"
#define ECAD_T2 ECAD_T1 ",%4,%5,%6,%7"
#define ECAD_T3 ECAD_T2 ",%8,%9,%10,%11"
#define ECAD_T4 ECAD_T3 ",%12,%13,%14,%15"
#define ECAD_T5 ECAD_T4 ",%16,%17,%18,%19"
#define ECAD_T6 ECAD_T5 ",%20,%21,%22,%23"
#define ECAD_T7 ECAD_T6 ",%24,%25,%26,%27"
#define ECAD_T8 ECAD_T7 ",%28,%29,%30,%31"
#define ECAD_T9 ECAD_T8 ",%32,%33,%34,%35"
#define ECAD_T10 ECAD_T9 ",%36,%37,%38,%39"
#define ECAD_T11 ECAD_T10 ",%40,%41,%42,%43"
#define ECAD_T12 ECAD_T11 ",%44,%45,%46,%47"
#define ECAD_T13 ECAD_T12 ",%48,%49,%50,%51"
#define ECAD_T14 ECAD_T13 ",%52,%53,%54,%55"
#define ECAD_T15 ECAD_T14 ",%56,%57,%58,%59"
#define ECAD_T16 ECAD_T15 ",%60,%61,%62,%63"
#define ECAD_T17 ECAD_T16 ",%64,%65,%66,%67"
#define ECAD_T18 ECAD_T17 ",%68,%69,%70,%71"
#define ECAD_T19 ECAD_T18 ",%72,%73,%74,%75"
#define ECAD_T20 ECAD_T19 ",%76,%77,%78,%79"
#define ECAD_T21 ECAD_T20 ",%80,%81,%82,%83"
#define ECAD_T22 ECAD_T21 ",%84,%85,%86,%87"
#define ECAD_T23 ECAD_T22 ",%88,%89,%90,%91"
#define ECAD_T24 ECAD_T23 ",%92,%93,%94,%95"
#define ECAD_T25 ECAD_T24 ",%96,%97,%98,%99"
#define ECAD_T26 ECAD_T25 ",%100,%101,%102,%103"
#define ECAD_T27 ECAD_T26 ",%104,%105,%106,%107"
#define ECAD_T28 ECAD_T27 ",%108,%109,%110,%111"
#define ECAD_T29 ECAD_T28 ",%112,%113,%114,%115"
#define ECAD_T30 ECAD_T29 ",%116,%117,%118,%119"
#define ECAD_T31 ECAD_T30 ",%120,%121,%122,%123"
#define ECAD_T32 ECAD_T31 ",%124,%125,%126,%127"
#define ECAD_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define ECAD_O1 ECAD_4(0)
#define ECAD_O2 ECAD_O1, ECAD_4(4)
#define ECAD_O3 ECAD_O2, ECAD_4(8)
#define ECAD_O4 ECAD_O3, ECAD_4(12)
#define ECAD_O5 ECAD_O4, ECAD_4(16)
#define ECAD_O6 ECAD_O5, ECAD_4(20)
#define ECAD_O7 ECAD_O6, ECAD_4(24)
#define ECAD_O8 ECAD_O7, ECAD_4(28)
#define ECAD_O9 ECAD_O8, ECAD_4(32)
#define ECAD_O10 ECAD_O9, ECAD_4(36)
#define ECAD_O11 ECAD_O10, ECAD_4(40)
#define ECAD_O12 ECAD_O11, ECAD_4(44)
#define ECAD_O13 ECAD_O12, ECAD_4(48)
#define ECAD_O14 ECAD_O13, ECAD_4(52)
#define ECAD_O15 ECAD_O14, ECAD_4(56)
#define ECAD_O16 ECAD_O15, ECAD_4(60)
#define ECAD_O17 ECAD_O16, ECAD_4(64)
#define ECAD_O18 ECAD_O17, ECAD_4(68)
#define ECAD_O19 ECAD_O18, ECAD_4(72)
#define ECAD_O20 ECAD_O19, ECAD_4(76)
#define ECAD_O21 ECAD_O20, ECAD_4(80)
#define ECAD_O22 ECAD_O21, ECAD_4(84)
#define ECAD_O23 ECAD_O22, ECAD_4(88)
#define ECAD_O24 ECAD_O23, ECAD_4(92)
#define ECAD_O25 ECAD_O24, ECAD_4(96)
#define ECAD_O26 ECAD_O25, ECAD_4(100)
#define ECAD_O27 ECAD_O26, ECAD_4(104)
#define ECAD_O28 ECAD_O27, ECAD_4(108)
#define ECAD_O29 ECAD_O28, ECAD_4(112)
#define ECAD_O30 ECAD_O29, ECAD_4(116)
#define ECAD_O31 ECAD_O30, ECAD_4(120)
#define ECAD_O32 ECAD_O31, ECAD_4(124)

// N: columns; J: N / 8; I0..I6: the numbers N / 2, N / 2 + 1, ... of the operands after the accumulators.
#define ECAD_WGMMA(N, J, I0, I1, I2, I3, I4, I5, I6)                                                                                         \
  template <>                                                                                                                                \
  struct Wgmma<N> {                                                                                                                          \
    template <int TransA, int TransB>                                                                                                        \
    static ECAD_DEVICE void ss(f32 (&d)[N / 2], u64 a, u64 b, u32 accumulate) {                                                               \
      asm volatile("{ .reg .pred q; setp.ne.b32 q, %" #I2 ", 0; wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" ECAD_T##J          \
                   "}, %" #I0 ", %" #I1 ", q, 1, 1, %" #I3 ", %" #I4 "; }"                                                                    \
                   : ECAD_O##J : "l"(a), "l"(b), "r"(accumulate), "n"(TransA), "n"(TransB) : "memory");                                       \
    }                                                                                                                                        \
    template <int TransB>                                                                                                                    \
    static ECAD_DEVICE void rs(f32 (&d)[N / 2], const u32 (&a)[4], u64 b, u32 accumulate) {                                                   \
      asm volatile("{ .reg .pred q; setp.ne.b32 q, %" #I5 ", 0; wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" ECAD_T##J          \
                   "}, {%" #I0 ",%" #I1 ",%" #I2 ",%" #I3 "}, %" #I4 ", q, 1, 1, %" #I6 "; }"                                                 \
                   : ECAD_O##J : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TransB) : "memory");                \
    }                                                                                                                                        \
  };
namespace detail {
ECAD_WGMMA(8, 1, 4, 5, 6, 7, 8, 9, 10)
ECAD_WGMMA(16, 2, 8, 9, 10, 11, 12, 13, 14)
ECAD_WGMMA(24, 3, 12, 13, 14, 15, 16, 17, 18)
ECAD_WGMMA(32, 4, 16, 17, 18, 19, 20, 21, 22)
ECAD_WGMMA(40, 5, 20, 21, 22, 23, 24, 25, 26)
ECAD_WGMMA(48, 6, 24, 25, 26, 27, 28, 29, 30)
ECAD_WGMMA(56, 7, 28, 29, 30, 31, 32, 33, 34)
ECAD_WGMMA(64, 8, 32, 33, 34, 35, 36, 37, 38)
ECAD_WGMMA(72, 9, 36, 37, 38, 39, 40, 41, 42)
ECAD_WGMMA(80, 10, 40, 41, 42, 43, 44, 45, 46)
ECAD_WGMMA(88, 11, 44, 45, 46, 47, 48, 49, 50)
ECAD_WGMMA(96, 12, 48, 49, 50, 51, 52, 53, 54)
ECAD_WGMMA(104, 13, 52, 53, 54, 55, 56, 57, 58)
ECAD_WGMMA(112, 14, 56, 57, 58, 59, 60, 61, 62)
ECAD_WGMMA(120, 15, 60, 61, 62, 63, 64, 65, 66)
ECAD_WGMMA(128, 16, 64, 65, 66, 67, 68, 69, 70)
ECAD_WGMMA(136, 17, 68, 69, 70, 71, 72, 73, 74)
ECAD_WGMMA(144, 18, 72, 73, 74, 75, 76, 77, 78)
ECAD_WGMMA(152, 19, 76, 77, 78, 79, 80, 81, 82)
ECAD_WGMMA(160, 20, 80, 81, 82, 83, 84, 85, 86)
ECAD_WGMMA(168, 21, 84, 85, 86, 87, 88, 89, 90)
ECAD_WGMMA(176, 22, 88, 89, 90, 91, 92, 93, 94)
ECAD_WGMMA(184, 23, 92, 93, 94, 95, 96, 97, 98)
ECAD_WGMMA(192, 24, 96, 97, 98, 99, 100, 101, 102)
ECAD_WGMMA(200, 25, 100, 101, 102, 103, 104, 105, 106)
ECAD_WGMMA(208, 26, 104, 105, 106, 107, 108, 109, 110)
ECAD_WGMMA(216, 27, 108, 109, 110, 111, 112, 113, 114)
ECAD_WGMMA(224, 28, 112, 113, 114, 115, 116, 117, 118)
ECAD_WGMMA(232, 29, 116, 117, 118, 119, 120, 121, 122)
ECAD_WGMMA(240, 30, 120, 121, 122, 123, 124, 125, 126)
ECAD_WGMMA(248, 31, 124, 125, 126, 127, 128, 129, 130)
ECAD_WGMMA(256, 32, 128, 129, 130, 131, 132, 133, 134)
}  // namespace detail
#undef ECAD_WGMMA
#undef ECAD_4

template <int N, int TransA = 0, int TransB = 0>
ECAD_DEVICE void wgmma_ss(f32 (&d)[N / 2], u64 desc_a, u64 desc_b, bool accumulate) {
  detail::Wgmma<N>::template ss<TransA, TransB>(d, desc_a, desc_b, accumulate);
}
template <int N, int TransB = 0>
ECAD_DEVICE void wgmma_rs(f32 (&d)[N / 2], const u32 (&a)[4], u64 desc_b, bool accumulate) {
  detail::Wgmma<N>::template rs<TransB>(d, a, desc_b, accumulate);
}

}  // namespace ecad::ptx
