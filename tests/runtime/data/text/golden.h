// The files that make_tokenizer_golden.py wrote.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "nlohmann/json.hpp"

namespace qft {

inline std::string ReadTestFile(const std::string& name) {
  std::ifstream file(std::string(QFT_TEXT_TEST_DATA) + "/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline uint32_t Crc32(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1)));
  }
  return ~crc;
}

inline uint32_t Crc32(const std::vector<int32_t>& ids) {
  return Crc32(std::string_view(reinterpret_cast<const char*>(ids.data()), ids.size() * 4));
}

// <set>_small.json, or the variant's own "base", with the parts of variant `name` replaced.
inline std::string VariantJson(const std::string& name, const std::string& set = "tokenizer") {
  const nlohmann::json variants = nlohmann::json::parse(ReadTestFile(set + "_variants.json"));
  const nlohmann::json& variant = variants.at(name);
  nlohmann::json tokenizer =
      nlohmann::json::parse(ReadTestFile(variant.value("base", set + "_small.json")));
  for (const auto& [key, value] : variant.items()) {
    if (key == "model") {
      tokenizer[key].update(value);
    } else if (key != "base") {
      tokenizer[key] = value;
    }
  }
  return tokenizer.dump();
}

struct Golden {
  struct Line {
    std::string text;
    std::vector<uint32_t> ids_crc;  // [2 * column + (without special tokens)]
    uint32_t decoded_crc = 0;
  };
  struct IdList {
    std::vector<int32_t> ids;
    uint32_t kept_crc = 0;
    uint32_t skipped_crc = 0;
  };
  uint32_t columns = 0;
  std::vector<Line> lines;
  std::vector<IdList> id_lists;
};

inline Golden ReadGolden() {
  const std::string file = ReadTestFile("tokenizer_golden.bin");
  size_t at = 8;
  const auto next = [&file, &at] {
    uint32_t value = 0;
    std::memcpy(&value, file.data() + at, sizeof(value));
    at += sizeof(value);
    return value;
  };
  Golden golden;
  if (file.substr(0, 8) != "QFTGOLD1") return golden;
  golden.columns = next();
  golden.lines.resize(next());
  golden.id_lists.resize(next());
  for (Golden::Line& line : golden.lines) {
    const uint32_t length = next();
    line.text = file.substr(at, length);
    at += length;
    for (uint32_t i = 0; i < 2 * golden.columns; ++i) line.ids_crc.push_back(next());
    line.decoded_crc = next();
  }
  for (Golden::IdList& list : golden.id_lists) {
    list.ids.resize(next());
    for (int32_t& id : list.ids) id = static_cast<int32_t>(next());
    list.kept_crc = next();
    list.skipped_crc = next();
  }
  return golden;
}

}  // namespace qft
