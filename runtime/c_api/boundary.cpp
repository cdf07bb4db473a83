#include "runtime/c_api/boundary.h"

#include <cstdint>
#include <string>

namespace qft {
namespace {

// Bytes at the end of `text` that begin a well-formed character without completing it.
size_t PartialCharacter(std::string_view text) {
  for (size_t length = 1; length <= 3 && length <= text.size(); ++length) {
    const unsigned char byte = static_cast<unsigned char>(text[text.size() - length]);
    if ((byte & 0xc0) == 0x80) continue;
    const size_t whole = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return whole > length ? length : 0;
  }
  return 0;
}

}  // namespace

qft_status ReportStatus(const Status& status, qft_error** error) noexcept {
  if (status.ok()) return QFT_OK;
  try {
    const ErrorInfo info = GetErrorInfo(status);
    const qft_status code = static_cast<qft_status>(info.code);
    if (error == nullptr) return code;
    const absl::string_view message = status.message();
    return qft_error_create(code, message.data(), message.size(), info.native_code, error);
  } catch (...) {
    return ReportOutOfMemory(error);
  }
}

qft_status ReportOutOfMemory(qft_error** error) noexcept {
  constexpr std::string_view kMessage = "out of memory";
  if (error == nullptr) return QFT_ERROR_OUT_OF_MEMORY;
  return qft_error_create(QFT_ERROR_OUT_OF_MEMORY, kMessage.data(), kMessage.size(), 0, error);
}

qft_status ReportException(const char* what, qft_error** error) noexcept {
  const std::string_view message = what != nullptr ? what : "an exception of unknown type";
  if (error == nullptr) return QFT_ERROR_INTERNAL;
  return qft_error_create(QFT_ERROR_INTERNAL, message.data(), message.size(), 0, error);
}

Status RequireNotNull(const char* name, const void* pointer) {
  return pointer != nullptr ? absl::OkStatus() : InvalidArgument(name, " is NULL");
}

StatusOr<std::string_view> ReadBytes(const char* name, const void* data, size_t length) {
  if (length == 0) return std::string_view();
  QFT_RETURN_IF_ERROR(RequireNotNull(name, data));
  if (length > static_cast<size_t>(PTRDIFF_MAX)) {
    return InvalidArgument(name, " has the impossible length ", length);
  }
  return std::string_view(static_cast<const char*>(data), length);
}

StatusOr<std::string_view> ReadUtf8(const char* name, const char* text, size_t length) {
  QFT_ASSIGN_OR_RETURN(const std::string_view view, ReadBytes(name, text, length));
  const size_t valid = Utf8ValidPrefix(view);
  if (valid != view.size()) return InvalidArgument(name, " is not UTF-8 at byte ", valid);
  return view;
}

StatusOr<std::string_view> ReadPath(const char* name, const char* text, size_t length) {
  QFT_ASSIGN_OR_RETURN(const std::string_view view, ReadUtf8(name, text, length));
  if (view.empty()) return InvalidArgument(name, " is empty");
  if (view.find('\0') != std::string_view::npos) return InvalidArgument(name, " contains a NUL");
  return view;
}

size_t Utf8CharacterLength(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, beyond U+10FFFF.
  if ((lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) > 0x9f)) return 0;
  if ((lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) > 0x8f)) return 0;
  return length;
}

size_t Utf8ValidPrefix(std::string_view text) {
  size_t offset = 0;
  while (offset < text.size()) {
    const size_t length = Utf8CharacterLength(text.substr(offset));
    if (length == 0) break;
    offset += length;
  }
  return offset;
}

Status CopyOut(std::string_view text, char* buffer, size_t capacity, size_t* needed) {
  QFT_RETURN_IF_ERROR(RequireNotNull("needed", needed));
  if (capacity > 0) {
    QFT_RETURN_IF_ERROR(RequireNotNull("buffer", buffer));
    size_t copied = text.size();
    if (copied >= capacity) {
      copied = capacity - 1;
      copied -= PartialCharacter(text.substr(0, copied));
    }
    if (copied > 0) std::memcpy(buffer, text.data(), copied);
    buffer[copied] = '\0';
  }
  *needed = text.size();
  return absl::OkStatus();
}

}  // namespace qft
