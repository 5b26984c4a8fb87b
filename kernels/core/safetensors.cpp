// The header of a safetensors file: u64 length, then one JSON object {name: {"dtype", "shape", "data_offsets"}, "__metadata__": {...}}.
// The grammar is read strictly and twice: first to check and count, then to store, so that nothing grows by guesses.
#include <algorithm>
#include <cstring>

#include "text.h"
#include "weights.h"

namespace ecad {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr size_t kMaxTensors = 1u << 15, kMaxRank = 16, kMaxString = 1u << 16;

struct FileType {
  const char* name;
  uint32_t bytes;
  DType dtype;  // kAny: not for programs
};

constexpr FileType kTypes[] = {{"F32", 4, DType::kF32},  {"BF16", 2, DType::kBF16}, {"F16", 2, DType::kF16}, {"F64", 8, DType::kF64}, {"I32", 4, DType::kI32},
                               {"U8", 1, DType::kU8},    {"BOOL", 1, DType::kAny},  {"I8", 1, DType::kAny},  {"U16", 2, DType::kAny}, {"I16", 2, DType::kAny},
                               {"U32", 4, DType::kAny},  {"U64", 8, DType::kAny},   {"I64", 8, DType::kAny}, {"F8_E4M3", 1, DType::kAny}, {"F8_E5M2", 1, DType::kAny}};

class HeaderReader {
 public:
  HeaderReader(const char* path, const unsigned char* data, uint64_t size, uint64_t header)
      : path_(path), start_(reinterpret_cast<const char*>(data) + 8), end_(start_ + header), p_(start_), tensors_(data + 8 + header), room_(size - 8 - header) {}

  // out null: check and count only.
  Status read(TensorTable* out) {
    p_ = start_;
    count_ = 0;
    name_bytes_ = 0;
    out_ = out;
    ECAD_TRY(expect('{'));
    bool first = true;
    while (true) {
      skip();
      if (p_ < end_ && *p_ == '}') break;
      if (!first) ECAD_TRY(expect(','));
      first = false;
      ECAD_TRY(entry());
    }
    ++p_;
    skip();
    return p_ == end_ ? Status::ok() : fail("text follows the header object");
  }

  size_t count() const { return count_; }
  size_t name_bytes() const { return name_bytes_; }

 private:
  template <class... Args>
  Status fail(const Args&... args) const { return Status(ECAD_BAD_WEIGHTS, text("weights: ", path_, ": header byte ", p_ - start_, ": ", args...)); }

  void skip() {
    while (p_ < end_ && (*p_ == ' ' || *p_ == '\n' || *p_ == '\r' || *p_ == '\t')) ++p_;
  }

  Status expect(char c) {
    skip();
    if (p_ >= end_ || *p_ != c) return fail("'", std::string_view(&c, 1), "' expected");
    ++p_;
    return Status::ok();
  }

  Status hex4(uint32_t* out) {
    *out = 0;
    for (int i = 0; i < 4; ++i, ++p_) {
      if (p_ >= end_) return fail("ends inside an escape");
      const char c = *p_;
      const int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
      if (v < 0) return fail("bad \\u escape");
      *out = *out * 16 + static_cast<uint32_t>(v);
    }
    return Status::ok();
  }

  static void append_utf8(uint32_t c, std::string* out) {
    const auto put = [out](uint32_t b) { out->push_back(static_cast<char>(b)); };
    if (c < 0x80) put(c);
    else if (c < 0x800) put(0xC0 | c >> 6), put(0x80 | (c & 63));
    else if (c < 0x10000) put(0xE0 | c >> 12), put(0x80 | ((c >> 6) & 63)), put(0x80 | (c & 63));
    else put(0xF0 | c >> 18), put(0x80 | ((c >> 12) & 63)), put(0x80 | ((c >> 6) & 63)), put(0x80 | (c & 63));
  }

  // out null: skip.
  Status escape(std::string* out) {
    if (p_ >= end_) return fail("ends inside an escape");
    const char c = *p_++;
    static constexpr char kFrom[] = "\"\\/bfnrt", kTo[] = "\"\\/\b\f\n\r\t";
    if (const char* at = c == 0 ? nullptr : std::strchr(kFrom, c)) {
      if (out != nullptr) out->push_back(kTo[at - kFrom]);
      return Status::ok();
    }
    if (c != 'u') return fail("bad escape");
    uint32_t unit, low;
    ECAD_TRY(hex4(&unit));
    if (unit >= 0xD800 && unit < 0xDC00) {
      if (end_ - p_ < 2 || p_[0] != '\\' || p_[1] != 'u') return fail("half a surrogate pair");
      p_ += 2;
      ECAD_TRY(hex4(&low));
      if (low < 0xDC00 || low > 0xDFFF) return fail("half a surrogate pair");
      unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
    } else if (unit >= 0xDC00 && unit < 0xE000) {
      return fail("half a surrogate pair");
    }
    if (out != nullptr) append_utf8(unit, out);
    return Status::ok();
  }

  // out null: skip, however long it is.
  Status string(std::string* out) {
    if (out != nullptr) out->clear();
    ECAD_TRY(expect('"'));
    while (true) {
      const char* run = p_;
      while (p_ < end_ && *p_ != '"' && *p_ != '\\' && static_cast<unsigned char>(*p_) >= 0x20) ++p_;
      if (out != nullptr) {
        if (out->size() + static_cast<size_t>(p_ - run) > kMaxString) return fail("a name of more than ", kMaxString, " bytes");
        out->append(run, static_cast<size_t>(p_ - run));
      }
      if (p_ >= end_) return fail("ends inside a string");
      const char c = *p_++;
      if (c == '"') return Status::ok();
      if (c != '\\') return fail("control character in a string");
      ECAD_TRY(escape(out));
    }
  }

  Status number(uint64_t* out) {
    skip();
    if (p_ >= end_ || *p_ < '0' || *p_ > '9') return fail("a whole number expected");
    if (*p_ == '0' && end_ - p_ > 1 && p_[1] >= '0' && p_[1] <= '9') return fail("a number starts with 0");
    *out = 0;
    for (; p_ < end_ && *p_ >= '0' && *p_ <= '9'; ++p_) {
      const auto digit = static_cast<uint64_t>(*p_ - '0');
      if (*out > (UINT64_MAX - digit) / 10) return fail("a number over 2^64-1");
      *out = *out * 10 + digit;
    }
    return Status::ok();
  }

  Status numbers(uint64_t* out, size_t most, size_t* count) {
    *count = 0;
    ECAD_TRY(expect('['));
    skip();
    if (p_ < end_ && *p_ == ']') {
      ++p_;
      return Status::ok();
    }
    while (true) {
      if (*count == most) return fail("more than ", most, " numbers in a list");
      ECAD_TRY(number(&out[(*count)++]));
      skip();
      if (p_ < end_ && *p_ == ']') break;
      ECAD_TRY(expect(','));
    }
    ++p_;
    return Status::ok();
  }

  Status metadata() {
    ECAD_TRY(expect('{'));
    bool first = true;
    while (true) {
      skip();
      if (p_ < end_ && *p_ == '}') break;
      if (!first) ECAD_TRY(expect(','));
      first = false;
      ECAD_TRY(string(nullptr));
      ECAD_TRY(expect(':'));
      ECAD_TRY(string(nullptr));
    }
    ++p_;
    return Status::ok();
  }

  Status entry() {
    ECAD_TRY(string(&name_));
    ECAD_TRY(expect(':'));
    if (name_ == "__metadata__") {
      if (has_metadata_ == (out_ == nullptr ? 1 : 2)) return fail("two __metadata__");
      has_metadata_ = out_ == nullptr ? 1 : 2;
      return metadata();
    }
    const FileType* type = nullptr;
    uint64_t shape[kMaxRank], offsets[2];
    size_t rank = 0, pair = 0;
    uint32_t seen = 0;
    ECAD_TRY(expect('{'));
    for (int member = 0; member < 3; ++member) {
      if (member > 0) ECAD_TRY(expect(','));
      ECAD_TRY(string(&value_));
      ECAD_TRY(expect(':'));
      if (value_ == "dtype") {
        ECAD_TRY(string(&value_));
        for (const FileType& t : kTypes) type = value_ == t.name ? &t : type;
        if (type == nullptr) return fail("tensor \"", name_, "\": dtype \"", value_, "\" is not known");
        seen |= 1;
      } else if (value_ == "shape") {
        ECAD_TRY(numbers(shape, kMaxRank, &rank));
        seen |= 2;
      } else if (value_ == "data_offsets") {
        ECAD_TRY(numbers(offsets, 2, &pair));
        seen |= 4;
      } else {
        return fail("tensor \"", name_, "\": member \"", value_, "\" is not known");
      }
    }
    if (seen != 7 || pair != 2) return fail("tensor \"", name_, "\": needs dtype, shape and two data_offsets, each once");
    ECAD_TRY(expect('}'));
    return store(*type, shape, rank, offsets[0], offsets[1]);
  }

  Status store(const FileType& type, const uint64_t* shape, size_t rank, uint64_t begin, uint64_t end) {
    uint64_t bytes = type.bytes;
    int64_t dims[kMaxRank];
    for (size_t i = 0; i < rank; ++i) {
      if (shape[i] > INT64_MAX || __builtin_mul_overflow(bytes, shape[i], &bytes)) return fail("tensor \"", name_, "\": its shape overflows");
      dims[i] = static_cast<int64_t>(shape[i]);
    }
    if (begin > end || end > room_) return fail("tensor \"", name_, "\": data ", begin, "..", end, " lies outside the file's ", room_, " bytes of data");
    if (end - begin != bytes) return fail("tensor \"", name_, "\": data ", begin, "..", end, " is not the ", bytes, " bytes of its shape");
    if (++count_ > kMaxTensors) return fail("more than ", kMaxTensors, " tensors");
    name_bytes_ += name_.size();
    if (out_ == nullptr) return Status::ok();
    out_->add(name_, type.dtype, dims, rank, tensors_ + begin, bytes);
    return Status::ok();
  }

  const char* path_;
  const char* start_;
  const char* end_;
  const char* p_;
  const unsigned char* tensors_;
  uint64_t room_;
  TensorTable* out_ = nullptr;
  size_t count_ = 0, name_bytes_ = 0;
  int has_metadata_ = 0;  // the pass that saw it last
  std::string name_, value_;
};

}  // namespace

Status read_safetensors(const char* path, const unsigned char* data, uint64_t size, TensorTable* out) {
  const auto fail = [path](const auto&... args) { return Status(ECAD_BAD_WEIGHTS, text("weights: ", path, ": ", args...)); };
  if (size < 8) return fail(size, " bytes are too few for a safetensors file");
  uint64_t header = 0;
  for (int i = 0; i < 8; ++i) header |= static_cast<uint64_t>(data[i]) << (8 * i);
  if (header > kMaxHeader || header > size - 8) return fail("says its header has ", header, " bytes, the file has ", size);
  const std::string_view json(reinterpret_cast<const char*>(data) + 8, header);
  if (json.empty() || json[0] != '{') return fail("header does not start with '{'");
  if (!is_utf8(json)) return fail("header is not UTF-8");
  HeaderReader reader(path, data, size, header);
  ECAD_TRY(reader.read(nullptr));
  out->reserve(reader.count(), reader.name_bytes());
  ECAD_TRY(reader.read(out));
  out->sort_by_place();
  uint64_t at = 0;
  for (size_t i = 0; i < out->size(); ++i) {
    const StoredTensor& t = out->at(i);
    const auto begin = static_cast<uint64_t>(t.data - data) - 8 - header;
    if (begin != at) return fail("tensors leave a hole or overlap at data byte ", std::min(at, begin));
    at += t.nbytes;
  }
  if (at != size - 8 - header) return fail(size - 8 - header - at, " bytes after the last tensor");
  return out->sort();
}

}  // namespace ecad
