// The emulator's register and shared-memory layouts equal CuTe's: oracle/layouts.txt, printed by oracle/cute_layouts.cu.
#include <fstream>
#include <map>

#include "../../../tests/check.h"
#include "../../ptx_types.h"
#include "../fragments.h"
#include "../wgmma.h"

namespace {

using namespace ecad::cuda;
using namespace ecad::cuda::emu;
using ecad::ptx::swizzle_bytes;

struct Row {
  std::vector<int> sizes, values;
};

const std::map<std::string, Row>& table() {
  static const std::map<std::string, Row> rows = [] {
    std::map<std::string, Row> all;
    std::ifstream file(ECAD_LAYOUTS);
    for (std::string line; std::getline(file, line);) {
      if (line.empty() || line[0] == '#') continue;
      std::istringstream in(line);
      std::string name, word;
      in >> name;
      Row& row = all[name];
      while (in >> word && word != ":") row.sizes.push_back(std::stoi(word));
      for (int v; in >> v;) row.values.push_back(v);
    }
    return all;
  }();
  return rows;
}

// Element (thread, v) of the map, as the index row + rows * col, equals the table's entry; the table has exactly `threads` times `values` of them.
template <class Map>
void check_fragment(const char* name, u32 threads, u32 values, u32 rows, Map map) {
  const auto at = table().find(name);
  REQUIRE(at != table().end());
  const Row& r = at->second;
  REQUIRE((r.sizes == std::vector<int>{static_cast<int>(threads), static_cast<int>(values)}));
  REQUIRE(r.values.size() == threads * values);
  u32 wrong = 0;
  for (u32 t = 0; t < threads; ++t)
    for (u32 v = 0; v < values; ++v) {
      const Element e = map(t, v);
      wrong += r.values[t * values + v] != static_cast<int>(e.row + rows * e.col);
    }
  if (!CHECK_EQ(wrong, 0u)) std::printf("  in %s\n", name);
}

TEST(mma_fragments) {
  const auto b = [](u32 t, u32 v) {  // CuTe counts B as [n, k]
    const Element e = mma_b(t, v);
    return Element{e.col, e.row};
  };
  check_fragment("mma_m16n8k16_a", 32, 8, 16, mma_a);
  check_fragment("mma_m16n8k16_b", 32, 4, 8, b);
  check_fragment("mma_m16n8k16_c", 32, 4, 16, mma_c);
  check_fragment("mma_m16n8k8_a", 32, 4, 16, mma_a);
  check_fragment("mma_m16n8k8_b", 32, 2, 8, b);
  check_fragment("mma_m16n8k8_c", 32, 4, 16, mma_c);
}

TEST(wgmma_fragments) {
  check_fragment("wgmma_a", 128, 8, 64, wgmma_a);
  check_fragment("wgmma_n8_d", 128, 4, 64, wgmma_d);
  check_fragment("wgmma_n64_d", 128, 32, 64, wgmma_d);
  check_fragment("wgmma_n72_d", 128, 36, 64, wgmma_d);
  check_fragment("wgmma_n256_d", 128, 128, 64, wgmma_d);
}

// Element number in memory, 64 a matrix in order of its rows: (8 matrix + row) * 8 + col.
TEST(matrices_of_8x8) {
  const auto plain = [](u32 t, u32 v) { return Element{matrix_8x8(t, v % 2).col, 8 * (v / 2) + matrix_8x8(t, v % 2).row}; };
  const auto transposed = [](u32 t, u32 v) { return Element{matrix_8x8(t, v % 2).row, 8 * (v / 2) + matrix_8x8(t, v % 2).col}; };
  check_fragment("ldmatrix_x1", 32, 2, 8, plain);
  check_fragment("ldmatrix_x2", 32, 4, 8, plain);
  check_fragment("ldmatrix_x4", 32, 8, 8, plain);
  check_fragment("ldmatrix_x1_trans", 32, 2, 8, transposed);
  check_fragment("ldmatrix_x2_trans", 32, 4, 8, transposed);
  check_fragment("ldmatrix_x4_trans", 32, 8, 8, transposed);
  check_fragment("stmatrix_x4", 32, 8, 8, plain);
  check_fragment("stmatrix_x4_trans", 32, 8, 8, transposed);
}

// A tile in shared memory as CuTe lays it out, seen through the descriptor that CuTe makes for it: the emulator finds the same elements.
void check_tile(const char* name, Swizzle swizzle, bool mn_major) {
  const auto at = table().find(name);
  REQUIRE(at != table().end());
  const Row& r = at->second;
  REQUIRE(r.sizes.size() == 5);
  const u32 rows = static_cast<u32>(r.sizes[0]);
  REQUIRE(r.values.size() == rows * 16);
  const u32 base = 0x2000;
  const u64 descriptor = ecad::ptx::smem_descriptor(base, swizzle, static_cast<u32>(r.sizes[3]) * 16, static_cast<u32>(r.sizes[4]) * 16);
  CHECK_EQ(static_cast<int>(descriptor >> 62), r.sizes[2]);
  const Operand o = decode_operand(descriptor, mn_major);
  u32 wrong = 0;
  for (u32 row = 0; row < rows; ++row)
    for (u32 k = 0; k < 16; ++k) {
      const u32 address = mn_major ? operand_chunk(o, row / 8, k) + 2 * (row % 8) : operand_chunk(o, row, k / 8) + 2 * (k % 8);
      wrong += address != base + 2 * static_cast<u32>(r.values[row * 16 + k]);
    }
  if (!CHECK_EQ(wrong, 0u)) std::printf("  in %s\n", name);
}

TEST(tiles_in_shared_memory) {
  check_tile("tile_k_128", Swizzle::k128, false);
  check_tile("tile_k_64", Swizzle::k64, false);
  check_tile("tile_k_32", Swizzle::k32, false);
  check_tile("tile_k_none", Swizzle::kNone, false);
  check_tile("tile_mn_128", Swizzle::k128, true);
  check_tile("tile_mn_64", Swizzle::k64, true);
  check_tile("tile_mn_32", Swizzle::k32, true);
  check_tile("tile_mn_none", Swizzle::kNone, true);
}

TEST(the_table_is_all_used) { CHECK_EQ(table().size(), 6u + 5 + 8 + 8); }

}  // namespace

CHECK_MAIN()
