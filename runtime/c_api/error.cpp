#include <array>
#include <memory>
#include <string>

#include "runtime/c_api/boundary.h"
#include "runtime/c_api/handle.h"

namespace qft {
namespace {

struct ErrorObject {
  qft_status code = QFT_ERROR_INTERNAL;
  int32_t native_code = 0;
  std::string message;
};

}  // namespace

template <>
struct HandleOf<ErrorObject> {
  using type = qft_error;
};

namespace {

struct NamedCode {
  qft_status code;
  ErrorCode base;
  const char* name;
};

#define QFT_NAMED_CODE(suffix, base_name)                          \
  NamedCode {                                                      \
    QFT_ERROR_##suffix, ErrorCode::base_name, "QFT_ERROR_" #suffix \
  }

constexpr std::array kCodes = {
    NamedCode{QFT_OK, ErrorCode::kOk, "QFT_OK"},
    QFT_NAMED_CODE(INVALID_ARGUMENT, kInvalidArgument),
    QFT_NAMED_CODE(UNKNOWN_KEY, kUnknownKey),
    QFT_NAMED_CODE(OUT_OF_RANGE, kOutOfRange),
    QFT_NAMED_CODE(SHAPE, kShape),
    QFT_NAMED_CODE(BAD_DATA, kBadData),
    QFT_NAMED_CODE(NOT_FOUND, kNotFound),
    QFT_NAMED_CODE(STRUCT_SIZE, kStructSize),
    QFT_NAMED_CODE(UNSUPPORTED, kUnsupported),
    QFT_NAMED_CODE(INTERNAL, kInternal),
    QFT_NAMED_CODE(OUT_OF_MEMORY, kOutOfMemory),
    QFT_NAMED_CODE(EXECUTION, kExecution),
    QFT_NAMED_CODE(NON_FINITE, kNonFinite),
    QFT_NAMED_CODE(CANCELLED, kCancelled),
    QFT_NAMED_CODE(TIMEOUT, kTimeout),
    QFT_NAMED_CODE(COMMUNICATION, kCommunication),
    QFT_NAMED_CODE(IO, kIo),
    QFT_NAMED_CODE(CORRUPT, kCorrupt),
    QFT_NAMED_CODE(NO_SPACE, kNoSpace),
    QFT_NAMED_CODE(FILE_NOT_FOUND, kFileNotFound),
    QFT_NAMED_CODE(STATE, kState),
    QFT_NAMED_CODE(BUSY, kBusy),
    QFT_NAMED_CODE(STALE, kStale),
    QFT_NAMED_CODE(FORKED, kForked),
    QFT_NAMED_CODE(REENTRANT, kReentrant),
    QFT_NAMED_CODE(POISONED, kPoisoned),
};

#undef QFT_NAMED_CODE

constexpr bool CodesAgree() {
  for (const NamedCode& entry : kCodes) {
    if (entry.code != static_cast<qft_status>(entry.base)) return false;
  }
  return true;
}
static_assert(CodesAgree(), "base/status.h and qft_c.h name different codes");

// nullptr for a code that belongs to no group.
const char* Category(qft_status code) {
  constexpr const char* kNames[] = {nullptr,     "argument",      "unsupported", "internal",
                                    "execution", "communication", "io",          "state"};
  const qft_status group = code / 1000;
  return group >= 1 && group <= 7 ? kNames[group] : nullptr;
}

// Errors that need no memory: a token whose counter is the error's own code.
static_assert(handle_internal::kFirstCounter > 7999);

qft_error* FixedError(qft_status code) {
  const uint64_t token =
      handle_internal::MakeToken(HandleKind::kError, static_cast<uint64_t>(code));
  return handle_internal::ToPointer<qft_error>(token);
}

// The code of a fixed error, QFT_OK for any other handle.
qft_status FixedErrorCode(const qft_error* error) {
  const uint64_t token = reinterpret_cast<uintptr_t>(error);
  const uint64_t counter = (token - handle_internal::MakeToken(HandleKind::kError, 0)) >> 8;
  if (counter > 7999) return QFT_OK;
  const qft_status code = static_cast<qft_status>(counter);
  return Category(code) != nullptr && FixedError(code) == error ? code : QFT_OK;
}

// One line of UTF-8, whatever file names and exceptions contain.
std::string CleanMessage(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  while (!text.empty()) {
    const size_t length = Utf8CharacterLength(text);
    const unsigned char first = static_cast<unsigned char>(text[0]);
    if (length == 0) {
      clean.push_back('?');
    } else if (first < 0x20 || first == 0x7f) {
      clean.push_back(' ');
    } else {
      clean.append(text.substr(0, length));
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return clean;
}

qft_error* NewError(qft_status code, std::string_view message, int32_t native_code) noexcept {
  try {
    auto object = std::make_shared<ErrorObject>();
    object->code = code;
    object->native_code = native_code;
    object->message = CleanMessage(message);
    return AddHandle(std::move(object));
  } catch (...) {
    return FixedError(code);
  }
}

// What `read` takes from the error object, or `otherwise(code)` with the code why there is none.
template <typename Read, typename Otherwise>
auto ReadError(const qft_error* error, Read&& read, Otherwise&& otherwise) noexcept
    -> decltype(read(std::declval<const ErrorObject&>())) {
  if (const qft_status code = FixedErrorCode(error); code != QFT_OK) return otherwise(code);
  try {
    const auto object = FindHandle<ErrorObject>(error);
    if (object.ok()) return read(**object);
    const ErrorInfo info = GetErrorInfo(object.status());
    return otherwise(info.code == ErrorCode::kForked ? QFT_ERROR_FORKED : QFT_ERROR_STALE);
  } catch (...) {
    return otherwise(QFT_ERROR_STALE);
  }
}

}  // namespace
}  // namespace qft

using qft::ErrorObject;

extern "C" {

const char* qft_status_name(qft_status status) {
  for (const qft::NamedCode& entry : qft::kCodes) {
    if (entry.code == status) return entry.name;
  }
  return "QFT_ERROR_UNKNOWN";
}

qft_status qft_error_create(qft_status code, const char* message, size_t message_length,
                            int32_t native_code, qft_error** error) {
  if (error == nullptr) return QFT_ERROR_INVALID_ARGUMENT;
  if (qft::Category(code) == nullptr) {
    *error = qft::NewError(QFT_ERROR_INVALID_ARGUMENT, "code is not a QFT_ERROR_*", 0);
    return QFT_ERROR_INVALID_ARGUMENT;
  }
  if (message == nullptr && message_length > 0) {
    *error = qft::NewError(QFT_ERROR_INVALID_ARGUMENT, "message is NULL", 0);
    return QFT_ERROR_INVALID_ARGUMENT;
  }
  *error = qft::NewError(code, std::string_view(message, message_length), native_code);
  return code;
}

qft_status qft_error_code(const qft_error* error) {
  return qft::ReadError(
      error, [](const ErrorObject& object) { return object.code; },
      [](qft_status code) { return code; });
}

const char* qft_error_category(const qft_error* error) {
  return qft::Category(qft_error_code(error));
}

const char* qft_error_message(const qft_error* error) {
  return qft::ReadError(
      error, [](const ErrorObject& object) { return object.message.c_str(); },
      [error](qft_status) {
        return qft::FixedErrorCode(error) != QFT_OK ? "out of memory while making this error" : "";
      });
}

int32_t qft_error_native_code(const qft_error* error) {
  return qft::ReadError(
      error, [](const ErrorObject& object) { return object.native_code; },
      [](qft_status) { return 0; });
}

// Sessions have one rank in this version.
int32_t qft_error_rank(const qft_error*) {
  return 0;
}

void qft_error_destroy(qft_error* error) {
  qft::RemoveHandle<ErrorObject>(error);
}

}  // extern "C"
