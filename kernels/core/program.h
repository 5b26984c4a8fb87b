// The decoded, validated program (kernels/PROGRAM.md) as backends see it.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace ecad {

enum class DType : uint32_t { kAny = 0, kF32 = 1, kBF16 = 2, kF16 = 3, kF64 = 4, kI32 = 5, kU8 = 6 };
size_t dtype_size(DType);  // bytes of one element; 0 for kAny

enum class BufferKind : uint8_t { kArena = 0, kPersistent = 1, kConstant = 2, kWeight = 3 };

enum class Opcode : uint32_t {
  kCopy = 1, kLinear, kGatedLinear, kAttention, kChain, kPatchEmbed, kUnpatchify, kTimestepEmbed, kEmbedding,
  kLincomb, kAdd, kUnary, kConv2d, kGroupNorm, kUpsample, kPermute, kQkNormRope,
};
inline constexpr uint32_t kLastOpcode = 17;

enum class Act : int32_t { kNone = 0, kGeluTanh, kGeluErf, kSilu, kQuickGelu, kRelu };
enum class Norm : int32_t { kNone = 0, kLayer, kRms };
inline constexpr uint32_t kNoTensor = 0xFFFFFFFFu;

// No larger than its record in the file, so that a table of buffers never outgrows the bytes it came from.
struct Buffer {
  uint64_t bytes;         // 0 for weights
  uint64_t offset;        // arena, constant
  const char* name_data;  // in Program::strings
  int32_t block, component;
  uint32_t persistent_index;  // position among persistent buffers, else kNoTensor
  uint8_t name_length;
  BufferKind kind;
  uint8_t flags;  // 1: cache slot
  std::string_view name() const { return {name_data, name_length}; }
};
static_assert(sizeof(Buffer) <= 40, "a buffer and 8 bytes of a check's own notes fit into a buffer record of 48");

struct Tensor {
  uint32_t buffer;
  DType dtype;  // kAny for weights
  uint32_t rank;
  std::array<int64_t, 4> dims, strides;  // elements; unused dims 1, unused strides 0
  uint64_t offset;                       // elements
  int64_t step_stride;                   // elements per step index
  int64_t count() const { return dims[0] * dims[1] * dims[2] * dims[3]; }
  int64_t cols() const { return dims[rank - 1]; }
  int64_t rows() const { return count() / cols(); }
};

struct Op {
  Opcode code;
  int32_t block, component;
  std::string_view name;
  std::array<int32_t, 8> attr;
  std::array<double, 3> fattr;
  std::vector<uint32_t> in, out;  // tensor indices, kNoTensor for absent; always the opcode's full number of operands
  uint32_t section;
  uint64_t flops, bytes;
};

struct Section { uint32_t kind, first_op, num_ops; std::string_view name; };
struct Io { std::string_view name; uint32_t tensor; int32_t direction; };
struct RunItem { uint32_t section, step; };
struct Schedule { std::string_view name; std::vector<RunItem> items; };

// Names view `strings`, which keeps its place when a program is moved.
struct Program {
  Program() = default;
  Program(Program&&) = default;
  Program& operator=(Program&&) = default;
  uint32_t num_steps;
  uint64_t arena_bytes;
  std::array<uint8_t, 32> layout_hash;
  std::vector<Buffer> buffers;
  std::vector<Tensor> tensors;
  std::vector<Op> ops;
  std::vector<Section> sections;
  std::vector<Io> ios;
  std::vector<Schedule> schedules;
  std::vector<uint32_t> persistent;  // buffer indices
  std::vector<char> strings;
  std::vector<uint8_t> constants;    // host copy; at run time operands are addresses in the device's copy
};

}  // namespace ecad
