// A test harness in one header: TEST, CHECK, REQUIRE. Every check prints what it saw; a test program fails when any check did.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <sstream>
#include <string>
#include <vector>

namespace check {

struct Case {
  const char* name;
  void (*run)();
};
inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
inline int& failures() {
  static int n = 0;
  return n;
}
struct Register {
  Register(const char* name, void (*run)()) { cases().push_back({name, run}); }
};
struct Abandon : std::exception {
  const char* what() const noexcept override { return "a required check failed"; }
};

inline bool report(bool good, const char* file, int line, const std::string& what) {
  if (good) return true;
  ++failures();
  std::printf("%s:%d: %s\n", file, line, what.c_str());
  return false;
}

template <class A, class B>
bool equal(const A& a, const B& b, const char* file, int line, const char* text_a, const char* text_b) {
  if (a == b) return true;
  std::ostringstream s;
  s << text_a << " is " << a << ", " << text_b << " is " << b;
  return report(false, file, line, s.str());
}

// True only if the distance is at most tol: NaN is never near.
inline bool near(double a, double b, double tol) { return std::fabs(a - b) <= tol || a == b; }

}  // namespace check

#define TEST(name)                                            \
  static void name();                                         \
  static const check::Register check_register_##name(#name, name); \
  static void name()
#define CHECK(condition) check::report(static_cast<bool>(condition), __FILE__, __LINE__, "not true: " #condition)
#define CHECK_EQ(a, b) check::equal((a), (b), __FILE__, __LINE__, #a, #b)
#define REQUIRE(condition) \
  do {                     \
    if (!CHECK(condition)) throw check::Abandon(); \
  } while (0)

// Runs every test, or those whose name holds argv[1].
#define CHECK_MAIN()                                                                             \
  int main(int argc, char** argv) {                                                              \
    int ran = 0;                                                                                 \
    for (const check::Case& c : check::cases()) {                                                \
      if (argc > 1 && std::strstr(c.name, argv[1]) == nullptr) continue;                         \
      const int before = check::failures();                                                      \
      try {                                                                                      \
        c.run();                                                                                 \
      } catch (const std::exception& e) {                                                        \
        check::report(false, __FILE__, __LINE__, std::string(c.name) + ": " + e.what());         \
      }                                                                                          \
      std::printf("%s %s\n", check::failures() == before ? "ok  " : "FAIL", c.name);             \
      ++ran;                                                                                     \
    }                                                                                            \
    std::printf("%d tests, %d failed checks\n", ran, check::failures());                         \
    return ran == 0 || check::failures() != 0;                                                   \
  }
