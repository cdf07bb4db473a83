#include "runtime/data/text/unigram.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "runtime/data/text/unicode.h"
#include "runtime/data/text/unknown_spelling.h"

namespace qft {
namespace {

using Type = SentencePieceModel::Type;

constexpr float kUnknownPenalty = 10.0F;
constexpr int32_t kUnknown = -1;

}  // namespace

struct Unigram::Best {
  int32_t id = kUnknown;
  float score = 0;     // of the whole way
  int64_t begin = -1;  // of its last piece; -1: there is no way yet

  void Offer(int32_t other_id, float other_score, size_t other_begin) {
    if (begin >= 0 && !(other_score > score)) return;
    id = other_id;
    score = other_score;
    begin = static_cast<int64_t>(other_begin);
  }
};

Unigram::Unigram(const SentencePieceModel& model) {
  float min_score = std::numeric_limits<float>::max();
  max_score_ = std::numeric_limits<float>::lowest();
  std::vector<std::pair<std::string, int32_t>> keys;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePieceModel::Piece& piece = model.pieces[id];
    scores_.push_back(piece.score);
    user_defined_.push_back(piece.type == Type::kUserDefined);
    if (piece.type == Type::kNormal) {
      min_score = std::min(min_score, piece.score);
      max_score_ = std::max(max_score_, piece.score);
    }
    if (piece.type == Type::kNormal || piece.type == Type::kUserDefined) {
      keys.emplace_back(piece.text, static_cast<int32_t>(id));
    }
  }
  unknown_score_ = min_score - kUnknownPenalty;
  trie_ = PrefixTrie(std::move(keys));
}

// All in fp32 and in this order, as the SentencePiece library (0.2.3) does it: ties must fall
// alike.
void Unigram::Extend(std::string_view text, size_t begin, std::vector<Best>* best) const {
  const float so_far = (*best)[begin].score;
  const size_t character = CharacterLength(text.substr(begin));
  bool has_character = false;
  int32_t node = PrefixTrie::kRoot;
  for (size_t end = begin; end < text.size();) {
    node = trie_.Step(node, text[end++]);
    if (node == PrefixTrie::kNone) break;
    const int32_t id = trie_.Value(node);
    if (id == PrefixTrie::kNone) continue;
    const auto place = static_cast<size_t>(id);
    const size_t length = end - begin;
    const float score =
        user_defined_[place]
            ? static_cast<float>(static_cast<double>(static_cast<float>(length) * max_score_) - 0.1)
            : scores_[place];
    (*best)[end].Offer(id, score + so_far, begin);
    has_character = has_character || length == character;
  }
  if (!has_character) (*best)[begin + character].Offer(kUnknown, unknown_score_ + so_far, begin);
}

void Unigram::Encode(std::string_view text, const UnknownSpelling& spelling,
                     std::vector<int32_t>* ids) const {
  std::vector<Best> best(text.size() + 1);
  for (size_t at = 0; at < text.size(); at += CharacterLength(text.substr(at))) {
    Extend(text, at, &best);
  }
  std::vector<size_t> ends;
  for (size_t end = text.size(); end > 0; end = static_cast<size_t>(best[end].begin)) {
    ends.push_back(end);
  }
  for (auto end = ends.rbegin(); end != ends.rend(); ++end) {
    const Best& last = best[*end];
    const auto begin = static_cast<size_t>(last.begin);
    if (last.id == kUnknown) {
      spelling.Append(text.substr(begin, *end - begin), ids);
    } else {
      ids->push_back(last.id);
    }
  }
}

}  // namespace qft
