#include "base/status.h"

#include <cerrno>
#include <cstring>
#include <system_error>

#include "absl/strings/cord.h"

namespace qft {
namespace {

constexpr char kPayloadUrl[] = "qft.error_info";

absl::StatusCode AbslCode(ErrorCode code) {
  switch (static_cast<int32_t>(code) / 1000) {
    case 1:
      return absl::StatusCode::kInvalidArgument;
    case 2:
      return absl::StatusCode::kUnimplemented;
    case 4:
      return absl::StatusCode::kAborted;
    case 5:
      return absl::StatusCode::kUnavailable;
    case 6:
      return absl::StatusCode::kDataLoss;
    case 7:
      return absl::StatusCode::kFailedPrecondition;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

Status MakeError(ErrorCode code, const std::string& message, int32_t native_code) {
  Status status(AbslCode(code), message);
  const ErrorInfo info{code, native_code};
  status.SetPayload(kPayloadUrl,
                    absl::Cord(std::string(reinterpret_cast<const char*>(&info), sizeof(info))));
  return status;
}

Status ErrnoError(int error_number, const std::string& what) {
  ErrorCode code = ErrorCode::kIo;
  if (error_number == ENOSPC || error_number == EDQUOT) code = ErrorCode::kNoSpace;
  if (error_number == ENOENT || error_number == ENOTDIR) code = ErrorCode::kFileNotFound;
  if (error_number == ENOMEM) code = ErrorCode::kOutOfMemory;
  return MakeError(code, absl::StrCat(what, ": ", std::generic_category().message(error_number)),
                   error_number);
}

ErrorInfo GetErrorInfo(const Status& status) {
  if (status.ok()) return {ErrorCode::kOk, 0};
  if (const auto payload = status.GetPayload(kPayloadUrl); payload.has_value()) {
    const std::string bytes(*payload);
    ErrorInfo info;
    if (bytes.size() == sizeof(info)) {
      std::memcpy(&info, bytes.data(), sizeof(info));
      return info;
    }
  }
  if (status.code() == absl::StatusCode::kInvalidArgument) return {ErrorCode::kInvalidArgument, 0};
  if (status.code() == absl::StatusCode::kUnimplemented) return {ErrorCode::kUnsupported, 0};
  return {ErrorCode::kInternal, 0};
}

Status Annotate(const Status& status, const std::string& context) {
  if (status.ok()) return status;
  const ErrorInfo info = GetErrorInfo(status);
  return MakeError(info.code, absl::StrCat(context, ": ", status.message()), info.native_code);
}

}  // namespace qft
