// ecad_probe: records what the probes give here, or compares it with a recording.
//
//   ecad_probe --record FILE              run all probes, write their outputs (an emulated build makes the expectation)
//   ecad_probe --check FILE [--json OUT]  run all probes, compare; PASS, FAIL or SKIP for each, exit code 1 if any failed
//   ecad_probe --peaks                    speeds of products in registers and of copies, as one line of JSON
//   ecad_probe --list                     names
//
// The probes run in a child process: a kernel that hangs or breaks the device costs its own probe only, the next ones run in a new child.
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <map>

#include "peaks.h"
#include "run.h"

namespace {

using namespace ecad;
using namespace ecad::cuda;
using namespace ecad::cuda::probe;

constexpr int kTimeoutMs = 30000;  // for one probe, the device's start included

enum Verdict : uint32_t { kRan, kSkipped, kFailed };

struct Result {
  Verdict verdict = kFailed;
  std::string text;  // why it failed or was skipped; the device's name after it ran
  std::vector<uint32_t> words;
};

bool send(int fd, const void* data, size_t bytes) {
  const char* p = static_cast<const char*>(data);
  while (bytes) {
    const ssize_t n = write(fd, p, bytes);
    if (n <= 0) return false;
    p += n, bytes -= static_cast<size_t>(n);
  }
  return true;
}

bool receive(int fd, void* data, size_t bytes) {
  char* p = static_cast<char*>(data);
  while (bytes) {
    pollfd ready = {fd, POLLIN, 0};
    if (poll(&ready, 1, kTimeoutMs) <= 0) return false;
    const ssize_t n = read(fd, p, bytes);
    if (n <= 0) return false;
    p += n, bytes -= static_cast<size_t>(n);
  }
  return true;
}

// The child: runs probes from `first` on, one message each, and ends after the first that fails.
[[noreturn]] void serve(int fd, const std::vector<Probe>& probes, size_t first) {
  Runner runner;
  std::string no_device;
  const bool any = device_count(&no_device) > 0;
  const Status opened = any ? runner.open(0) : Status::ok();
  for (size_t i = first; i < probes.size(); ++i) {
    Result r;
    if (!any) {
      r.verdict = kSkipped;
      r.text = "no device: " + no_device;
    } else if (!opened.is_ok()) {
      r.text = opened.message();
    } else if (!runner.can_run(probes[i])) {
      r.verdict = kSkipped;
      r.text = "needs sm_90a, the device is sm_" + std::to_string(runner.device().arch());
    } else {
      const Status s = runner.run(probes[i], &r.words);
      r.verdict = s.is_ok() ? kRan : kFailed;
      r.text = s.is_ok() ? runner.device().name : s.message();
    }
    const uint32_t head[3] = {r.verdict, static_cast<uint32_t>(r.text.size()), static_cast<uint32_t>(r.words.size())};
    const bool sent = send(fd, head, sizeof head) && send(fd, r.text.data(), r.text.size()) && send(fd, r.words.data(), 4 * r.words.size());
    if (!sent || r.verdict == kFailed) break;
  }
  _exit(0);
}

template <class F>
void run_all(const std::vector<Probe>& probes, F each) {
  for (size_t i = 0; i < probes.size();) {
    int ends[2];
    if (pipe(ends) != 0) return;
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
      close(ends[0]);
      serve(ends[1], probes, i);
    }
    close(ends[1]);
    for (bool more = true; more && i < probes.size(); ++i) {
      Result r;
      uint32_t head[3];
      more = child > 0 && receive(ends[0], head, sizeof head);
      if (more) {
        r.verdict = static_cast<Verdict>(head[0]);
        r.text.resize(head[1]);
        r.words.resize(head[2]);
        more = receive(ends[0], r.text.data(), head[1]) && receive(ends[0], r.words.data(), size_t{4} * head[2]);
      }
      if (!more) r.verdict = kFailed, r.text = "no answer: the kernel hung or ended the process";
      more = more && r.verdict != kFailed;
      each(probes[i], r);
    }
    close(ends[0]);
    if (child > 0) kill(child, SIGKILL), waitpid(child, nullptr, 0);
  }
}

constexpr char kMagic[8] = {'e', 'c', 'a', 'd', 'p', 'r', 'b', '1'};

int record(const std::vector<Probe>& probes, const char* path) {
  std::FILE* f = std::fopen(path, "wb");
  if (!f) {
    std::fprintf(stderr, "cannot write %s: %s\n", path, std::strerror(errno));
    return 1;
  }
  bool good = std::fwrite(kMagic, sizeof kMagic, 1, f) == 1;
  int failed = 0;
  run_all(probes, [&](const Probe& p, const Result& r) {
    if (r.verdict != kRan) {
      std::printf("FAIL %s: %s\n", p.name, r.text.c_str());
      ++failed;
      return;
    }
    const uint32_t head[2] = {static_cast<uint32_t>(std::strlen(p.name)), static_cast<uint32_t>(r.words.size())};
    good = good && std::fwrite(head, sizeof head, 1, f) == 1 && std::fwrite(p.name, head[0], 1, f) == 1 && std::fwrite(r.words.data(), 4, head[1], f) == head[1];
  });
  good = std::fclose(f) == 0 && good;
  if (!good) std::fprintf(stderr, "cannot write %s\n", path);
  std::printf("%zu probes recorded, %d failed\n", probes.size() - static_cast<size_t>(failed), failed);
  return good && !failed ? 0 : 1;
}

bool read_recording(const char* path, std::map<std::string, std::vector<uint32_t>>* out) {
  std::FILE* f = std::fopen(path, "rb");
  if (!f) return false;
  char magic[8] = {};
  bool good = std::fread(magic, 8, 1, f) == 1 && std::memcmp(magic, kMagic, 8) == 0;
  uint32_t head[2];
  while (good && std::fread(head, sizeof head, 1, f) == 1) {
    good = head[0] < 256 && head[1] <= kOutWords;
    if (!good) break;
    std::string name(head[0], 0);
    std::vector<uint32_t> words(head[1]);
    good = std::fread(name.data(), 1, head[0], f) == head[0] && std::fread(words.data(), 4, head[1], f) == head[1];
    (*out)[name] = std::move(words);
  }
  std::fclose(f);
  return good;
}

std::string quoted(const std::string& s) {
  std::string out = "\"";
  for (const char c : s) out += c == '"' || c == '\\' ? std::string("\\") + c : static_cast<unsigned char>(c) < 32 ? std::string(" ") : std::string(1, c);
  return out + "\"";
}

int check(const std::vector<Probe>& probes, const char* path, const char* json_path) {
  std::map<std::string, std::vector<uint32_t>> expected;
  if (!read_recording(path, &expected)) {
    std::fprintf(stderr, "%s: no recording of probes (make one with --record in an emulated build)\n", path);
    return 1;
  }
  int counts[3] = {};
  std::string device, lines;
  run_all(probes, [&](const Probe& p, const Result& r) {
    std::string why = r.text;
    Verdict v = r.verdict;
    if (v == kRan) {
      device = r.text;
      why.clear();
      const auto at = expected.find(p.name);
      const size_t wrong = at == expected.end() ? 1 : differences(p, r.words, at->second, &why);
      if (at == expected.end()) why = "the recording does not have this probe";
      if (wrong) {
        v = kFailed;
        why = std::to_string(wrong) + " of " + std::to_string(r.words.size()) + " words differ; " + why;
      }
    }
    static const char* const words[] = {"PASS", "SKIP", "FAIL"};
    ++counts[v];
    std::printf("%s %s%s%s\n", words[v], p.name, why.empty() ? "" : ": ", why.c_str());
    lines += (lines.empty() ? "" : ",") + std::string("\n    {\"probe\": ") + quoted(p.name) + ", \"result\": \"" + words[v] + "\", \"words\": " + std::to_string(r.words.size()) +
             ", \"why\": " + quoted(why) + "}";
  });
  std::printf("probes: %d passed, %d skipped, %d failed\n", counts[kRan], counts[kSkipped], counts[kFailed]);
  if (json_path) {
    std::FILE* f = std::fopen(json_path, "w");
    if (!f) {
      std::fprintf(stderr, "cannot write %s: %s\n", json_path, std::strerror(errno));
      return 1;
    }
    std::fprintf(f, "{\n  \"section\": \"probes\", \"device\": %s, \"passed\": %d, \"skipped\": %d, \"failed\": %d,\n  \"probes\": [%s\n  ]\n}\n", quoted(device).c_str(), counts[kRan],
                 counts[kSkipped], counts[kFailed], lines.c_str());
    if (std::fclose(f) != 0) return 1;
  }
  return counts[kFailed] ? 1 : 0;
}

int peaks() {
  std::string why;
  if (device_count(&why) == 0) {
    std::printf("SKIP no device: %s\n", why.c_str());
    return 77;
  }
  DeviceProperties device;
  Stream stream;
  Peaks p;
  Status s = open_device(0, &device);
  if (s.is_ok()) s = stream.create();
  if (s.is_ok()) s = measure_peaks(device, stream, kDevicePeaks, &p);
  if (!s.is_ok()) {
    std::fprintf(stderr, "peaks: %s\n", s.message().c_str());
    return 1;
  }
  std::printf("{\"device\": %s, \"wgmma_tflops\": %.4g, \"mma_tflops\": %.4g, \"copy_gb_per_s\": %.4g}\n", quoted(device.name).c_str(), p.wgmma_tflops, p.mma_tflops, p.copy_gb_per_s);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<Probe> probes = all_probes();
  const std::string mode = argc > 1 ? argv[1] : "";
  if (mode == "--list" && argc == 2) {
    for (const Probe& p : probes) std::printf("%s\n", p.name);
    return 0;
  }
  if (mode == "--peaks" && argc == 2) return peaks();
  if (mode == "--record" && argc == 3) return record(probes, argv[2]);
  if (mode == "--check" && (argc == 3 || (argc == 5 && std::string(argv[3]) == "--json"))) return check(probes, argv[2], argc == 5 ? argv[4] : nullptr);
  std::fprintf(stderr, "usage: ecad_probe --record FILE | --check FILE [--json OUT] | --peaks | --list\n");
  return 2;
}
