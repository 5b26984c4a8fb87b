// The cpu backend's team of threads, by itself: every item once, whatever the number of threads and items. Built for ThreadSanitizer, too
// (make tsan), without the rest of the backend.
#include "../cpu/team.h"

#include "check.h"

using ecad::Team;

TEST(every_item_runs_once) {
  for (const int32_t threads : {1, 2, 5}) {
    std::unique_ptr<Team> team;
    REQUIRE(Team::create(threads, &team).is_ok());
    CHECK_EQ(team->size(), threads);
    int wrong = 0;
    for (int64_t round = 0; round < 2000; ++round) {
      const int64_t count = round % 37;
      std::vector<int> hits(static_cast<size_t>(count), 0);
      team->each(count, [&](int64_t item, int32_t thread) { hits[static_cast<size_t>(item)] += thread < threads ? 1 : 100; });
      for (const int h : hits) wrong += h == 1 ? 0 : 1;
    }
    CHECK_EQ(wrong, 0);
  }
}

// What items wrote is there for the caller when each() returns, and for the items of the next loop.
TEST(loops_follow_each_other) {
  std::unique_ptr<Team> team;
  REQUIRE(Team::create(3, &team).is_ok());
  std::vector<int64_t> from(64, 1), to(64, 0);
  for (int round = 0; round < 500; ++round) {
    team->each(64, [&](int64_t i, int32_t) { to[static_cast<size_t>(i)] = from[static_cast<size_t>(i)] + from[static_cast<size_t>((i + 17) % 64)] % 3; });
    std::swap(from, to);
  }
  std::vector<int64_t> expected(64, 1), next(64, 0);
  for (int round = 0; round < 500; ++round) {
    for (size_t i = 0; i < 64; ++i) next[i] = expected[i] + expected[(i + 17) % 64] % 3;
    std::swap(expected, next);
  }
  CHECK(from == expected);
}

TEST(numbers_of_threads) {
  std::unique_ptr<Team> team;
  CHECK_EQ(Team::create(-1, &team).code(), ECAD_INVALID_ARGUMENT);
  CHECK_EQ(Team::create(100000, &team).code(), ECAD_INVALID_ARGUMENT);
  CHECK(team == nullptr);
  CHECK(Team::create(0, &team).is_ok());
  CHECK(team->size() >= 1);
}

CHECK_MAIN()
