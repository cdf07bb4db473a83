#include <vector>

#include "base/file.h"
#include "runtime/c_api/data/objects.h"
#include "runtime/data/safetensors.h"

using qft::CallCore;
using qft::FileSystem;
using qft::Status;
using qft::StatusOr;

namespace {

constexpr char kPartialSuffix[] = ".partial";

// Writes the files of one export into a folder.
class Exporter {
 public:
  Exporter(FileSystem& fs, qft_session* session, const qft_model* model, std::string folder)
      : fs_(fs), session_(session), model_(model), folder_(std::move(folder)) {}

  Status Write(const qft::Tokenizer* tokenizer) {
    QFT_RETURN_IF_ERROR(fs_.MakeDirectory(folder_));
    QFT_RETURN_IF_ERROR(WriteConfig());
    QFT_RETURN_IF_ERROR(WriteTensors());
    if (tokenizer != nullptr) {
      for (const auto& [name, content] : tokenizer->files()) {
        QFT_RETURN_IF_ERROR(WriteFile(name, content));
      }
    }
    return fs_.SyncDirectory(folder_);
  }

 private:
  Status WriteFile(const std::string& name, std::string_view content) {
    return qft::WriteFileDurably(fs_, qft::JoinPath(folder_, name), content);
  }

  Status WriteConfig() {
    size_t needed = 0;
    QFT_RETURN_IF_ERROR(CallCore(qft_model_config_json, model_, nullptr, size_t{0}, &needed));
    std::string config(needed + 1, '\0');
    QFT_RETURN_IF_ERROR(
        CallCore(qft_model_config_json, model_, config.data(), config.size(), &needed));
    config.resize(needed);
    return WriteFile("config.json", config);
  }

  Status WriteTensors() {
    int64_t count = 0;
    QFT_RETURN_IF_ERROR(CallCore(qft_model_get_tensor_count, model_, &count));
    std::vector<qft::TensorInfo> tensors;
    for (int64_t index = 0; index < count; ++index) {
      QFT_ASSIGN_OR_RETURN(qft::TensorInfo tensor, InfoOf(index));
      tensors.push_back(std::move(tensor));
    }
    // transformers refuses a file that does not say so.
    QFT_ASSIGN_OR_RETURN(
        const auto writer,
        qft::SafetensorsWriter::Create(fs_, qft::JoinPath(folder_, qft::kSafetensorsFileName),
                                       tensors, {{"format", "pt"}}));
    std::vector<uint16_t> values;
    for (size_t index = 0; index < tensors.size(); ++index) {
      QFT_RETURN_IF_ERROR(Read(static_cast<int64_t>(index), tensors[index], &values));
      QFT_RETURN_IF_ERROR(writer->Append(values.data(), values.size() * sizeof(uint16_t)));
    }
    return writer->Finish();
  }

  StatusOr<qft::TensorInfo> InfoOf(int64_t index) {
    qft_tensor_info info{};
    info.struct_size = sizeof(info);
    QFT_RETURN_IF_ERROR(CallCore(qft_model_get_tensor_info, model_, index, &info));
    qft::TensorInfo tensor;
    tensor.name = info.name;
    tensor.shape = info.dimensions == 1 ? std::vector<int64_t>{info.cols}
                                        : std::vector<int64_t>{info.rows, info.cols};
    tensor.type = qft::StoredType::kBF16;
    return tensor;
  }

  Status Read(int64_t index, const qft::TensorInfo& tensor, std::vector<uint16_t>* values) {
    values->resize(static_cast<size_t>(tensor.Rows() * tensor.Cols()));
    qft_tensor_view view{};
    view.struct_size = sizeof(view);
    view.data = values->data();
    view.dtype = QFT_DTYPE_BF16;
    view.dimensions = static_cast<int32_t>(tensor.shape.size());
    std::copy(tensor.shape.begin(), tensor.shape.end(), view.shape);
    return CallCore(qft_tensor_read, session_, index, int32_t{QFT_TENSOR_WEIGHT}, &view, nullptr);
  }

  FileSystem& fs_;
  qft_session* session_;
  const qft_model* model_;
  std::string folder_;
};

Status CheckIsFree(FileSystem& fs, const std::string& folder) {
  QFT_ASSIGN_OR_RETURN(const bool exists, fs.Exists(folder));
  if (!exists) return absl::OkStatus();
  QFT_ASSIGN_OR_RETURN(const bool is_folder, fs.IsDirectory(folder));
  if (is_folder) {
    QFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(folder));
    if (names.empty()) return absl::OkStatus();
  }
  return qft::MakeError(qft::ErrorCode::kState, folder + " exists and is not an empty folder");
}

Status Export(qft_session* session, const qft_model* model, const qft::Tokenizer* tokenizer,
              std::string folder) {
  FileSystem& fs = qft::PosixFileSystem();
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  QFT_RETURN_IF_ERROR(CheckIsFree(fs, folder));
  QFT_RETURN_IF_ERROR(qft::MakeDirectories(fs, qft::ParentPath(folder)));
  const std::string partial = folder + kPartialSuffix;
  QFT_ASSIGN_OR_RETURN(const bool interrupted, fs.Exists(partial));
  if (interrupted) {
    return qft::MakeError(qft::ErrorCode::kState,
                          partial + " exists, perhaps of an export that was killed: remove it");
  }
  Status status = Exporter(fs, session, model, partial).Write(tokenizer);
  if (status.ok()) status = fs.Rename(partial, folder);
  if (!status.ok()) {
    // What went wrong first is what the caller hears.
    qft::RemoveTree(fs, partial).IgnoreError();
    return status;
  }
  return fs.SyncDirectory(qft::ParentPath(folder));
}

}  // namespace

extern "C" {

qft_status qft_export(qft_session* session, const qft_model* model, const qft_tokenizer* tokenizer,
                      const char* folder, size_t folder_length, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("session", session));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("model", model));
    QFT_ASSIGN_OR_RETURN(const std::string_view path,
                         qft::ReadPath("folder", folder, folder_length));
    std::shared_ptr<const qft::TokenizerObject> object;
    if (tokenizer != nullptr) {
      QFT_ASSIGN_OR_RETURN(const auto shared, qft::Shared<qft::TokenizerObject>::Lock(tokenizer));
      object = shared.shared();
    }
    return Export(session, model, object ? object->tokenizer.get() : nullptr, std::string(path));
  });
}

}  // extern "C"
