// Every probe is clean on the emulator and gives the same in every timing, and writes all of its output.
#include "../../../tests/check.h"
#include "../../probe/peaks.h"
#include "../../probe/run.h"
#include "../emulator.h"

namespace {

using namespace ecad::cuda;

TEST(probes_agree_in_every_timing) {
  const std::vector<probe::Probe> probes = probe::all_probes();
  CHECK(probes.size() >= 100);
  probe::Runner runner;
  REQUIRE(runner.open(0).is_ok());
  for (const probe::Probe& p : probes) {
    std::vector<uint32_t> first;
    for (const emu::Landing landing : {emu::Landing::kRandom, emu::Landing::kEarly, emu::Landing::kLate}) {
      emu::set_options({landing, 5});
      std::vector<uint32_t> words;
      const ecad::Status s = runner.run(p, &words);
      if (!check::report(s.is_ok(), __FILE__, __LINE__, std::string(p.name) + ": " + s.message())) break;
      if (first.empty()) first = words;
      check::report(words == first, __FILE__, __LINE__, std::string(p.name) + ": its output depends on the timing");
    }
    if (!p.spare_is_out)
      for (const uint32_t w : first)
        if (!check::report(w != 0xffffffffu, __FILE__, __LINE__, std::string(p.name) + ": does not write all of its output")) break;
  }
  emu::set_options({});
}

// Their sums are exact and what is copied arrives; the speeds are those of the emulator.
TEST(peaks_are_measured_by_work_that_is_done) {
  DeviceProperties device;
  Stream stream;
  REQUIRE(open_device(0, &device).is_ok() && stream.create().is_ok());
  probe::Peaks p;
  const ecad::Status s = probe::measure_peaks(device, stream, probe::kSmallPeaks, &p);
  CHECK_EQ(s.message(), "");
  CHECK(s.is_ok() && p.wgmma_tflops > 0 && p.mma_tflops > 0 && p.copy_gb_per_s > 0);
}

TEST(differences_are_found) {
  probe::Probe p = probe::all_probes()[0];
  std::string first;
  CHECK_EQ(probe::differences(p, {1, 2}, {1, 2}, &first), 0u);
  CHECK_EQ(probe::differences(p, {1, 2}, {1, 3}, &first), 1u);
  CHECK_EQ(probe::differences(p, {1}, {1, 3}, &first), 1u);
  p.absolute = 0.5;
  CHECK_EQ(probe::differences(p, {0x3f800000u}, {0x3fa00000u}, &first), 0u);  // 1 and 1.25
  CHECK_EQ(probe::differences(p, {0x3f800000u}, {0x40000000u}, &first), 1u);  // 1 and 2
  CHECK_EQ(probe::differences(p, {0x7fc00000u}, {0x3f800000u}, &first), 1u);  // NaN is never near
}

}  // namespace

CHECK_MAIN()
