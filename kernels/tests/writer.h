// Builds program bytes (kernels/PROGRAM.md) for tests, independently of the library's own reader: it shares no code with it but the checksums.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace writer {

enum : uint32_t { kArena = 0, kPersistent = 1, kConstant = 2, kWeight = 3, kAbsent = 0xFFFFFFFFu };
enum : uint32_t { kAny = 0, kF32 = 1, kBF16 = 2, kF16 = 3, kF64 = 4, kI32 = 5, kU8 = 6 };
enum : uint32_t {
  kCopy = 1, kLinear, kGatedLinear, kAttention, kChain, kPatchEmbed, kUnpatchify, kTimestepEmbed, kEmbedding, kLincomb, kAdd, kUnary, kConv2d,
  kGroupNorm, kUpsample, kPermute, kQkNormRope
};

using Dims = std::vector<int64_t>;

struct BufferRecord { uint32_t kind, flags; uint64_t bytes, offset; std::string name; int32_t block = -1, component = -1; };
struct TensorRecord { uint32_t buffer, dtype, rank; int64_t dims[4], strides[4]; uint64_t offset; int64_t step_stride; };
struct OpRecord { uint32_t code; std::vector<uint32_t> in, out; int32_t block = -1, component = -1; std::string name; int32_t attr[8] = {}; double fattr[3] = {}; };
struct SectionRecord { uint32_t kind, ops; std::string name; };
struct IoRecord { std::string name; uint32_t tensor, direction; };
struct ScheduleRecord { std::string name; std::vector<std::pair<uint32_t, uint32_t>> items; };

class Program {
 public:
  // What tests bend. bytes() writes whatever is here.
  uint32_t steps = 1;
  uint64_t arena_bytes = 0;
  std::vector<BufferRecord> buffers;
  std::vector<TensorRecord> tensors;
  std::vector<OpRecord> ops;
  std::vector<SectionRecord> sections;
  std::vector<IoRecord> ios;
  std::vector<ScheduleRecord> schedules;
  std::vector<uint8_t> constants;

  // A buffer and its dense view; arena buffers are placed one after another.
  uint32_t arena(uint32_t dtype, const Dims& dims);
  uint32_t persistent(const std::string& name, uint32_t dtype, const Dims& dims, uint32_t flags = 0);
  uint32_t constant(uint32_t dtype, const Dims& dims, const void* data);
  uint32_t weight(const std::string& name, const Dims& dims);
  // Another view of the buffer that tensor `of` views.
  uint32_t view(uint32_t of, const Dims& dims, const Dims& strides, uint64_t offset = 0, int64_t step_stride = 0);
  uint32_t add_buffer(uint32_t kind, uint64_t bytes, const std::string& name, uint32_t flags = 0);
  uint32_t add_tensor(uint32_t buffer, uint32_t dtype, const Dims& dims, const Dims& strides = {}, uint64_t offset = 0, int64_t step_stride = 0);

  uint32_t section(uint32_t kind, const std::string& name);
  OpRecord& op(uint32_t code, const std::vector<uint32_t>& in, const std::vector<uint32_t>& out, std::initializer_list<int32_t> attr = {},
               std::initializer_list<double> fattr = {}, const std::string& name = "op");
  void io(const std::string& name, uint32_t tensor, uint32_t direction);
  void schedule(const std::string& name, const std::vector<std::pair<uint32_t, uint32_t>>& items);

  std::vector<uint8_t> bytes() const;
};

uint64_t element_bytes(uint32_t dtype);
// Sets checksum and layout hash of damaged bytes right again, as far as they can be found, so that a test gets past them.
void seal(std::vector<uint8_t>* bytes);

}  // namespace writer
