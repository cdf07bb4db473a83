#include "runtime/data/text/tokenizer_json_parts.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "runtime/data/text/json_object.h"
#include "runtime/data/text/unicode.h"

namespace qft {
namespace {

using nlohmann::json;
using Kind = PreTokenizerStep::Kind;

constexpr size_t kMaxFrameTokens = 256;  // on one side of a text

StatusOr<std::string> TypeOf(const Object& object) {
  return object.String("type", "");
}

// The parts of a "Sequence", or the value itself as its only part. visit(object, type).
template <typename Visit>
Status ForEachPart(const json& value, const std::string& what, const char* list,
                   const Visit& visit) {
  QFT_ASSIGN_OR_RETURN(const Object object, Object::Of(value, what));
  QFT_ASSIGN_OR_RETURN(const std::string type, TypeOf(object));
  if (type != "Sequence") return visit(object, type);
  QFT_RETURN_IF_ERROR(object.CheckKeys({"type", list}));
  const json* parts = object.Find(list);
  if (parts == nullptr || !parts->is_array()) return BadData(what, ".", list, " is not an array");
  for (const json& part : *parts) {
    QFT_RETURN_IF_ERROR(ForEachPart(part, what, list, visit));
  }
  return absl::OkStatus();
}

// ---- normalizer ---------------------------------------------------------------------------------

// "pattern" and "content" of a Replace.
StatusOr<std::pair<std::string, std::string>> ReadReplace(const Object& object) {
  QFT_RETURN_IF_ERROR(object.CheckKeys({"type", "pattern", "content"}));
  const json* pattern = object.Find("pattern");
  if (pattern == nullptr) return BadData(object.what(), " Replace has no pattern");
  QFT_ASSIGN_OR_RETURN(const Object fields, Object::Of(*pattern, object.what() + ".pattern"));
  if (fields.Find("Regex") != nullptr) return Refuse(object.what(), " Replace with a Regex");
  QFT_ASSIGN_OR_RETURN(std::string from, fields.String("String", ""));
  QFT_ASSIGN_OR_RETURN(std::string to, object.String("content", ""));
  if (from.empty()) return BadData(object.what(), " Replace has an empty pattern");
  if (to.size() > kMaxReplacementBytes) return BadData(object.what(), " Replace: content too long");
  return std::pair(std::move(from), std::move(to));
}

std::optional<NormalForm> FormOf(const std::string& type) {
  if (type == "NFC") return NormalForm::kNfc;
  if (type == "NFD") return NormalForm::kNfd;
  if (type == "NFKC") return NormalForm::kNfkc;
  if (type == "NFKD") return NormalForm::kNfkd;
  return std::nullopt;
}

StatusOr<NormalizerStep> ReadNormalizerStep(const Object& object, const std::string& type) {
  NormalizerStep step;
  if (const auto form = FormOf(type)) {
    step.form = *form;
    return step;
  }
  if (type == "Prepend") {
    QFT_RETURN_IF_ERROR(object.CheckKeys({"type", "prepend"}));
    step.kind = NormalizerStep::Kind::kPrepend;
    QFT_ASSIGN_OR_RETURN(step.text, object.String("prepend", ""));
    if (step.text.size() > kMaxReplacementBytes) return BadData("normalizer.prepend is too long");
    return step;
  }
  if (type == "Replace") {
    step.kind = NormalizerStep::Kind::kReplace;
    QFT_ASSIGN_OR_RETURN(std::tie(step.pattern, step.text), ReadReplace(object));
    return step;
  }
  return Refuse("normalizer \"", type, "\"");
}

// ---- pre-tokenizer ------------------------------------------------------------------------------

StatusOr<SplitBehavior> BehaviorOf(const std::string& name) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return Refuse("pre_tokenizer Split with behavior \"", name, "\"");
}

StatusOr<PreTokenizerStep> ReadSplit(const Object& object) {
  PreTokenizerStep step;
  step.kind = Kind::kSplit;
  QFT_RETURN_IF_ERROR(object.CheckKeys({"type", "pattern", "behavior", "invert"}));
  QFT_ASSIGN_OR_RETURN(const std::string behavior, object.String("behavior", ""));
  QFT_ASSIGN_OR_RETURN(step.behavior, BehaviorOf(behavior));
  QFT_ASSIGN_OR_RETURN(step.invert, object.Bool("invert", false));
  const json* pattern = object.Find("pattern");
  if (pattern == nullptr) return BadData("pre_tokenizer Split has no pattern");
  QFT_ASSIGN_OR_RETURN(const Object fields, Object::Of(*pattern, "pre_tokenizer.pattern"));
  QFT_RETURN_IF_ERROR(fields.CheckKeys({"Regex", "String"}));
  step.literal = fields.Find("String") != nullptr;
  QFT_ASSIGN_OR_RETURN(step.pattern, fields.String(step.literal ? "String" : "Regex", ""));
  if (step.pattern.empty()) return BadData("pre_tokenizer Split has an empty pattern");
  return step;
}

StatusOr<PreTokenizerStep> ReadStep(const Object& object, const std::string& type) {
  PreTokenizerStep step;
  if (type == "Split") return ReadSplit(object);
  if (type == "Digits") {
    step.kind = Kind::kDigits;
    QFT_RETURN_IF_ERROR(object.CheckKeys({"type", "individual_digits"}));
    QFT_ASSIGN_OR_RETURN(step.individual_digits, object.Bool("individual_digits", false));
    return step;
  }
  if (type == "ByteLevel") {
    QFT_RETURN_IF_ERROR(
        object.CheckKeys({"type", "add_prefix_space", "trim_offsets", "use_regex"}));
    QFT_ASSIGN_OR_RETURN(step.add_prefix_space, object.Bool("add_prefix_space", true));
    QFT_ASSIGN_OR_RETURN(step.use_regex, object.Bool("use_regex", true));
    return step;
  }
  return Refuse("pre_tokenizer \"", type, "\"", type == "Metaspace" ? " beside others" : "");
}

StatusOr<Metaspace::Prepend> PrependOf(const Object& object) {
  QFT_ASSIGN_OR_RETURN(const std::string scheme, object.String("prepend_scheme", "always"));
  QFT_ASSIGN_OR_RETURN(const bool adds, object.Bool("add_prefix_space", true));
  if (!adds && object.Find("prepend_scheme") != nullptr && scheme != "never") {
    return BadData(object.what(), ".add_prefix_space contradicts its prepend_scheme");
  }
  if (scheme == "never" || !adds) return Metaspace::Prepend::kNever;
  if (scheme == "first") return Metaspace::Prepend::kFirst;
  if (scheme == "always") return Metaspace::Prepend::kAlways;
  return Refuse(object.what(), " Metaspace with prepend_scheme \"", scheme, "\"");
}

// As pre-tokenizer or decoder.
StatusOr<Metaspace> ReadMetaspace(const Object& object) {
  QFT_RETURN_IF_ERROR(object.CheckKeys(
      {"type", "replacement", "str_rep", "add_prefix_space", "prepend_scheme", "split"}));
  QFT_ASSIGN_OR_RETURN(const std::string marker, object.String("replacement", ""));
  if (marker != kSpaceMarker) {
    return Refuse(object.what(), " Metaspace with replacement \"", marker, "\"");
  }
  Metaspace result;
  QFT_ASSIGN_OR_RETURN(result.prepend, PrependOf(object));
  QFT_ASSIGN_OR_RETURN(result.divides, object.Bool("split", true));
  return result;
}

Status CheckByteLevelIsLast(const std::vector<PreTokenizerStep>& steps) {
  for (size_t i = 0; i < steps.size(); ++i) {
    const bool is_last = i + 1 == steps.size();
    if ((steps[i].kind == Kind::kByteLevel) != is_last) {
      return Refuse("a pre_tokenizer that does not end with its only ByteLevel");
    }
  }
  if (steps.empty()) return Refuse("an empty pre_tokenizer");
  return absl::OkStatus();
}

// ---- decoder ------------------------------------------------------------------------------------

// What a decoder is made of, one part after the other.
class DecoderReader {
 public:
  Status Add(const Object& object, const std::string& type) {
    if (complete_) return Refuse("a decoder with \"", type, "\" after its end");
    if (type == "Replace" && !falls_back_ && !fuses_) {
      QFT_ASSIGN_OR_RETURN(auto replacement, ReadReplace(object));
      options_.replacements.push_back(std::move(replacement));
    } else if (type == "ByteFallback" && !falls_back_ && !fuses_) {
      falls_back_ = options_.byte_fallback = true;
    } else if (type == "Fuse" && !fuses_) {
      fuses_ = true;
    } else if (type == "Strip" && fuses_) {
      complete_ = true;
      return AddStrip(object);
    } else if ((type == "ByteLevel" || type == "Metaspace") && parts_ == 0) {
      complete_ = true;
      return AddWhole(object, type);
    } else {
      return Refuse("decoder \"", type, "\"", parts_ > 0 ? " in this place" : "");
    }
    ++parts_;
    options_.kind = DecoderOptions::Kind::kPieces;
    return absl::OkStatus();
  }
  DecoderOptions options() && { return std::move(options_); }

 private:
  Status AddStrip(const Object& object) {
    QFT_RETURN_IF_ERROR(object.CheckKeys({"type", "content", "start", "stop"}));
    QFT_ASSIGN_OR_RETURN(options_.stripped, object.String("content", ""));
    if (options_.stripped.empty()) return BadData("decoder Strip has no content");
    const json* start = object.Find("start");
    const json* stop = object.Find("stop");
    if (start == nullptr || stop == nullptr) return BadData("decoder Strip: start and stop");
    QFT_ASSIGN_OR_RETURN(options_.stripped_count, TokenIdOf(*start, "decoder.start"));
    return *stop == 0 ? absl::OkStatus() : Refuse("decoder Strip with a stop");
  }
  Status AddWhole(const Object& object, const std::string& type) {
    if (type == "ByteLevel") return absl::OkStatus();
    QFT_ASSIGN_OR_RETURN(const Metaspace metaspace, ReadMetaspace(object));
    options_.kind = DecoderOptions::Kind::kPieces;
    if (metaspace.prepend == Metaspace::Prepend::kNever) {
      options_.replacements.emplace_back(kSpaceMarker, " ");
    } else {
      options_.drops_first_markers = true;
    }
    return absl::OkStatus();
  }

  DecoderOptions options_;
  int parts_ = 0;
  bool falls_back_ = false;
  bool fuses_ = false;
  bool complete_ = false;
};

// ---- post-processor -----------------------------------------------------------------------------

Status CheckFrameSize(size_t tokens) {
  if (tokens <= kMaxFrameTokens) return absl::OkStatus();
  return BadData("post_processor adds more than ", kMaxFrameTokens, " tokens on one side");
}

// Appends the ids of the special token that "single" names.
Status AppendTemplateIds(const Object& processor, const json& named, std::vector<int32_t>* ids) {
  QFT_ASSIGN_OR_RETURN(const Object item, Object::Of(named, "post_processor.single[]"));
  QFT_ASSIGN_OR_RETURN(const std::string name, item.String("id", ""));
  const json* all = processor.Find("special_tokens");
  if (all == nullptr) return BadData("post_processor.special_tokens is missing");
  QFT_ASSIGN_OR_RETURN(const Object tokens, Object::Of(*all, "post_processor.special_tokens"));
  const json* token = tokens.Find(name.c_str());
  if (token == nullptr) return BadData("post_processor names the unknown token \"", name, "\"");
  QFT_ASSIGN_OR_RETURN(const Object fields, Object::Of(*token, "post_processor.special_tokens[]"));
  const json* list = fields.Find("ids");
  if (list == nullptr || !list->is_array()) return BadData("post_processor: ids is not an array");
  for (const json& id : *list) {
    QFT_RETURN_IF_ERROR(CheckFrameSize(ids->size() + 1));
    QFT_ASSIGN_OR_RETURN(const int64_t number, TokenIdOf(id, "post_processor: ids[]"));
    ids->push_back(static_cast<int32_t>(number));
  }
  return absl::OkStatus();
}

Status ReadTemplate(const Object& object, TextFrame* frame) {
  QFT_RETURN_IF_ERROR(object.CheckKeys({"type", "single", "pair", "special_tokens"}));
  const json* single = object.Find("single");
  if (single == nullptr || !single->is_array()) {
    return BadData("post_processor.single is not an array");
  }
  TextFrame inner = std::move(*frame);
  *frame = {};
  bool seen_text = false;
  for (const json& item : *single) {
    QFT_ASSIGN_OR_RETURN(const Object part, Object::Of(item, "post_processor.single[]"));
    if (const json* token = part.Find("SpecialToken")) {
      QFT_RETURN_IF_ERROR(
          AppendTemplateIds(object, *token, seen_text ? &frame->suffix : &frame->prefix));
      continue;
    }
    if (part.Find("Sequence") == nullptr || seen_text) {
      return BadData("post_processor.single does not hold the text once");
    }
    seen_text = true;
    frame->prefix.insert(frame->prefix.end(), inner.prefix.begin(), inner.prefix.end());
    frame->suffix = inner.suffix;
  }
  if (!seen_text) return BadData("post_processor.single does not hold the text once");
  return CheckFrameSize(std::max(frame->prefix.size(), frame->suffix.size()));
}

}  // namespace

StatusOr<AddedToken> ReadAddedToken(const json& value, int32_t id) {
  AddedToken token;
  token.id = id;
  QFT_ASSIGN_OR_RETURN(const Object object, Object::Of(value, "an added token"));
  QFT_RETURN_IF_ERROR(object.CheckKeys(
      {"id", "content", "special", "normalized", "single_word", "lstrip", "rstrip", "__type"}));
  QFT_ASSIGN_OR_RETURN(token.content, object.String("content", ""));
  if (token.content.empty()) return BadData("the added token ", token.id, " has no content");
  QFT_ASSIGN_OR_RETURN(token.special, object.Bool("special", false));
  QFT_ASSIGN_OR_RETURN(token.normalized, object.Bool("normalized", !token.special));
  QFT_ASSIGN_OR_RETURN(token.single_word, object.Bool("single_word", false));
  QFT_ASSIGN_OR_RETURN(token.lstrip, object.Bool("lstrip", false));
  QFT_ASSIGN_OR_RETURN(token.rstrip, object.Bool("rstrip", false));
  return token;
}

Status ReadNormalizer(const json& value, std::vector<NormalizerStep>* steps) {
  return ForEachPart(value, "normalizer", "normalizers",
                     [&](const Object& object, const std::string& type) -> Status {
                       QFT_ASSIGN_OR_RETURN(NormalizerStep step, ReadNormalizerStep(object, type));
                       steps->push_back(std::move(step));
                       return absl::OkStatus();
                     });
}

Status ReadPreTokenizer(const json& value, std::vector<PreTokenizerStep>* steps,
                        std::optional<Metaspace>* metaspace) {
  QFT_RETURN_IF_ERROR(
      ForEachPart(value, "pre_tokenizer", "pretokenizers",
                  [&](const Object& object, const std::string& type) -> Status {
                    if (type == "Metaspace" && steps->empty() && !metaspace->has_value()) {
                      QFT_ASSIGN_OR_RETURN(*metaspace, ReadMetaspace(object));
                      return absl::OkStatus();
                    }
                    QFT_ASSIGN_OR_RETURN(PreTokenizerStep step, ReadStep(object, type));
                    steps->push_back(std::move(step));
                    return absl::OkStatus();
                  }));
  if (metaspace->has_value()) {
    return steps->empty() ? absl::OkStatus() : Refuse("pre_tokenizer \"Metaspace\" beside others");
  }
  return CheckByteLevelIsLast(*steps);
}

StatusOr<DecoderOptions> ReadDecoder(const json& value) {
  DecoderReader reader;
  QFT_RETURN_IF_ERROR(ForEachPart(
      value, "decoder", "decoders",
      [&](const Object& object, const std::string& type) { return reader.Add(object, type); }));
  return std::move(reader).options();
}

Status ReadPostProcessor(const json& value, TextFrame* frame) {
  return ForEachPart(value, "post_processor", "processors",
                     [&](const Object& object, const std::string& type) -> Status {
                       if (type == "ByteLevel") return absl::OkStatus();
                       if (type == "TemplateProcessing") return ReadTemplate(object, frame);
                       return Refuse("post_processor \"", type, "\"");
                     });
}

}  // namespace qft
