#include <limits>
#include <utility>

#include "runtime/data/json.h"
#include "runtime/data/safetensors.h"

namespace qft {
namespace {

using nlohmann::json;

constexpr size_t kHeaderAlignment = 8;
constexpr char kMetadataKey[] = "__metadata__";

std::string TemporaryPath(const std::string& path) {
  return path + ".tmp";
}

// The header with its length before it; `data_bytes` is what the tensors take.
StatusOr<std::string> MakeHeader(const std::vector<TensorInfo>& tensors,
                                 const std::map<std::string, std::string>& metadata,
                                 uint64_t* data_bytes) {
  json root = json::object();
  if (!metadata.empty()) root[kMetadataKey] = metadata;
  uint64_t offset = 0;
  for (const TensorInfo& tensor : tensors) {
    QFT_RETURN_IF_ERROR(CheckTensorName(tensor.name));
    const StoredTypeTraits& traits = Traits(tensor.type);
    if (traits.block_elements != 1) {
      return Unsupported("tensor ", tensor.name, ": safetensors has no type ", traits.name);
    }
    if (tensor.name == kMetadataKey || root.contains(tensor.name))
      return InvalidArgument("tensor ", tensor.name, ": the name is taken");
    if (offset % static_cast<uint64_t>(traits.block_bytes) != 0) {
      return InvalidArgument("tensor ", tensor.name, " would start unaligned at byte ", offset,
                             ": declare wider types first");
    }
    const StatusOr<uint64_t> bytes = StoredBytes(tensor.type, tensor.shape);
    if (!bytes.ok() || *bytes > std::numeric_limits<int64_t>::max() - offset) {
      return InvalidArgument("tensor ", tensor.name, ": shape ", tensor.ShapeText(),
                             " is impossible");
    }
    root[tensor.name] = {{"dtype", traits.name},
                         {"shape", tensor.shape},
                         {"data_offsets", {offset, offset + *bytes}}};
    offset += *bytes;
  }
  // Text from callers may not be UTF-8; a strict dump would throw.
  std::string text = root.dump(-1, ' ', false, json::error_handler_t::replace);
  text.resize((text.size() + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment, ' ');
  if (text.size() > kMaxSafetensorsHeader) {
    return InvalidArgument("a safetensors header of ", text.size(), " bytes is too large");
  }
  const uint64_t length = text.size();
  *data_bytes = offset;
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + text;
}

}  // namespace

StatusOr<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(
    FileSystem& fs, const std::string& path, const std::vector<TensorInfo>& tensors,
    const std::map<std::string, std::string>& metadata) {
  uint64_t data_bytes = 0;
  QFT_ASSIGN_OR_RETURN(const std::string header, MakeHeader(tensors, metadata, &data_bytes));
  QFT_ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs.Open(TemporaryPath(path), OpenMode::kCreate));
  std::unique_ptr<SafetensorsWriter> writer(
      new SafetensorsWriter(fs, path, std::move(file), 0, header.size() + data_bytes));
  QFT_RETURN_IF_ERROR(writer->Append(header.data(), header.size()));
  return writer;
}

SafetensorsWriter::SafetensorsWriter(FileSystem& fs, std::string path, std::unique_ptr<File> file,
                                     uint64_t position, uint64_t end)
    : fs_(fs), path_(std::move(path)), file_(std::move(file)), position_(position), end_(end) {}

SafetensorsWriter::~SafetensorsWriter() {
  if (file_ == nullptr) return;
  // Best effort: an abandoned temporary file is harmless and the next attempt replaces it.
  try {
    (void)file_->Close();
    (void)fs_.Unlink(TemporaryPath(path_));
  } catch (const std::exception&) {  // no memory
  }
}

Status SafetensorsWriter::Append(const void* data, uint64_t size) {
  if (file_ == nullptr || size > end_ - position_) {
    return InvalidArgument(path_, ": more data than the declared tensors have");
  }
  QFT_RETURN_IF_ERROR(file_->Pwrite(data, size, position_));
  hasher_.Update(data, size);
  position_ += size;
  return absl::OkStatus();
}

Status SafetensorsWriter::Finish() {
  if (file_ == nullptr || position_ != end_) {
    return InvalidArgument(path_, ": ", end_ - position_, " bytes of the declared tensors lack");
  }
  // Whatever fails now, this writer is over: a file may not be synced twice.
  const std::unique_ptr<File> file = std::move(file_);
  Status status = Publish(*file);
  if (!status.ok()) (void)fs_.Unlink(TemporaryPath(path_));
  return status;
}

Status SafetensorsWriter::Publish(File& file) {
  QFT_RETURN_IF_ERROR(file.Sync());
  QFT_RETURN_IF_ERROR(file.Close());
  QFT_RETURN_IF_ERROR(fs_.Rename(TemporaryPath(path_), path_));
  return fs_.SyncDirectory(ParentPath(path_));
}

}  // namespace qft
