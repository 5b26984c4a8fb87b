// The small products are exact on the emulator in every timing, without a fault, with the bytes that they should move and no bank conflict.
#include "../../../tests/check.h"
#include "emu_gemm.h"

namespace {

using namespace emu_test;

constexpr Shape kShapes[] = {{64, 64, 32}, {64, 64, 256}, {128, 192, 96}, {1, 1, 8}, {65, 63, 40}, {3, 130, 200}};
constexpr Shape kMapShapes[] = {{64, 64, 64}, {64, 64, 512}, {128, 192, 128}, {1, 8, 8}, {65, 56, 40}, {200, 136, 328}};

void check_product(const Product& r) {
  CHECK_EQ(r.report.text(), "");
  CHECK(r.exact);
  CHECK(r.guarded);
  CHECK_EQ(r.report.conflicts(), 0u);
}

TEST(mma_products) {
  for_timings([] {
    for (const Shape& s : kShapes) check_product(run_sm80<Defect::kNone>(s));
  });
}

TEST(wgmma_products) {
  for_timings([] {
    for (const Shape& s : kMapShapes) check_product(run_sm90<Defect::kNone>(s));
  });
}

TEST(bytes_and_work) {
  const Shape s = {128, 192, 256};
  const uint64_t bx = 2, by = 3;  // blocks
  const emu::Counters a = run_sm80<Defect::kNone>(s).report.counters;
  CHECK_EQ(a.read_bytes, 2 * 256 * (128 * by + 192 * bx));  // every block row reads all of w, every block column all of x
  CHECK_EQ(a.unique_read_bytes, 2u * 256 * (128 + 192));
  CHECK_EQ(a.written_bytes, 4u * 128 * 192);
  CHECK_EQ(a.unique_written_bytes, 4u * 128 * 192);
  CHECK_EQ(a.read_sectors, a.read_bytes / 32);
  CHECK_EQ(a.macs, 128u * 192 * 256);
  const emu::Counters b = run_sm90<Defect::kNone>(s).report.counters;
  CHECK_EQ(b.read_bytes, a.read_bytes);
  CHECK_EQ(b.read_sectors, b.read_bytes / 32);
  CHECK_EQ(b.written_bytes, 2u * 128 * 192);
  CHECK_EQ(b.macs, 128u * 192 * 256);
}

}  // namespace

CHECK_MAIN()
