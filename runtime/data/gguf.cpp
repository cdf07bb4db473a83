#include "runtime/data/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include "runtime/data/git_lfs.h"

namespace qft {
namespace {

constexpr char kMagic[4] = {'G', 'G', 'U', 'F'};
constexpr uint64_t kMaxHeaderBytes = uint64_t{1} << 28;
constexpr uint64_t kWindowBytes = uint64_t{1} << 16;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 20;
constexpr uint32_t kMaxDimensions = 4;
constexpr int kMaxArrayDepth = 4;
// The least a metadata entry, a tensor entry and a nested array take in a file.
constexpr uint64_t kMinEntryBytes = 8 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 4 + 4 + 8;
constexpr uint64_t kMinArrayBytes = 4 + 8;

template <typename T>
T LoadAt(const std::string& bytes, uint64_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// 0 for strings, arrays and numbers that name no type.
uint64_t ScalarBytes(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return 0;
}

// ggml's numbers of the types that are read.
constexpr std::pair<uint32_t, StoredType> kTensorTypes[] = {
    {0, StoredType::kF32},   {1, StoredType::kF16},   {2, StoredType::kQ4_0},
    {3, StoredType::kQ4_1},  {6, StoredType::kQ5_0},  {7, StoredType::kQ5_1},
    {8, StoredType::kQ8_0},  {10, StoredType::kQ2_K}, {11, StoredType::kQ3_K},
    {12, StoredType::kQ4_K}, {13, StoredType::kQ5_K}, {14, StoredType::kQ6_K},
    {15, StoredType::kQ8_K}, {24, StoredType::kI8},   {26, StoredType::kI32},
    {27, StoredType::kI64},  {28, StoredType::kF64},  {30, StoredType::kBF16},
};

// And of those that are refused by name.
constexpr std::pair<uint32_t, const char*> kOtherTensorTypes[] = {
    {9, "Q8_1"},   {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"},
    {21, "IQ3_S"}, {22, "IQ2_S"},   {23, "IQ4_XS"}, {25, "I16"},     {29, "IQ1_M"}, {34, "TQ1_0"},
    {35, "TQ2_0"}, {39, "MXFP4"},   {40, "NVFP4"},  {41, "Q1_0"},
};

StatusOr<StoredType> TensorType(uint32_t number) {
  for (const auto& [known, type] : kTensorTypes) {
    if (known == number) return type;
  }
  std::string name = absl::StrCat("number ", number);
  for (const auto& [known, other] : kOtherTensorTypes) {
    if (known == number) name = other;
  }
  return Unsupported("values of type ", name, " can't be read; take the model as F16, BF16, Q8_0 ",
                     "or a k-quant such as Q4_K_M, or its Hugging Face folder");
}

// Sequential reading through a small window; every length is checked against what is left.
class HeaderReader {
 public:
  HeaderReader(const File& file, uint64_t file_bytes)
      : file_(file), end_(std::min(file_bytes, kMaxHeaderBytes)) {}

  uint64_t position() const { return position_; }
  uint64_t left() const { return end_ - position_; }

  Status Read(void* out, uint64_t size) {
    if (size > left()) return Corrupt("the header ends early, at byte ", end_);
    char* destination = static_cast<char*>(out);
    while (size > 0) {
      if (position_ == window_begin_ + window_.size()) QFT_RETURN_IF_ERROR(Refill());
      const uint64_t at = position_ - window_begin_;
      const uint64_t count = std::min<uint64_t>(size, window_.size() - at);
      std::memcpy(destination, window_.data() + at, count);
      destination += count;
      position_ += count;
      size -= count;
    }
    return absl::OkStatus();
  }

  template <typename T>
  StatusOr<T> Scalar() {
    T value;
    QFT_RETURN_IF_ERROR(Read(&value, sizeof(value)));
    return value;
  }

  StatusOr<std::string> Bytes(uint64_t size) {
    if (size > left()) {
      return Corrupt(size, " bytes at byte ", position_, ", but only ", left(), " are left");
    }
    std::string bytes(size, '\0');
    QFT_RETURN_IF_ERROR(Read(bytes.data(), size));
    return bytes;
  }

  StatusOr<std::string> String() {
    QFT_ASSIGN_OR_RETURN(const uint64_t size, Scalar<uint64_t>());
    return Bytes(size);
  }

  // A count of things that take at least `min_bytes` each.
  StatusOr<uint64_t> Count(uint64_t min_bytes, const char* what) {
    QFT_ASSIGN_OR_RETURN(const uint64_t count, Scalar<uint64_t>());
    if (count > left() / min_bytes) {
      return Corrupt(count, " ", what, " can't be in the ", left(), " bytes left");
    }
    return count;
  }

 private:
  Status Refill() {
    window_begin_ = position_;
    window_.resize(std::min(kWindowBytes, left()));
    return file_.Pread(window_.data(), window_.size(), window_begin_);
  }

  const File& file_;
  const uint64_t end_;
  uint64_t position_ = 0;
  uint64_t window_begin_ = 0;
  std::vector<char> window_;
};

StatusOr<GgufValue> ReadArray(HeaderReader& reader, int depth);

// `count` elements, which the caller has seen to fit into the file.
Status ReadElements(HeaderReader& reader, int depth, GgufValue& value) {
  if (const uint64_t size = ScalarBytes(value.type); size != 0) {
    QFT_ASSIGN_OR_RETURN(value.scalars, reader.Bytes(value.count * size));
    return absl::OkStatus();
  }
  for (uint64_t i = 0; i < value.count; ++i) {
    if (value.type == GgufType::kString) {
      QFT_ASSIGN_OR_RETURN(std::string text, reader.String());
      value.strings.push_back(std::move(text));
    } else {
      QFT_ASSIGN_OR_RETURN(GgufValue nested, ReadArray(reader, depth + 1));
      value.arrays.push_back(std::move(nested));
    }
  }
  return absl::OkStatus();
}

StatusOr<GgufType> ReadType(HeaderReader& reader) {
  QFT_ASSIGN_OR_RETURN(const uint32_t number, reader.Scalar<uint32_t>());
  if (number > static_cast<uint32_t>(GgufType::kFloat64)) {
    return Corrupt("there is no value type ", number);
  }
  return static_cast<GgufType>(number);
}

StatusOr<GgufValue> ReadArray(HeaderReader& reader, int depth) {
  if (depth > kMaxArrayDepth) return Corrupt("arrays nested deeper than ", kMaxArrayDepth);
  GgufValue value;
  value.is_array = true;
  QFT_ASSIGN_OR_RETURN(value.type, ReadType(reader));
  uint64_t min_bytes = ScalarBytes(value.type);
  if (value.type == GgufType::kString) min_bytes = sizeof(uint64_t);
  if (value.type == GgufType::kArray) min_bytes = kMinArrayBytes;
  QFT_ASSIGN_OR_RETURN(value.count, reader.Count(min_bytes, "array elements"));
  QFT_RETURN_IF_ERROR(ReadElements(reader, depth, value));
  return value;
}

StatusOr<GgufValue> ReadValue(HeaderReader& reader) {
  QFT_ASSIGN_OR_RETURN(const GgufType type, ReadType(reader));
  if (type == GgufType::kArray) return ReadArray(reader, 1);
  GgufValue value;
  value.type = type;
  QFT_RETURN_IF_ERROR(ReadElements(reader, 0, value));
  return value;
}

StatusOr<GgufMetadata> ReadMetadata(HeaderReader& reader, uint64_t count) {
  GgufMetadata metadata;
  for (uint64_t i = 0; i < count; ++i) {
    QFT_ASSIGN_OR_RETURN(const std::string key, reader.String());
    QFT_RETURN_IF_ERROR(CheckTensorName(key));
    StatusOr<GgufValue> value = ReadValue(reader);
    if (!value.ok()) return Annotate(value.status(), "metadata " + key);
    if (!metadata.emplace(key, *std::move(value)).second) {
      return Corrupt("metadata ", key, " comes twice");
    }
  }
  return metadata;
}

// What follows a tensor's name. The offset comes out relative to the data section.
StatusOr<StoredTensor> ReadTensorEntry(HeaderReader& reader, const std::string& name) {
  StoredTensor tensor;
  tensor.info.name = name;
  QFT_ASSIGN_OR_RETURN(const uint32_t dimensions, reader.Scalar<uint32_t>());
  if (dimensions > kMaxDimensions) return Corrupt(dimensions, " dimensions");
  for (uint32_t i = 0; i < dimensions; ++i) {
    QFT_ASSIGN_OR_RETURN(const uint64_t size, reader.Scalar<uint64_t>());
    if (size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return Corrupt("a dimension of ", size);
    }
    tensor.info.shape.insert(tensor.info.shape.begin(), static_cast<int64_t>(size));
  }
  QFT_ASSIGN_OR_RETURN(const uint32_t number, reader.Scalar<uint32_t>());
  QFT_ASSIGN_OR_RETURN(tensor.info.type, TensorType(number));
  QFT_ASSIGN_OR_RETURN(tensor.bytes, StoredBytes(tensor.info.type, tensor.info.shape));
  QFT_ASSIGN_OR_RETURN(tensor.offset, reader.Scalar<uint64_t>());
  return tensor;
}

StatusOr<std::vector<StoredTensor>> ReadTensorEntries(HeaderReader& reader, uint64_t count) {
  std::vector<StoredTensor> tensors;
  std::set<std::string> names;
  for (uint64_t i = 0; i < count; ++i) {
    QFT_ASSIGN_OR_RETURN(const std::string name, reader.String());
    QFT_RETURN_IF_ERROR(CheckTensorName(name));
    if (!names.insert(name).second) return Corrupt("tensor ", name, " comes twice");
    StatusOr<StoredTensor> tensor = ReadTensorEntry(reader, name);
    if (!tensor.ok()) return Annotate(tensor.status(), "tensor " + name);
    tensors.push_back(*std::move(tensor));
  }
  return tensors;
}

StatusOr<uint64_t> Alignment(const GgufMetadata& metadata) {
  const auto found = metadata.find("general.alignment");
  if (found == metadata.end()) return kDefaultAlignment;
  const std::optional<int64_t> value = found->second.Integer();
  const uint64_t alignment = value.has_value() ? static_cast<uint64_t>(*value) : 0;
  if (found->second.is_array || !std::has_single_bit(alignment) || alignment > kMaxAlignment) {
    return Corrupt("general.alignment is no power of two up to ", kMaxAlignment);
  }
  return alignment;
}

// Makes offsets absolute; tensors must be aligned, inside the file and must not overlap.
Status PlaceTensors(std::vector<StoredTensor>& tensors, uint64_t data_begin, uint64_t alignment,
                    uint64_t file_bytes) {
  std::vector<const StoredTensor*> sorted;
  sorted.reserve(tensors.size());
  for (StoredTensor& tensor : tensors) {
    if (tensor.offset % alignment != 0) {
      return Corrupt("tensor ", tensor.info.name, ": offset ", tensor.offset, " is not aligned to ",
                     alignment);
    }
    const uint64_t data_bytes = file_bytes > data_begin ? file_bytes - data_begin : 0;
    if (tensor.offset > data_bytes || tensor.bytes > data_bytes - tensor.offset) {
      return Corrupt("tensor ", tensor.info.name, ": ", tensor.bytes, " bytes at offset ",
                     tensor.offset, " end past the ", data_bytes, " bytes of data in the file");
    }
    tensor.offset += data_begin;
    sorted.push_back(&tensor);
  }
  std::sort(sorted.begin(), sorted.end(), [](const StoredTensor* a, const StoredTensor* b) {
    return std::pair(a->offset, a->bytes) < std::pair(b->offset, b->bytes);
  });
  for (size_t i = 1; i < sorted.size(); ++i) {
    const StoredTensor& before = *sorted[i - 1];
    if (before.offset + before.bytes > sorted[i]->offset) {
      return Corrupt("tensors ", before.info.name, " and ", sorted[i]->info.name, " overlap");
    }
  }
  return absl::OkStatus();
}

Status ReadPreamble(HeaderReader& reader) {
  char magic[sizeof(kMagic)];
  QFT_RETURN_IF_ERROR(reader.Read(magic, sizeof(magic)));
  if (std::memcmp(magic, kMagic, sizeof(kMagic)) != 0) return Corrupt("no GGUF file");
  QFT_ASSIGN_OR_RETURN(const uint32_t version, reader.Scalar<uint32_t>());
  if (version == 2 || version == 3) return absl::OkStatus();
  if ((version & 0xffffu) == 0) return Unsupported("big-endian GGUF is not supported");
  return Unsupported("GGUF version ", version, " is not supported (2 and 3 are)");
}

struct Header {
  GgufMetadata metadata;
  std::vector<StoredTensor> tensors;
};

StatusOr<Header> ReadHeader(const File& file) {
  QFT_ASSIGN_OR_RETURN(const uint64_t file_bytes, file.Size());
  QFT_RETURN_IF_ERROR(RefuseGitLfsPointer(file, file_bytes));
  HeaderReader reader(file, file_bytes);
  QFT_RETURN_IF_ERROR(ReadPreamble(reader));
  QFT_ASSIGN_OR_RETURN(const uint64_t tensor_count, reader.Count(kMinTensorBytes, "tensors"));
  QFT_ASSIGN_OR_RETURN(const uint64_t entry_count, reader.Count(kMinEntryBytes, "entries"));
  Header header;
  QFT_ASSIGN_OR_RETURN(header.metadata, ReadMetadata(reader, entry_count));
  QFT_ASSIGN_OR_RETURN(header.tensors, ReadTensorEntries(reader, tensor_count));
  QFT_ASSIGN_OR_RETURN(const uint64_t alignment, Alignment(header.metadata));
  const uint64_t data_begin = (reader.position() + alignment - 1) / alignment * alignment;
  QFT_RETURN_IF_ERROR(PlaceTensors(header.tensors, data_begin, alignment, file_bytes));
  return header;
}

}  // namespace

std::optional<int64_t> GgufValue::Integer(uint64_t index) const {
  if (index >= count) return std::nullopt;
  switch (type) {
    case GgufType::kUint8:
      return LoadAt<uint8_t>(scalars, index);
    case GgufType::kInt8:
      return LoadAt<int8_t>(scalars, index);
    case GgufType::kUint16:
      return LoadAt<uint16_t>(scalars, index);
    case GgufType::kInt16:
      return LoadAt<int16_t>(scalars, index);
    case GgufType::kUint32:
      return LoadAt<uint32_t>(scalars, index);
    case GgufType::kInt32:
      return LoadAt<int32_t>(scalars, index);
    case GgufType::kInt64:
      return LoadAt<int64_t>(scalars, index);
    case GgufType::kUint64: {
      const int64_t value = LoadAt<int64_t>(scalars, index);
      if (value < 0) return std::nullopt;
      return value;
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> GgufValue::Number(uint64_t index) const {
  if (index >= count) return std::nullopt;
  if (type == GgufType::kFloat32) return LoadAt<float>(scalars, index);
  if (type == GgufType::kFloat64) return LoadAt<double>(scalars, index);
  const std::optional<int64_t> integer = Integer(index);
  if (!integer.has_value()) return std::nullopt;
  return static_cast<double>(*integer);
}

std::optional<bool> GgufValue::Bool(uint64_t index) const {
  if (index >= count || type != GgufType::kBool) return std::nullopt;
  return scalars[index] != 0;
}

const std::string* GgufValue::String(uint64_t index) const {
  return index < strings.size() ? &strings[index] : nullptr;
}

StatusOr<GgufFile> OpenGguf(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs.Open(path, OpenMode::kRead));
  StatusOr<Header> header = ReadHeader(*file);
  if (!header.ok()) return Annotate(header.status(), path);
  std::vector<std::unique_ptr<File>> files;
  files.push_back(std::move(file));
  return GgufFile{std::move(header->metadata), std::make_unique<StoredTensorSource>(
                                                   std::move(files), std::move(header->tensors))};
}

}  // namespace qft
