#include "bindings/cli/start_codes.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

namespace qft::cli {
namespace {

int OpenNameless(std::string name) {
  const int file = mkostemp(name.data(), O_CLOEXEC);
  if (file < 0) FailSystem(name);
  unlink(name.c_str());
  return file;
}

// False for a session that holds no codes.
bool ReadCodes(const Session& session, int64_t index, int64_t rows, int64_t cols,
               std::vector<int8_t>* codes) {
  codes->resize(static_cast<size_t>(rows * cols));
  qft_tensor_view view = Sized<qft_tensor_view>();
  view.data = codes->data();
  view.dtype = QFT_DTYPE_I8;
  view.dimensions = 2;
  view.shape[0] = rows;
  view.shape[1] = cols;
  std::string message;
  const qft_status status =
      Try(&message, qft_tensor_read, session.get(), index, QFT_TENSOR_WEIGHT, &view, nullptr);
  if (status == QFT_ERROR_UNSUPPORTED) return false;
  if (status != QFT_OK) throw Failure(message);
  return true;
}

}  // namespace

StartCodes::StartCodes(const Model& model, const Session& session,
                       const std::filesystem::path& folder)
    : name_((folder / "start_codes.XXXXXX").string()), file_(OpenNameless(name_)) {
  int64_t count = 0;
  Call(qft_model_get_tensor_count, model.get(), &count);
  int64_t offset = 0;
  std::vector<int8_t> codes;
  for (int64_t i = 0; i < count && has_codes_; ++i) {
    qft_tensor_info info = Sized<qft_tensor_info>();
    Call(qft_model_get_tensor_info, model.get(), i, &info);
    if (info.quantised == 0) continue;
    has_codes_ = ReadCodes(session, i, info.rows, info.cols, &codes);
    if (!has_codes_) break;
    tensors_.push_back({i, info.rows, info.cols, offset});
    WriteAt(file_.get(), codes.data(), codes.size(), offset, name_);
    offset += info.rows * info.cols;
  }
}

std::optional<double> StartCodes::ChangedShare(const Session& session) const {
  if (!has_codes_) return std::nullopt;
  int64_t changed = 0;
  int64_t total = 0;
  std::vector<int8_t> now;
  std::vector<int8_t> start;
  for (const Tensor& tensor : tensors_) {
    ReadCodes(session, tensor.index, tensor.rows, tensor.cols, &now);
    start.resize(now.size());
    ReadAt(file_.get(), start.data(), start.size(), tensor.offset, name_);
    for (size_t i = 0; i < now.size(); ++i) changed += now[i] != start[i];
    total += static_cast<int64_t>(now.size());
  }
  return total == 0 ? 0.0 : static_cast<double>(changed) / static_cast<double>(total);
}

}  // namespace qft::cli
