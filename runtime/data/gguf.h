// GGUF files, versions 2 and 3, little-endian.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "runtime/data/tensor_source.h"

namespace qft {

enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// One metadata value: a scalar (one element) or an array of elements of one type. Elements are kept
// as the file stores them, so that an array takes no more memory than in the file.
struct GgufValue {
  bool is_array = false;
  GgufType type = GgufType::kUint8;  // of the elements
  uint64_t count = 1;
  std::string scalars;               // numbers and bools, little-endian, dense
  std::vector<std::string> strings;  // kString
  std::vector<GgufValue> arrays;     // kArray

  // Element `index`; nullopt or nullptr when there is none or it is of another kind. Integer takes
  // every integer type within int64, Number every integer and floating type.
  std::optional<int64_t> Integer(uint64_t index = 0) const;
  std::optional<double> Number(uint64_t index = 0) const;
  std::optional<bool> Bool(uint64_t index = 0) const;
  const std::string* String(uint64_t index = 0) const;
};

using GgufMetadata = std::map<std::string, GgufValue, std::less<>>;

struct GgufFile {
  GgufMetadata metadata;
  std::unique_ptr<StoredTensorSource> tensors;  // shapes as in Python: the slowest dimension first
};

// Opens `path` and checks the header completely, every tensor's place included. Tensors may be F32,
// F16, BF16, F64, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, Q8_K and plain integers; another type
// is kUnsupported naming it.
StatusOr<GgufFile> OpenGguf(FileSystem& fs, const std::string& path);

}  // namespace qft
