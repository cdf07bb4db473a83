#include "runtime/data/text/bpe.h"

#include <unicode/utf8.h>

#include <algorithm>
#include <optional>

#include "runtime/data/text/byte_tokens.h"
#include "runtime/data/text/metaspace.h"
#include "runtime/data/text/unicode.h"

namespace qft {

using Alphabet = BpeOptions::Alphabet;

Bpe::Bpe(const std::vector<MergeRule>& merges,
         const std::vector<std::pair<std::string, int32_t>>& tokens, const BpeOptions& options)
    : options_(options), merges_(merges) {
  byte_ids_.fill(kNone);
  bool has_inner_marker = false;
  for (const auto& [text, id] : tokens) {
    if (options.alphabet == Alphabet::kBytes) {
      if (text.size() == 1) byte_ids_[static_cast<uint8_t>(text[0])] = id;
    } else {
      AddCharacter(text, id);
      if (const auto byte = ByteOfToken(text)) byte_ids_[*byte] = id;
      has_inner_marker = has_inner_marker || HasInnerMarker(text);
    }
    if (options.ignore_merges) whole_.emplace(text, id);
  }
  const bool knows_marker = character_ids_.Find(FirstCharacter(kSpaceMarker)) != kNone;
  // A character that leaves no symbol makes its neighbours meet, whatever parts they are of.
  const bool leaves_out = options.unknown_id == kNone &&
                          !(options.byte_fallback && std::find(byte_ids_.begin(), byte_ids_.end(),
                                                               kNone) == byte_ids_.end());
  divides_at_markers_ = knows_marker && !has_inner_marker && !options.ignore_merges && !leaves_out;
}

void Bpe::AddCharacter(const std::string& text, int32_t id) {
  if (text.empty() || CharacterLength(text) != text.size()) return;
  character_ids_.Set(FirstCharacter(text), id);
}

void Bpe::AppendBytes(std::string_view piece, std::vector<int32_t>* ids) const {
  bool after_unknown = false;
  for (const char c : piece) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(c)];
    const bool unknown = id == kNone;
    if (!unknown) {
      ids->push_back(id);
    } else if (options_.unknown_id != kNone && !(after_unknown && options_.fuse_unknown)) {
      ids->push_back(options_.unknown_id);
    }
    after_unknown = unknown;
  }
}

bool Bpe::AppendFallback(std::string_view character, std::vector<int32_t>* ids) const {
  const bool all =
      options_.byte_fallback && std::all_of(character.begin(), character.end(), [this](char byte) {
        return byte_ids_[static_cast<uint8_t>(byte)] != kNone;
      });
  if (!all) return false;
  for (const char byte : character) ids->push_back(byte_ids_[static_cast<uint8_t>(byte)]);
  return true;
}

void Bpe::AppendCharacters(std::string_view piece, std::vector<int32_t>* ids) const {
  // An unknown token waits for the next known character: what is spelt in bytes comes before it.
  bool waits = false;
  const auto append_unknown = [&] {
    if (waits && options_.unknown_id != kNone) ids->push_back(options_.unknown_id);
  };
  for (size_t at = 0; at < piece.size();) {
    const size_t length = CharacterLength(piece.substr(at));
    const std::string_view character = piece.substr(at, length);
    at += length;
    const int32_t id = character_ids_.Find(FirstCharacter(character));
    if (id != kNone) {
      append_unknown();
      waits = false;
      ids->push_back(id);
    } else if (!AppendFallback(character, ids)) {
      if (!options_.fuse_unknown) append_unknown();
      waits = true;
    }
  }
  append_unknown();
}

void Bpe::EncodeWhole(std::string_view piece, std::vector<int32_t>* ids) const {
  const size_t begin = ids->size();
  if (options_.alphabet == Alphabet::kBytes) {
    AppendBytes(piece, ids);
  } else {
    AppendCharacters(piece, ids);
  }
  merges_.Merge(begin, ids);
}

void Bpe::Encode(std::string_view piece, std::vector<int32_t>* ids) const {
  if (options_.ignore_merges) {
    if (const auto found = whole_.find(absl::string_view(piece.data(), piece.size()));
        found != whole_.end()) {
      ids->push_back(found->second);
      return;
    }
  }
  if (!divides_at_markers_) return EncodeWhole(piece, ids);
  for (size_t at = 0; at < piece.size();) {
    const size_t end = EndOfMarkedPart(piece, at);
    EncodeWhole(piece.substr(at, end - at), ids);
    at = end;
  }
}

}  // namespace qft
