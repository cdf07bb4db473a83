// Where the values of a model's tensors come from, row by row: no reader holds a whole model.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "runtime/data/dequantize.h"

namespace qft {

struct TensorInfo {
  std::string name;
  std::vector<int64_t> shape;
  StoredType type = StoredType::kF32;

  // A tensor read as a matrix: [1, n] for a vector, [1, 1] for a scalar, else the first dimension
  // by all the others.
  int64_t Rows() const;
  int64_t Cols() const;
  std::string ShapeText() const;  // "[2, 3]"
};

// Implementations are immutable; every method may be called concurrently.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  // nullptr when there is no such tensor. Valid as long as the source.
  virtual const TensorInfo* Find(std::string_view name) const = 0;
  // Ascending.
  virtual std::vector<std::string> Names() const = 0;
  // Rows [row_begin, row_begin + row_count) as fp32 into out[row_count * Cols()]. A value that is
  // NaN or infinite is kBadData naming the tensor and the place; an integer tensor kUnsupported.
  virtual Status ReadRows(std::string_view name, int64_t row_begin, int64_t row_count,
                          float* out) const = 0;
};

// A tensor that lies densely in one of a source's files.
struct StoredTensor {
  TensorInfo info;
  size_t file = 0;
  uint64_t offset = 0;  // from the start of the file
  uint64_t bytes = 0;
};

class StoredTensorSource final : public TensorSource {
 public:
  // The tensors' places lie inside their files and their names differ: the format readers check.
  StoredTensorSource(std::vector<std::unique_ptr<File>> files, std::vector<StoredTensor> tensors);

  const TensorInfo* Find(std::string_view name) const override;
  std::vector<std::string> Names() const override;
  Status ReadRows(std::string_view name, int64_t row_begin, int64_t row_count,
                  float* out) const override;
  // Bytes [offset, offset + size) of the tensor as stored, whatever its type.
  Status ReadBytes(std::string_view name, uint64_t offset, uint64_t size, void* out) const;
  // Where the tensors lie, ascending by file and offset.
  std::vector<StoredTensor> InFileOrder() const;

 private:
  StatusOr<const StoredTensor*> Get(std::string_view name) const;

  std::vector<std::unique_ptr<File>> files_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

// kOutOfRange when [row_begin, row_begin + row_count) are not rows of the tensor.
Status CheckRows(const TensorInfo& info, int64_t row_begin, int64_t row_count);

// The bytes of a tensor of `type` and `shape`; an error when a dimension is negative, the product
// overflows or a row is no whole number of blocks.
StatusOr<uint64_t> StoredBytes(StoredType type, const std::vector<int64_t>& shape);

// Refuses names that could not be printed in a message: empty, too long, control or non-ASCII
// bytes.
Status CheckTensorName(std::string_view name);

}  // namespace qft
