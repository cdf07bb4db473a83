#include "runtime/data/tensor_source.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"

namespace qft {
namespace {

constexpr int64_t kChunkElements = 1 << 18;  // whole blocks of every type
constexpr size_t kMaxNameBytes = 512;
constexpr uint32_t kExponentMask = 0x7f800000u;

bool IsFinite(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return (bits & kExponentMask) != kExponentMask;
}

Status CheckFinite(const TensorInfo& info, const float* values, int64_t first_element,
                   int64_t count) {
  int64_t bad = 0;
  for (int64_t i = 0; i < count; ++i) bad += !IsFinite(values[i]);
  if (bad == 0) return absl::OkStatus();
  const float* place = std::find_if_not(values, values + count, IsFinite);
  const int64_t element = first_element + (place - values);
  return BadData("tensor ", info.name, ": the value at row ", element / info.Cols(), ", column ",
                 element % info.Cols(), " is not finite (", *place, ")");
}

}  // namespace

int64_t TensorInfo::Rows() const {
  return shape.size() < 2 ? 1 : shape[0];
}

int64_t TensorInfo::Cols() const {
  int64_t cols = 1;
  for (size_t i = shape.size() < 2 ? 0 : 1; i < shape.size(); ++i) cols *= shape[i];
  return cols;
}

std::string TensorInfo::ShapeText() const {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

Status CheckRows(const TensorInfo& info, int64_t row_begin, int64_t row_count) {
  const int64_t rows = info.Rows();
  if (row_begin < 0 || row_count < 0 || row_begin > rows || row_count > rows - row_begin) {
    return MakeError(ErrorCode::kOutOfRange,
                     absl::StrCat("tensor ", info.name, ": rows ", row_begin, " + ", row_count,
                                  " are outside its ", rows));
  }
  return absl::OkStatus();
}

StatusOr<uint64_t> StoredBytes(StoredType type, const std::vector<int64_t>& shape) {
  const StoredTypeTraits& traits = Traits(type);
  // Empty tensors too must have dimensions whose product is representable (Cols).
  int64_t elements = 1;
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(elements, std::max<int64_t>(size, 1), &elements)) {
      return Corrupt("the shape overflows");
    }
  }
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  const int64_t row = shape.empty() ? 1 : shape.back();
  if (row % traits.block_elements != 0) {
    return Corrupt("rows of ", row, " values are no whole blocks of ", traits.block_elements);
  }
  int64_t bytes;
  if (__builtin_mul_overflow(elements / traits.block_elements, traits.block_bytes, &bytes)) {
    return Corrupt("the shape overflows");
  }
  return static_cast<uint64_t>(bytes);
}

Status CheckTensorName(std::string_view name) {
  const bool printable =
      std::all_of(name.begin(), name.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
  if (!name.empty() && name.size() <= kMaxNameBytes && printable) return absl::OkStatus();
  return Corrupt("\"", absl::CHexEscape(std::string(name.substr(0, 80))), "\" (", name.size(),
                 " bytes) is no usable name");
}

StoredTensorSource::StoredTensorSource(std::vector<std::unique_ptr<File>> files,
                                       std::vector<StoredTensor> tensors)
    : files_(std::move(files)) {
  for (StoredTensor& tensor : tensors) {
    std::string name = tensor.info.name;
    tensors_.emplace(std::move(name), std::move(tensor));
  }
}

const TensorInfo* StoredTensorSource::Find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second.info;
}

std::vector<std::string> StoredTensorSource::Names() const {
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  return names;
}

StatusOr<const StoredTensor*> StoredTensorSource::Get(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    return MakeError(ErrorCode::kNotFound, absl::StrCat("there is no tensor ", std::string(name)));
  }
  return &found->second;
}

Status StoredTensorSource::ReadRows(std::string_view name, int64_t row_begin, int64_t row_count,
                                    float* out) const {
  QFT_ASSIGN_OR_RETURN(const StoredTensor* tensor, Get(name));
  const TensorInfo& info = tensor->info;
  QFT_RETURN_IF_ERROR(CheckRows(info, row_begin, row_count));
  const StoredTypeTraits& traits = Traits(info.type);
  if (traits.decode == nullptr) {
    return Unsupported("tensor ", info.name, ": values of type ", traits.name,
                       " are no real numbers");
  }
  const File& file = *files_[tensor->file];
  const int64_t begin = row_begin * info.Cols();
  const int64_t end = begin + row_count * info.Cols();
  std::vector<uint8_t> stored;
  for (int64_t first = begin; first < end; first += kChunkElements) {
    const int64_t count = std::min(kChunkElements, end - first);
    stored.resize(static_cast<size_t>(count / traits.block_elements * traits.block_bytes));
    const int64_t skipped = first / traits.block_elements * traits.block_bytes;
    QFT_RETURN_IF_ERROR(
        file.Pread(stored.data(), stored.size(), tensor->offset + static_cast<uint64_t>(skipped)));
    float* values = out + (first - begin);
    Dequantize(info.type, stored.data(), count, values);
    QFT_RETURN_IF_ERROR(CheckFinite(info, values, first, count));
  }
  return absl::OkStatus();
}

Status StoredTensorSource::ReadBytes(std::string_view name, uint64_t offset, uint64_t size,
                                     void* out) const {
  QFT_ASSIGN_OR_RETURN(const StoredTensor* tensor, Get(name));
  if (offset > tensor->bytes || size > tensor->bytes - offset) {
    return MakeError(ErrorCode::kOutOfRange,
                     absl::StrCat("tensor ", tensor->info.name, ": bytes ", offset, " + ", size,
                                  " are outside its ", tensor->bytes));
  }
  return files_[tensor->file]->Pread(out, size, tensor->offset + offset);
}

std::vector<StoredTensor> StoredTensorSource::InFileOrder() const {
  std::vector<StoredTensor> tensors;
  tensors.reserve(tensors_.size());
  for (const auto& [name, tensor] : tensors_) tensors.push_back(tensor);
  std::sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return std::tuple(a.file, a.offset, a.bytes) < std::tuple(b.file, b.offset, b.bytes);
  });
  return tensors;
}

}  // namespace qft
