// Errors inside libecad: a code and one line. Converted to ecad_error at the C boundary.
#pragma once
#include <string>
#include <utility>

#include "../include/ecad.h"

namespace ecad {

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(ecad_status code, std::string message) : code_(code), message_(std::move(message)) {}
  static Status ok() { return {}; }
  bool is_ok() const { return code_ == ECAD_OK; }
  ecad_status code() const { return code_; }
  const std::string& message() const { return message_; }
  int32_t op() const { return op_; }
  int32_t device_code() const { return device_code_; }
  Status&& at_op(int32_t op) && { op_ = op; return std::move(*this); }
  Status&& with_device_code(int32_t code) && { device_code_ = code; return std::move(*this); }

 private:
  ecad_status code_ = ECAD_OK;
  int32_t op_ = -1;           // the op concerned, -1: none
  int32_t device_code_ = 0;   // errno or cudaError_t
  std::string message_;
};

#define ECAD_TRY(expr)                            \
  do {                                            \
    ::ecad::Status ecad_try_status_ = (expr);     \
    if (!ecad_try_status_.is_ok()) return ecad_try_status_; \
  } while (0)

}  // namespace ecad
