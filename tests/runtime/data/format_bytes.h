// Builders for the bytes of safetensors and GGUF files, right and wrong ones alike.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace qft {

template <typename T>
std::string Bytes(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

inline std::string FloatBytes(const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) bytes += Bytes(value);
  return bytes;
}

inline std::string Safetensors(const std::string& header, const std::string& data) {
  return Bytes<uint64_t>(header.size()) + header + data;
}

inline std::string GgufString(std::string_view text) {
  return Bytes<uint64_t>(text.size()) + std::string(text);
}

// The parts of a GGUF file; Build lays them out as the format says.
struct GgufBytes {
  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t alignment = 32;
  std::vector<std::string> entries;
  std::vector<std::string> tensors;
  std::string data;

  void AddEntry(std::string_view key, uint32_t type, const std::string& value) {
    entries.push_back(GgufString(key) + Bytes(type) + value);
  }
  void AddUint32(std::string_view key, uint32_t value) { AddEntry(key, 4, Bytes(value)); }
  void AddFloat32(std::string_view key, float value) { AddEntry(key, 6, Bytes(value)); }
  void AddString(std::string_view key, std::string_view value) {
    AddEntry(key, 8, GgufString(value));
  }

  // Dimensions in the file's order, the fastest first.
  void AddTensorEntry(std::string_view name, const std::vector<uint64_t>& dimensions, uint32_t type,
                      uint64_t offset) {
    std::string entry = GgufString(name) + Bytes<uint32_t>(dimensions.size());
    for (const uint64_t size : dimensions) entry += Bytes(size);
    tensors.push_back(entry + Bytes(type) + Bytes(offset));
  }
  void AddTensor(std::string_view name, const std::vector<uint64_t>& dimensions, uint32_t type,
                 const std::string& values) {
    data.resize((data.size() + alignment - 1) / alignment * alignment, '\0');
    AddTensorEntry(name, dimensions, type, data.size());
    data += values;
  }

  std::string Build() const { return Build(tensors.size(), entries.size()); }
  std::string Build(uint64_t tensor_count, uint64_t entry_count) const {
    std::string file = Header(tensor_count, entry_count);
    file.resize((file.size() + alignment - 1) / alignment * alignment, '\0');
    return file + data;
  }
  std::string Header(uint64_t tensor_count, uint64_t entry_count) const {
    std::string file = magic + Bytes(version) + Bytes(tensor_count) + Bytes(entry_count);
    for (const std::string& entry : entries) file += entry;
    for (const std::string& tensor : tensors) file += tensor;
    return file;
  }
};

}  // namespace qft
