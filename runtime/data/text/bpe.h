// Byte-pair encoding of one pre-token, as Hugging Face tokenizers do it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "runtime/data/text/character_ids.h"
#include "runtime/data/text/merge_table.h"

namespace qft {

struct BpeOptions {
  // What a pre-token is made of before anything is merged.
  enum class Alphabet { kBytes, kCharacters };
  Alphabet alphabet = Alphabet::kBytes;
  int32_t unknown_id = -1;     // for a symbol without token; -1: it is left out
  bool fuse_unknown = false;   // neighbouring unknown symbols become one token
  bool byte_fallback = false;  // kCharacters: a character without token is spelt in tokens "<0x..>"
  bool ignore_merges = false;  // a pre-token that is a token as a whole is taken as it is
};

class Bpe {
 public:
  // `tokens`: texts and ids; with kBytes, of each token that is written in the byte alphabet, its
  // bytes.
  Bpe(const std::vector<MergeRule>& merges,
      const std::vector<std::pair<std::string, int32_t>>& tokens, const BpeOptions& options);

  // Appends the ids of `piece` (kCharacters: UTF-8). O(n log n), whatever the piece.
  // piece.size() < 2^31.
  void Encode(std::string_view piece, std::vector<int32_t>* ids) const;

 private:
  static constexpr int32_t kNone = -1;

  void AddCharacter(const std::string& text, int32_t id);
  void AppendBytes(std::string_view piece, std::vector<int32_t>* ids) const;
  void AppendCharacters(std::string_view piece, std::vector<int32_t>* ids) const;
  bool AppendFallback(std::string_view character, std::vector<int32_t>* ids) const;
  void EncodeWhole(std::string_view piece, std::vector<int32_t>* ids) const;

  BpeOptions options_;
  MergeTable merges_;
  std::array<int32_t, 256> byte_ids_;  // kBytes: of each byte; kCharacters: of "<0x..>"
  CharacterIds character_ids_;
  absl::flat_hash_map<std::string, int32_t> whole_;  // empty unless ignore_merges
  bool divides_at_markers_ = false;
};

}  // namespace qft
