// Errors are values below the C boundary: an absl::Status whose payload carries the stable
// libqft code and, where there is one, the native code (errno) behind it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace qft {

using absl::Status;
using absl::StatusOr;

// Values equal the QFT_* macros of include/qft_c.h (checked in runtime/c_api/error.cpp).
// Grouped by thousands, never reused.
enum class ErrorCode : int32_t {
  kOk = 0,
  kInvalidArgument = 1001,
  kUnknownKey = 1002,
  kOutOfRange = 1003,
  kShape = 1004,
  kBadData = 1005,
  kNotFound = 1006,
  kStructSize = 1007,
  kUnsupported = 2001,
  kInternal = 3001,
  kOutOfMemory = 3002,
  kExecution = 4001,
  kNonFinite = 4002,
  kCancelled = 4003,
  kTimeout = 4004,
  kCommunication = 5001,
  kIo = 6001,
  kCorrupt = 6002,
  kNoSpace = 6003,
  kFileNotFound = 6004,
  kState = 7001,
  kBusy = 7002,
  kStale = 7003,
  kForked = 7004,
  kReentrant = 7005,
  kPoisoned = 7006,
};

// What a libqft error carries beside its message.
struct ErrorInfo {
  ErrorCode code = ErrorCode::kInternal;
  int32_t native_code = 0;
};

Status MakeError(ErrorCode code, const std::string& message, int32_t native_code = 0);

// The message becomes "<what>: <strerror(error_number)>"; ENOSPC and EDQUOT map to kNoSpace,
// ENOENT and ENOTDIR to kFileNotFound, ENOMEM to kOutOfMemory, everything else to kIo.
Status ErrnoError(int error_number, const std::string& what);

// The code of `status`; statuses not made by MakeError map to the nearest code.
ErrorInfo GetErrorInfo(const Status& status);

// `status` with "<context>: " put before its message, code kept.
Status Annotate(const Status& status, const std::string& context);

template <typename... Args>
Status InvalidArgument(const Args&... args) {
  return MakeError(ErrorCode::kInvalidArgument, absl::StrCat(args...));
}
template <typename... Args>
Status BadData(const Args&... args) {
  return MakeError(ErrorCode::kBadData, absl::StrCat(args...));
}
template <typename... Args>
Status Unsupported(const Args&... args) {
  return MakeError(ErrorCode::kUnsupported, absl::StrCat(args...));
}
template <typename... Args>
Status Corrupt(const Args&... args) {
  return MakeError(ErrorCode::kCorrupt, absl::StrCat(args...));
}
template <typename... Args>
Status Internal(const Args&... args) {
  return MakeError(ErrorCode::kInternal, absl::StrCat(args...));
}

}  // namespace qft

#define QFT_CONCAT_INNER(a, b) a##b
#define QFT_CONCAT(a, b) QFT_CONCAT_INNER(a, b)

#define QFT_RETURN_IF_ERROR(expression)        \
  do {                                         \
    ::qft::Status qft_status_ = (expression);  \
    if (!qft_status_.ok()) return qft_status_; \
  } while (false)

#define QFT_ASSIGN_OR_RETURN(lhs, expression) \
  QFT_ASSIGN_OR_RETURN_INNER(QFT_CONCAT(qft_status_or_, __LINE__), lhs, expression)
#define QFT_ASSIGN_OR_RETURN_INNER(name, lhs, expression) \
  auto name = (expression);                               \
  if (!name.ok()) return std::move(name).status();        \
  lhs = std::move(name).value()
