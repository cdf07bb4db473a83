// What every exported function passes through: arguments checked on the way in, errors and
// exceptions converted once on the way out.
#pragma once

#include <cstddef>
#include <cstring>
#include <exception>
#include <new>
#include <string_view>

#include "base/status.h"
#include "include/qft_c.h"

namespace qft {

// The code of `status`; if it is an error and `error` is not NULL, *error becomes an error object.
qft_status ReportStatus(const Status& status, qft_error** error) noexcept;
qft_status ReportOutOfMemory(qft_error** error) noexcept;
// `what` may be NULL.
qft_status ReportException(const char* what, qft_error** error) noexcept;

// Runs body() -> Status. No exception passes.
template <typename F>
qft_status Guard(qft_error** error, F&& body) noexcept {
  try {
    return ReportStatus(body(), error);
  } catch (const std::bad_alloc&) {
    return ReportOutOfMemory(error);
  } catch (const std::exception& exception) {
    return ReportException(exception.what(), error);
  } catch (...) {
    return ReportException(nullptr, error);
  }
}

// "<name> is NULL"
Status RequireNotNull(const char* name, const void* pointer);

// The bytes a caller passed in; NULL only with length 0. Borrowed.
StatusOr<std::string_view> ReadBytes(const char* name, const void* data, size_t length);
// ReadBytes that are UTF-8.
StatusOr<std::string_view> ReadUtf8(const char* name, const char* text, size_t length);
// ReadUtf8 that name a file: not empty, no NUL inside.
StatusOr<std::string_view> ReadPath(const char* name, const char* text, size_t length);

// The length of the well-formed UTF-8 character that `text` starts with, 0 if there is none.
size_t Utf8CharacterLength(std::string_view text);
// The offset of the first byte that is not well-formed UTF-8, text.size() if all is.
size_t Utf8ValidPrefix(std::string_view text);

// Strings out: *needed becomes the length without terminator; what does not fit into `capacity`
// bytes is cut, between characters, and terminated. buffer may be NULL with capacity 0.
Status CopyOut(std::string_view text, char* buffer, size_t capacity, size_t* needed);

// Arrays out: *needed becomes `count`; the first `capacity` elements are copied.
template <typename T>
Status CopyOutArray(const T* values, size_t count, T* buffer, size_t capacity, size_t* needed) {
  QFT_RETURN_IF_ERROR(RequireNotNull("needed", needed));
  if (capacity > 0) QFT_RETURN_IF_ERROR(RequireNotNull("buffer", buffer));
  const size_t copied = count < capacity ? count : capacity;
  if (copied > 0) std::memcpy(buffer, values, copied * sizeof(T));
  *needed = count;
  return absl::OkStatus();
}

}  // namespace qft
