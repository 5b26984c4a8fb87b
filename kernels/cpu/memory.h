// Aligned host memory of the cpu backend.
#pragma once
#include <cstddef>

namespace ecad {

// 64-byte aligned; from 2 MiB on aligned to 2 MiB with a hint for huge pages. Not cleared. null when there is none.
void* aligned_allocate(size_t bytes);
void aligned_release(void*);

// Owns one aligned block. Allocation failure shows as data() == nullptr with size() == 0.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes) : data_(aligned_allocate(bytes)), size_(data_ ? bytes : 0) {}
  ~AlignedBuffer() { aligned_release(data_); }
  AlignedBuffer(AlignedBuffer&& other) noexcept : data_(other.data_), size_(other.size_) { other.data_ = nullptr; other.size_ = 0; }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    if (this != &other) {
      aligned_release(data_);
      data_ = other.data_;
      size_ = other.size_;
      other.data_ = nullptr;
      other.size_ = 0;
    }
    return *this;
  }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;

  void* data() const { return data_; }
  template <class T> T* as() const { return static_cast<T*>(data_); }
  size_t size() const { return size_; }
  // Grows to at least bytes; the content is lost when it grows. False when there is no memory (nothing is held then).
  bool reserve(size_t bytes) {
    if (bytes <= size_) return true;
    *this = AlignedBuffer();
    *this = AlignedBuffer(bytes);
    return size_ >= bytes;
  }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
};

inline size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

}  // namespace ecad
