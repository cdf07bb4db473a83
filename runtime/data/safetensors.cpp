#include "runtime/data/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "runtime/data/git_lfs.h"
#include "runtime/data/json.h"

namespace qft {
namespace {

using nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr size_t kMaxDimensions = 8;
constexpr uint64_t kMaxIndexBytes = 64'000'000;
constexpr char kMetadataKey[] = "__metadata__";

struct Header {
  std::map<std::string, std::string> metadata;
  std::vector<StoredTensor> tensors;
};

std::optional<StoredType> PlainType(std::string_view name) {
  for (const StoredType type :
       {StoredType::kF32, StoredType::kF16, StoredType::kBF16, StoredType::kF64, StoredType::kI8,
        StoredType::kU8, StoredType::kI32, StoredType::kI64}) {
    if (name == Traits(type).name) return type;
  }
  return std::nullopt;
}

StatusOr<std::map<std::string, std::string>> ParseStringMap(const json& value,
                                                            const std::string& what) {
  if (!value.is_object()) return Corrupt(what, " is no object");
  std::map<std::string, std::string> map;
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) return Corrupt(what, ": a value is no string");
    map.emplace(key, text.get_ref<const std::string&>());
  }
  return map;
}

StatusOr<std::vector<int64_t>> ParseShape(const json& value) {
  if (!value.is_array()) return Corrupt("shape is no array");
  if (value.size() > kMaxDimensions) return Corrupt("shape has ", value.size(), " dimensions");
  std::vector<int64_t> shape;
  for (const json& size : value) {
    if (!size.is_number_unsigned() ||
        size.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Corrupt("a dimension of the shape is no size");
    }
    shape.push_back(size.get<int64_t>());
  }
  return shape;
}

// Offsets come out relative to the data section.
StatusOr<StoredTensor> ParseTensor(const std::string& name, const json& entry) {
  if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") ||
      !entry.contains("shape") || !entry.contains("data_offsets")) {
    return Corrupt("its entry is not {dtype, shape, data_offsets}");
  }
  const json& dtype = entry["dtype"];
  if (!dtype.is_string()) return Corrupt("dtype is no string");
  const std::string& type_name = dtype.get_ref<const std::string&>();
  const std::optional<StoredType> type = PlainType(type_name);
  if (!type.has_value()) {
    return Unsupported("values of type ", absl::CHexEscape(type_name.substr(0, 40)),
                       " are not supported");
  }
  StoredTensor tensor;
  tensor.info.name = name;
  tensor.info.type = *type;
  QFT_ASSIGN_OR_RETURN(tensor.info.shape, ParseShape(entry["shape"]));
  const json& offsets = entry["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned()) {
    return Corrupt("data_offsets are not two sizes");
  }
  const uint64_t begin = offsets[0].get<uint64_t>();
  const uint64_t end = offsets[1].get<uint64_t>();
  QFT_ASSIGN_OR_RETURN(tensor.bytes, StoredBytes(*type, tensor.info.shape));
  if (begin > end || end - begin != tensor.bytes) {
    return Corrupt("data_offsets ", begin, " to ", end, " are not the ", tensor.bytes, " bytes of ",
                   tensor.info.ShapeText(), " ", Traits(*type).name);
  }
  tensor.offset = begin;
  return tensor;
}

// Sorted by offset, the tensors must cover the data section without gap or overlap.
Status CheckCover(const std::vector<StoredTensor>& tensors, uint64_t data_bytes) {
  std::vector<const StoredTensor*> sorted;
  sorted.reserve(tensors.size());
  for (const StoredTensor& tensor : tensors) sorted.push_back(&tensor);
  std::sort(sorted.begin(), sorted.end(), [](const StoredTensor* a, const StoredTensor* b) {
    return std::pair(a->offset, a->bytes) < std::pair(b->offset, b->bytes);
  });
  uint64_t covered = 0;
  for (const StoredTensor* tensor : sorted) {
    if (tensor->offset != covered) {
      return Corrupt("tensor ", tensor->info.name, " starts at byte ", tensor->offset,
                     " of the data, not at ", covered, " where the one before it ends");
    }
    // A tensor's bytes are below 2^63 and `covered` within the file: the sum can't wrap.
    if (tensor->bytes > data_bytes - covered) {
      return Corrupt("tensor ", tensor->info.name, " ends past the ", data_bytes,
                     " bytes of data in the file");
    }
    covered += tensor->bytes;
  }
  if (covered != data_bytes) {
    return Corrupt("the tensors cover ", covered, " of ", data_bytes, " bytes of data");
  }
  return absl::OkStatus();
}

StatusOr<Header> ParseHeader(const File& file) {
  QFT_ASSIGN_OR_RETURN(const uint64_t file_bytes, file.Size());
  if (file_bytes < kLengthBytes) return Corrupt("only ", file_bytes, " bytes");
  uint64_t header_bytes;
  QFT_RETURN_IF_ERROR(file.Pread(&header_bytes, kLengthBytes, 0));
  const uint64_t rest = file_bytes - kLengthBytes;
  if (header_bytes > kMaxSafetensorsHeader || header_bytes > rest) {
    QFT_RETURN_IF_ERROR(RefuseGitLfsPointer(file, file_bytes));
    return Corrupt("a header of ", header_bytes, " bytes in a file of ", file_bytes);
  }
  std::string text(header_bytes, '\0');
  QFT_RETURN_IF_ERROR(file.Pread(text.data(), header_bytes, kLengthBytes));
  QFT_ASSIGN_OR_RETURN(const json root, ParseJson(text, "header"));
  if (!root.is_object()) return Corrupt("the header is no JSON object");
  Header header;
  for (const auto& [name, entry] : root.items()) {
    if (name == kMetadataKey) {
      QFT_ASSIGN_OR_RETURN(header.metadata, ParseStringMap(entry, kMetadataKey));
      continue;
    }
    QFT_RETURN_IF_ERROR(CheckTensorName(name));
    StatusOr<StoredTensor> tensor = ParseTensor(name, entry);
    if (!tensor.ok()) return Annotate(tensor.status(), "tensor " + name);
    header.tensors.push_back(*std::move(tensor));
  }
  QFT_RETURN_IF_ERROR(CheckCover(header.tensors, rest - header_bytes));
  for (StoredTensor& tensor : header.tensors) tensor.offset += kLengthBytes + header_bytes;
  return header;
}

StatusOr<Header> ReadHeader(const File& file, const std::string& path) {
  StatusOr<Header> header = ParseHeader(file);
  if (!header.ok()) return Annotate(header.status(), path);
  return header;
}

// A shard is named by an untrusted file and must stay inside the folder.
bool IsPlainFileName(const std::string& name) {
  return CheckTensorName(name).ok() && name.find('/') == std::string::npos && name != "." &&
         name != "..";
}

StatusOr<std::map<std::string, std::string>> ReadIndex(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs, path, kMaxIndexBytes));
  QFT_ASSIGN_OR_RETURN(const json root, ParseJson(text, path));
  if (!root.is_object() || !root.contains("weight_map")) {
    return Corrupt(path, ": no weight_map");
  }
  QFT_ASSIGN_OR_RETURN(auto shard_of, ParseStringMap(root["weight_map"], path + ": weight_map"));
  for (const auto& [name, shard] : shard_of) {
    QFT_RETURN_IF_ERROR(CheckTensorName(name));
    if (!IsPlainFileName(shard)) {
      return Corrupt(path, ": weight_map places a tensor outside the folder");
    }
  }
  return shard_of;
}

StatusOr<std::unique_ptr<TensorSource>> OpenShards(FileSystem& fs, const std::string& folder) {
  const std::string index_path = JoinPath(folder, kSafetensorsIndexName);
  QFT_ASSIGN_OR_RETURN(auto unseen, ReadIndex(fs, index_path));
  std::map<std::string, size_t> number_of;
  for (const auto& [name, shard] : unseen) number_of.emplace(shard, 0);
  std::vector<std::unique_ptr<File>> files;
  std::vector<StoredTensor> tensors;
  for (auto& [shard, number] : number_of) {
    const std::string path = JoinPath(folder, shard);
    number = files.size();
    QFT_ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs.Open(path, OpenMode::kRead));
    QFT_ASSIGN_OR_RETURN(Header header, ReadHeader(*file, path));
    files.push_back(std::move(file));
    for (StoredTensor& tensor : header.tensors) {
      const auto entry = unseen.find(tensor.info.name);
      if (entry == unseen.end() || entry->second != shard) {
        return Corrupt(path, ": holds tensor ", tensor.info.name, ", which ", kSafetensorsIndexName,
                       " does not place there");
      }
      unseen.erase(entry);
      tensor.file = number;
      tensors.push_back(std::move(tensor));
    }
  }
  if (!unseen.empty()) {
    return Corrupt(index_path, ": tensor ", unseen.begin()->first, " is not in ",
                   unseen.begin()->second);
  }
  return std::make_unique<StoredTensorSource>(std::move(files), std::move(tensors));
}

}  // namespace

StatusOr<SafetensorsFile> OpenSafetensorsFile(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs.Open(path, OpenMode::kRead));
  QFT_ASSIGN_OR_RETURN(Header header, ReadHeader(*file, path));
  std::vector<std::unique_ptr<File>> files;
  files.push_back(std::move(file));
  return SafetensorsFile{
      std::move(header.metadata),
      std::make_unique<StoredTensorSource>(std::move(files), std::move(header.tensors))};
}

StatusOr<std::unique_ptr<TensorSource>> OpenSafetensorsFolder(FileSystem& fs,
                                                              const std::string& folder) {
  const std::string path = JoinPath(folder, kSafetensorsFileName);
  QFT_ASSIGN_OR_RETURN(const bool single, fs.Exists(path));
  if (single) {
    QFT_ASSIGN_OR_RETURN(SafetensorsFile file, OpenSafetensorsFile(fs, path));
    return std::unique_ptr<TensorSource>(std::move(file.tensors));
  }
  QFT_ASSIGN_OR_RETURN(const bool sharded, fs.Exists(JoinPath(folder, kSafetensorsIndexName)));
  if (sharded) return OpenShards(fs, folder);
  return MakeError(ErrorCode::kFileNotFound,
                   absl::StrCat(folder, ": neither ", kSafetensorsFileName, " nor ",
                                kSafetensorsIndexName, " is there"));
}

}  // namespace qft
