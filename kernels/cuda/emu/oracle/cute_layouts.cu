// Prints how CuTe (CUTLASS) lays out the operands of matrix instructions: the table that the emulator's maps are tested against (layouts.txt).
// Host code only; built and run by make_layouts.sh. Lines: NAME SIZES... : VALUES...
#include <cstdio>

#include <cute/arch/copy_sm75.hpp>
#include <cute/arch/copy_sm90.hpp>
#include <cute/arch/mma_sm80.hpp>
#include <cute/arch/mma_sm90_gmma.hpp>
#include <cute/arch/mma_sm90_gmma_ext.hpp>
#include <cute/atom/copy_traits_sm75.hpp>
#include <cute/atom/copy_traits_sm90.hpp>
#include <cute/atom/mma_traits_sm80.hpp>
#include <cute/atom/mma_traits_sm90_gmma.hpp>
#include <cute/atom/mma_traits_sm90_gmma_ext.hpp>
#include <cute/tensor.hpp>

using namespace cute;
using bf16 = cutlass::bfloat16_t;

// For every thread and value: the index in the layout's codomain, divided by `unit`.
template <class Layout>
void fragment(const char* name, Layout layout, int unit = 1) {
  const int threads = size<0>(layout), values = size<1>(layout) / unit;
  std::printf("%s %d %d :", name, threads, values);
  for (int t = 0; t < threads; ++t)
    for (int v = 0; v < values; ++v) std::printf(" %d", int(layout(t, v * unit)) / unit);
  std::printf("\n");
}

// Offset in elements of (mn, k) for k < 16 in a tile of `rows` x `depth` elements made of the atom, and the descriptor that CuTe makes for its first slice.
template <GMMA::Major major, class Atom, int rows, int depth>
void tile(const char* name) {
  auto layout = tile_to_shape(Atom{}, Shape<Int<rows>, Int<depth>>{});
  alignas(1024) static bf16 data[rows * depth];  // the swizzle permutes bits of addresses
  auto tensor = make_tensor(make_smem_ptr(data), layout);
  auto slice = local_tile(tensor, Shape<Int<rows>, Int<16>>{}, make_coord(0, 0));
  const GmmaDescriptor d = GMMA::make_gmma_desc<major>(slice);
  std::printf("%s %d %d %d %d %d :", name, rows, depth, int(d.bitfield.layout_type_), int(d.bitfield.leading_byte_offset_), int(d.bitfield.stride_byte_offset_));
  for (int r = 0; r < rows; ++r)
    for (int k = 0; k < 16; ++k) std::printf(" %d", int(raw_pointer_cast(&tensor(r, k)) - data));
  std::printf("\n");
}

template <class Op>
void mma(const char* a, const char* b, const char* c) {
  using T = MMA_Traits<Op>;
  if (a) fragment(a, typename T::ALayout{});
  if (b) fragment(b, typename T::BLayout{});
  if (c) fragment(c, typename T::CLayout{});
}

int main() {
  // column-major indices: row + rows * col
  mma<SM80_16x8x16_F32BF16BF16F32_TN>("mma_m16n8k16_a", "mma_m16n8k16_b", "mma_m16n8k16_c");
  mma<SM80_16x8x8_F32BF16BF16F32_TN>("mma_m16n8k8_a", "mma_m16n8k8_b", "mma_m16n8k8_c");
  mma<SM90::GMMA::MMA_64x64x16_F32BF16BF16_RS<GMMA::Major::K, GMMA::Major::K>>("wgmma_a", nullptr, "wgmma_n64_d");
  mma<SM90::GMMA::MMA_64x8x16_F32BF16BF16_SS<GMMA::Major::K, GMMA::Major::K>>(nullptr, nullptr, "wgmma_n8_d");
  mma<SM90::GMMA::MMA_64x72x16_F32BF16BF16_SS<GMMA::Major::K, GMMA::Major::K>>(nullptr, nullptr, "wgmma_n72_d");
  mma<SM90::GMMA::MMA_64x256x16_F32BF16BF16_SS<GMMA::Major::K, GMMA::Major::K>>(nullptr, nullptr, "wgmma_n256_d");
  // bits of the 8x8 matrices in order of rows, in elements of 16
  fragment("ldmatrix_x1", Copy_Traits<SM75_U32x1_LDSM_N>::DstLayout{}, 16);
  fragment("ldmatrix_x2", Copy_Traits<SM75_U32x2_LDSM_N>::DstLayout{}, 16);
  fragment("ldmatrix_x4", Copy_Traits<SM75_U32x4_LDSM_N>::DstLayout{}, 16);
  fragment("ldmatrix_x1_trans", Copy_Traits<SM75_U16x2_LDSM_T>::DstLayout{}, 16);
  fragment("ldmatrix_x2_trans", Copy_Traits<SM75_U16x4_LDSM_T>::DstLayout{}, 16);
  fragment("ldmatrix_x4_trans", Copy_Traits<SM75_U16x8_LDSM_T>::DstLayout{}, 16);
  fragment("stmatrix_x4", Copy_Traits<SM90_U32x4_STSM_N>::SrcLayout{}, 16);
  fragment("stmatrix_x4_trans", Copy_Traits<SM90_U16x8_STSM_T>::SrcLayout{}, 16);
  tile<GMMA::Major::K, GMMA::Layout_K_SW128_Atom<bf16>, 64, 128>("tile_k_128");
  tile<GMMA::Major::K, GMMA::Layout_K_SW64_Atom<bf16>, 64, 64>("tile_k_64");
  tile<GMMA::Major::K, GMMA::Layout_K_SW32_Atom<bf16>, 64, 32>("tile_k_32");
  tile<GMMA::Major::K, GMMA::Layout_K_INTER_Atom<bf16>, 64, 32>("tile_k_none");
  tile<GMMA::Major::MN, GMMA::Layout_MN_SW128_Atom<bf16>, 128, 32>("tile_mn_128");
  tile<GMMA::Major::MN, GMMA::Layout_MN_SW64_Atom<bf16>, 128, 32>("tile_mn_64");
  tile<GMMA::Major::MN, GMMA::Layout_MN_SW32_Atom<bf16>, 128, 32>("tile_mn_32");
  tile<GMMA::Major::MN, GMMA::Layout_MN_INTER_Atom<bf16>, 128, 32>("tile_mn_none");
}
