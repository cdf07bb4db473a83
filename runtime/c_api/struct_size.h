// The open structs of the C interface. Each starts with uint64_t struct_size, set by the caller to
// the sizeof of the header it was compiled with, which may be older or newer than this library.
//
// In: a smaller struct is extended by zeros; a larger one is accepted if what this library does not
// know is all zero. Out: what the caller's struct has room for is written, what this library does
// not know is zeroed, struct_size stays.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "base/status.h"
#include "runtime/c_api/boundary.h"

namespace qft {

// Larger than any struct will become; larger values are memory that was never set.
inline constexpr uint64_t kLargestStruct = 65536;

namespace struct_internal {

// Validates the struct_size at `data`, where `known` is this library's sizeof, and returns it.
inline StatusOr<size_t> ReadSize(const char* name, const void* data, bool whole_tail_zero,
                                 size_t known) {
  QFT_RETURN_IF_ERROR(RequireNotNull(name, data));
  uint64_t size = 0;
  std::memcpy(&size, data, sizeof(size));
  if (size < sizeof(uint64_t) || size > kLargestStruct || size % sizeof(uint64_t) != 0) {
    return MakeError(ErrorCode::kStructSize,
                     absl::StrCat(name, "->struct_size is ", size, ", sizeof is ", known));
  }
  if (whole_tail_zero) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    for (size_t offset = known; offset < size; ++offset) {
      if (bytes[offset] == 0) continue;
      return MakeError(ErrorCode::kStructSize,
                       absl::StrCat(name, " is of a newer version: byte ", offset,
                                    " is set, this library knows ", known, " bytes"));
    }
  }
  return static_cast<size_t>(size);
}

}  // namespace struct_internal

// `in` as this library's T. Errors: kInvalidArgument (NULL), kStructSize.
template <typename T>
StatusOr<T> ReadStruct(const char* name, const T* in) {
  static_assert(std::is_trivially_copyable_v<T> && offsetof(T, struct_size) == 0);
  QFT_ASSIGN_OR_RETURN(const size_t size,
                       struct_internal::ReadSize(name, in, /*whole_tail_zero=*/true, sizeof(T)));
  T value{};
  std::memcpy(&value, in, std::min(size, sizeof(T)));
  value.struct_size = sizeof(T);
  return value;
}

// The address of element `index` of a caller's array, whose stride is the caller's struct_size.
// The first element must have been checked.
template <typename T>
T* StructAt(T* first, int64_t index) {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  uint64_t stride = 0;
  std::memcpy(&stride, first, sizeof(stride));
  return reinterpret_cast<T*>(reinterpret_cast<Byte*>(first) +
                              static_cast<uint64_t>(index) * stride);
}

// The elements of a caller's array of `count`, all of one struct_size. Errors: as ReadStruct;
// kOutOfRange (count negative or above `most`).
template <typename T>
StatusOr<std::vector<T>> ReadStructs(const char* name, const T* first, int64_t count,
                                     int64_t most) {
  if (count < 0 || count > most) {
    return MakeError(ErrorCode::kOutOfRange, absl::StrCat("the number of ", name, " is ", count,
                                                          ", must be from 0 to ", most));
  }
  std::vector<T> values;
  if (count == 0) return values;
  QFT_RETURN_IF_ERROR(RequireNotNull(name, first));
  values.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const T* element = i == 0 ? first : StructAt(first, i);
    QFT_ASSIGN_OR_RETURN(T value, ReadStruct(name, element));
    if (std::memcmp(element, first, sizeof(uint64_t)) != 0) {
      return MakeError(ErrorCode::kStructSize,
                       absl::StrCat(name, "[", i, "].struct_size differs from the first one's"));
    }
    values.push_back(value);
  }
  return values;
}

// Whether WriteStruct(name, out, ...) will succeed: asked before work that can't be undone.
template <typename T>
Status CheckOutStruct(const char* name, const T* out) {
  return struct_internal::ReadSize(name, out, /*whole_tail_zero=*/false, sizeof(T)).status();
}

// Errors: kInvalidArgument (NULL), kStructSize; then nothing is written.
template <typename T>
Status WriteStruct(const char* name, T* out, const T& value) {
  static_assert(std::is_trivially_copyable_v<T> && offsetof(T, struct_size) == 0);
  QFT_ASSIGN_OR_RETURN(const size_t size,
                       struct_internal::ReadSize(name, out, /*whole_tail_zero=*/false, sizeof(T)));
  constexpr size_t kHead = sizeof(uint64_t);
  auto* target = reinterpret_cast<char*>(out);
  const size_t copied = std::min(size, sizeof(T));
  std::memcpy(target + kHead, reinterpret_cast<const char*>(&value) + kHead, copied - kHead);
  if (size > sizeof(T)) std::memset(target + sizeof(T), 0, size - sizeof(T));
  return absl::OkStatus();
}

}  // namespace qft
