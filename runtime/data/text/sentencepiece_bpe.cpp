#include "runtime/data/text/sentencepiece_bpe.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "runtime/data/text/metaspace.h"
#include "runtime/data/text/unicode.h"

namespace qft {
namespace {

using Type = SentencePieceModel::Type;

bool CanMerge(const SentencePieceModel::Piece& piece) {
  return piece.type == Type::kNormal || piece.type == Type::kUnused;
}

// Of each piece; pieces of equal score have equal ranks.
std::vector<int32_t> RanksOf(const SentencePieceModel& model) {
  std::vector<float> scores;
  scores.reserve(model.pieces.size());
  for (const auto& piece : model.pieces) scores.push_back(piece.score);
  std::sort(scores.begin(), scores.end(), std::greater<>());
  std::vector<int32_t> ranks;
  ranks.reserve(scores.size());
  for (const auto& piece : model.pieces) {
    const auto place =
        std::lower_bound(scores.begin(), scores.end(), piece.score, std::greater<>());
    ranks.push_back(static_cast<int32_t>(place - scores.begin()));
  }
  return ranks;
}

}  // namespace

// The two symbols of a merge are whatever their texts are: pieces or single characters. A
// user-defined piece merges with nothing.
class SentencePieceBpe::RuleBuilder {
 public:
  RuleBuilder(const SentencePieceModel& model, SentencePieceBpe* bpe) : model_(model), bpe_(bpe) {}

  std::vector<MergeRule> Build() {
    for (size_t id = 0; id < model_.pieces.size(); ++id) {
      const auto& piece = model_.pieces[id];
      if (CanMerge(piece)) symbols_.emplace(piece.text, static_cast<int32_t>(id));
      if (piece.type == Type::kUserDefined) symbols_.emplace(piece.text, CharacterIds::kNone);
    }
    for (const auto& piece : model_.pieces) {
      if (CanMerge(piece)) AddCharacters(piece.text);
    }
    const std::vector<int32_t> ranks = RanksOf(model_);
    for (size_t id = 0; id < model_.pieces.size(); ++id) {
      if (CanMerge(model_.pieces[id])) AddRules(static_cast<int32_t>(id), ranks[id]);
    }
    return std::move(rules_);
  }

 private:
  void AddCharacters(std::string_view text) {
    for (size_t at = 0; at < text.size();) {
      const std::string_view character = text.substr(at, CharacterLength(text.substr(at)));
      at += character.size();
      const auto next = static_cast<int32_t>(model_.pieces.size() + bpe_->inner_characters_.size());
      const auto [place, is_new] = symbols_.emplace(character, next);
      if (is_new) bpe_->inner_characters_.emplace_back(character);
      if (place->second != CharacterIds::kNone) {
        bpe_->character_ids_.Set(FirstCharacter(character), place->second);
      }
    }
  }

  void AddRules(int32_t id, int32_t rank) {
    const std::string_view text = model_.pieces[static_cast<size_t>(id)].text;
    for (size_t at = CharacterLength(text); at < text.size();
         at += CharacterLength(text.substr(at))) {
      const auto left = symbols_.find(text.substr(0, at));
      if (left == symbols_.end() || left->second == CharacterIds::kNone) continue;
      const auto right = symbols_.find(text.substr(at));
      if (right == symbols_.end() || right->second == CharacterIds::kNone) continue;
      rules_.push_back({left->second, right->second, id, rank});
      if (model_.pieces[static_cast<size_t>(id)].type == Type::kUnused) {
        bpe_->merges_suffice_ = false;
      }
    }
  }

  const SentencePieceModel& model_;
  SentencePieceBpe* bpe_;
  absl::flat_hash_map<std::string_view, int32_t> symbols_;
  std::vector<MergeRule> rules_;
};

SentencePieceBpe::SentencePieceBpe(const SentencePieceModel& model)
    : merges_(RuleBuilder(model, this).Build()) {
  std::vector<std::pair<std::string, int32_t>> user_defined;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& piece = model.pieces[id];
    unused_.push_back(piece.type == Type::kUnused);
    const bool is_user_defined = piece.type == Type::kUserDefined;
    if (is_user_defined) user_defined.emplace_back(piece.text, static_cast<int32_t>(id));
    const bool may_hold_marker = is_user_defined || CanMerge(piece);
    if (may_hold_marker && HasInnerMarker(piece.text)) divides_at_markers_ = false;
  }
  merges_suffice_ = merges_suffice_ && inner_characters_.empty();
  // How an unused piece comes apart depends on all of the text.
  divides_at_markers_ = divides_at_markers_ && merges_suffice_;
  user_defined_ = PrefixTrie(std::move(user_defined));
}

void SentencePieceBpe::AppendSymbols(std::string_view text, const UnknownSpelling& spelling,
                                     std::vector<int32_t>* symbols) const {
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    size_t length = 0;
    int32_t symbol = user_defined_.Longest(rest, &length);
    if (symbol == PrefixTrie::kNone) {
      length = CharacterLength(rest);
      symbol = character_ids_.Find(FirstCharacter(rest));
    }
    if (symbol == CharacterIds::kNone) {
      spelling.Append(rest.substr(0, length), symbols);
    } else {
      symbols->push_back(symbol);
    }
    at += length;
  }
}

void SentencePieceBpe::AppendIds(int32_t symbol, const MergeHistory& history,
                                 const UnknownSpelling& spelling, std::vector<int32_t>* ids) const {
  const auto place = static_cast<size_t>(symbol);
  if (place >= unused_.size()) {
    return spelling.Append(inner_characters_[place - unused_.size()], ids);
  }
  const auto made_of = unused_[place] ? history.find(symbol) : history.end();
  if (made_of == history.end()) return ids->push_back(symbol);
  AppendIds(made_of->second.first, history, spelling, ids);
  AppendIds(made_of->second.second, history, spelling, ids);
}

void SentencePieceBpe::EncodePart(std::string_view text, const UnknownSpelling& spelling,
                                  std::vector<int32_t>* ids) const {
  if (merges_suffice_) {
    const size_t begin = ids->size();
    AppendSymbols(text, spelling, ids);
    return merges_.Merge(begin, ids);
  }
  std::vector<int32_t> symbols;
  MergeHistory history;
  AppendSymbols(text, spelling, &symbols);
  merges_.Merge(0, &symbols, &history);
  for (const int32_t symbol : symbols) AppendIds(symbol, history, spelling, ids);
}

void SentencePieceBpe::Encode(std::string_view text, const UnknownSpelling& spelling,
                              std::vector<int32_t>* ids) const {
  if (!divides_at_markers_) return EncodePart(text, spelling, ids);
  for (size_t at = 0; at < text.size();) {
    const size_t end = EndOfMarkedPart(text, at);
    EncodePart(text.substr(at, end - at), spelling, ids);
    at = end;
  }
}

}  // namespace qft
