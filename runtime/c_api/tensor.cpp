#include <string>
#include <vector>

#include "base/half.h"
#include "runtime/c_api/boundary.h"
#include "runtime/c_api/session_handle.h"
#include "runtime/tensor_io.h"

using qft::Exclusive;
using qft::SessionObject;
using qft::Status;
using qft::StatusOr;
using qft::TensorPart;

namespace {

struct Shape {
  int64_t rows;
  int64_t cols;
};

struct Access {
  qft_tensor_view view;
  Shape shape;
  TensorPart part;
};

StatusOr<TensorPart> PartOf(int32_t what) {
  switch (what) {
    case QFT_TENSOR_WEIGHT:
      return TensorPart::kWeight;
    case QFT_TENSOR_GRID:
      return TensorPart::kGrid;
    case QFT_TENSOR_MOMENTUM:
      return TensorPart::kMomentum;
    case QFT_TENSOR_GRADIENT:
      return TensorPart::kGradient;
    default:
      return qft::InvalidArgument("what is ", what, ", must be a QFT_TENSOR_*");
  }
}

Status CheckShape(const qft_tensor_view& view, const Shape& shape) {
  const bool matrix = view.dimensions == 2;
  const int64_t rows = matrix ? view.shape[0] : 1;
  const int64_t cols = matrix ? view.shape[1] : view.shape[0];
  if ((view.dimensions != 1 && !matrix) || rows * 1.0 * cols != shape.rows * 1.0 * shape.cols ||
      (matrix && rows != shape.rows)) {
    return qft::MakeError(qft::ErrorCode::kShape,
                          absl::StrCat("the view is ", rows, " x ", cols, ", the tensor ",
                                       shape.rows, " x ", shape.cols));
  }
  const bool dense_zero = view.strides[0] == 0 && view.strides[1] == 0;
  const bool dense =
      matrix ? view.strides[0] == shape.cols && view.strides[1] == 1 : view.strides[0] == 1;
  if (!dense_zero && !dense) return qft::Unsupported("the view is not dense and row-major");
  return absl::OkStatus();
}

StatusOr<Access> CheckAccess(const qft::Session& session, int64_t index, int32_t what,
                             const qft_tensor_view* view, const qft_stream* stream) {
  Access access{};
  QFT_ASSIGN_OR_RETURN(access.view, qft::ReadStruct("view", view));
  QFT_ASSIGN_OR_RETURN(access.part, PartOf(what));
  if (stream != nullptr) {
    QFT_ASSIGN_OR_RETURN(const qft_stream in, qft::ReadStruct("stream", stream));
    if (in.kind != QFT_STREAM_NONE) return qft::Unsupported("streams other than NONE");
  }
  const qft::TensorTable& table = session.model().table();
  if (index < 0 || index >= table.size()) {
    return qft::MakeError(qft::ErrorCode::kOutOfRange,
                          absl::StrCat("tensor ", index, " of ", table.size()));
  }
  const qft::TensorSpec& spec = table[static_cast<int>(index)];
  access.shape = {spec.rows, access.part == TensorPart::kGrid ? 1 : spec.cols};
  if (access.view.device != QFT_DEVICE_HOST) return qft::Unsupported("views outside host memory");
  if (access.view.dtype < QFT_DTYPE_F32 || access.view.dtype > QFT_DTYPE_I8) {
    return qft::Unsupported("dtype ", access.view.dtype);
  }
  QFT_RETURN_IF_ERROR(qft::RequireNotNull("view->data", access.view.data));
  QFT_RETURN_IF_ERROR(CheckShape(access.view, access.shape));
  return access;
}

void FromFloats(const std::vector<float>& values, int32_t dtype, void* data) {
  auto* half = static_cast<uint16_t*>(data);
  for (size_t i = 0; i < values.size(); ++i) {
    half[i] = dtype == QFT_DTYPE_BF16 ? qft::FloatToBf16(values[i]) : qft::FloatToFp16(values[i]);
  }
}

void ToFloats(const void* data, int32_t dtype, std::vector<float>& values) {
  const auto* half = static_cast<const uint16_t*>(data);
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = dtype == QFT_DTYPE_BF16 ? qft::Bf16ToFloat(half[i]) : qft::Fp16ToFloat(half[i]);
  }
}

}  // namespace

extern "C" {

qft_status qft_tensor_read(qft_session* session, int64_t index, int32_t what,
                           const qft_tensor_view* view, const qft_stream* stream,
                           qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    QFT_ASSIGN_OR_RETURN(const Access access,
                         CheckAccess(object->get(), index, what, view, stream));
    const int tensor = static_cast<int>(index);
    if (access.view.dtype == QFT_DTYPE_I8) {
      if (access.part != TensorPart::kWeight) return qft::Unsupported("only weights have codes");
      return qft::ReadTensorCodes(object->get(), tensor, static_cast<int8_t*>(access.view.data));
    }
    if (access.view.dtype == QFT_DTYPE_F32) {
      return qft::ReadTensor(object->get(), tensor, access.part,
                             static_cast<float*>(access.view.data));
    }
    std::vector<float> values(static_cast<size_t>(access.shape.rows * access.shape.cols));
    QFT_RETURN_IF_ERROR(qft::ReadTensor(object->get(), tensor, access.part, values.data()));
    FromFloats(values, access.view.dtype, access.view.data);
    return absl::OkStatus();
  });
}

qft_status qft_tensor_write(qft_session* session, int64_t index, int32_t what,
                            const qft_tensor_view* view, const qft_stream* stream,
                            qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    QFT_ASSIGN_OR_RETURN(const Access access,
                         CheckAccess(object->get(), index, what, view, stream));
    if (access.view.dtype == QFT_DTYPE_I8) return qft::Unsupported("setting codes");
    const int tensor = static_cast<int>(index);
    if (access.view.dtype == QFT_DTYPE_F32) {
      return qft::WriteTensor(object->get(), tensor, access.part,
                              static_cast<const float*>(access.view.data));
    }
    std::vector<float> values(static_cast<size_t>(access.shape.rows * access.shape.cols));
    ToFloats(access.view.data, access.view.dtype, values);
    return qft::WriteTensor(object->get(), tensor, access.part, values.data());
  });
}

}  // extern "C"
