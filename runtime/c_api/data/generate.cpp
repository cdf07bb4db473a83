#include <algorithm>
#include <limits>
#include <vector>

#include "runtime/c_api/data/objects.h"
#include "runtime/c_api/struct_size.h"
#include "runtime/data/text/sampler.h"
#include "runtime/data/text/tokenizer.h"

using qft::CallCore;
using qft::Status;
using qft::StatusOr;

namespace {

constexpr int64_t kDefaultMaximumTokens = 128;
constexpr int64_t kLargestMaximumTokens = int64_t{1} << 24;
constexpr int64_t kMostStopIds = 1024;
constexpr size_t kUsualVocabulary = size_t{1} << 18;
constexpr size_t kLargestVocabulary = size_t{1} << 24;

// A qft_decoder and the logits after what was fed last.
class Decoder {
 public:
  Decoder() : logits_(kUsualVocabulary, -std::numeric_limits<float>::infinity()) {}
  ~Decoder() { qft_decoder_destroy(decoder_); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  Status Open(qft_session* session, int64_t capacity) {
    return CallCore(qft_decoder_open, session, capacity, &decoder_);
  }

  // The decoder knows the model's vocabulary, and refuses logits that are too few before it works.
  Status Feed(const std::vector<int32_t>& ids) {
    while (true) {
      Status status = CallCore(qft_decoder_feed, decoder_, ids.data(),
                               static_cast<int64_t>(ids.size()), logits_.data(), logits_.size());
      const bool too_few = qft::GetErrorInfo(status).code == qft::ErrorCode::kShape;
      if (status.ok() || !too_few || logits_.size() >= kLargestVocabulary) return status;
      logits_.resize(4 * logits_.size(), -std::numeric_limits<float>::infinity());
    }
  }

  // Ids that must not be chosen.
  void Mask(const std::vector<int32_t>& ids) {
    for (const int32_t id : ids) {
      if (static_cast<size_t>(id) < logits_.size()) {
        logits_[static_cast<size_t>(id)] = -std::numeric_limits<float>::infinity();
      }
    }
  }

  // Beyond the model's vocabulary: -inf.
  const std::vector<float>& logits() const { return logits_; }

 private:
  qft_decoder* decoder_ = nullptr;
  std::vector<float> logits_;
};

// Takes pieces of text to the caller.
class Answer {
 public:
  Answer(qft_text_callback callback, void* user) : callback_(callback), user_(user) {}

  Status Add(const std::string& piece) {
    text_ += piece;
    if (piece.empty() || callback_ == nullptr) return absl::OkStatus();
    if (callback_(user_, piece.data(), piece.size()) == 0) return absl::OkStatus();
    return qft::MakeError(qft::ErrorCode::kCancelled, "the callback ended the generation");
  }
  const std::string& text() const { return text_; }

 private:
  qft_text_callback callback_;
  void* user_;
  std::string text_;
};

struct Limits {
  int64_t maximum_tokens = 0;
  std::vector<int32_t> stop_ids;
  bool prompt_is_whole = false;
  qft::SamplerOptions sampler;
};

StatusOr<Limits> LimitsOf(const qft_generate_options* options) {
  QFT_ASSIGN_OR_RETURN(const qft_generate_options in, qft::ReadStruct("options", options));
  if (in.maximum_tokens < 0 || in.maximum_tokens > kLargestMaximumTokens) {
    return qft::MakeError(qft::ErrorCode::kOutOfRange,
                          absl::StrCat("maximum_tokens is ", in.maximum_tokens, ", must be 0 to ",
                                       kLargestMaximumTokens));
  }
  Limits limits;
  limits.maximum_tokens = in.maximum_tokens != 0 ? in.maximum_tokens : kDefaultMaximumTokens;
  if (in.stop_count < 0 || in.stop_count > kMostStopIds) {
    return qft::MakeError(
        qft::ErrorCode::kOutOfRange,
        absl::StrCat("stop_count is ", in.stop_count, ", must be 0 to ", kMostStopIds));
  }
  if (in.stop_count > 0) {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("stop_ids", in.stop_ids));
    limits.stop_ids.assign(in.stop_ids, in.stop_ids + in.stop_count);
  }
  limits.prompt_is_whole = in.prompt_is_whole != 0;
  limits.sampler = {in.temperature, in.top_k, in.top_p, in.seed};
  QFT_RETURN_IF_ERROR(qft::CheckSamplerOptions(limits.sampler));
  return limits;
}

// Ids below the size that stand for no token: a vocabulary may have holes.
std::vector<int32_t> UnusedIds(const qft::Tokenizer& tokenizer) {
  std::vector<int32_t> unused;
  for (int32_t id = 0; id < tokenizer.size(); ++id) {
    if (!tokenizer.Has(id)) unused.push_back(id);
  }
  return unused;
}

bool Contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

StatusOr<std::vector<int32_t>> PromptIds(const qft::Tokenizer& tokenizer, std::string_view prompt,
                                         bool is_whole) {
  std::vector<int32_t> ids;
  if (is_whole) {
    QFT_RETURN_IF_ERROR(tokenizer.Encode(prompt, /*special=*/true, &ids));
  } else {
    QFT_RETURN_IF_ERROR(tokenizer.Begin(prompt, /*special=*/true, &ids).status());
  }
  if (ids.empty()) return qft::InvalidArgument("the prompt is empty");
  return ids;
}

Status Generate(qft_session* session, const qft::Tokenizer& tokenizer, std::string_view prompt,
                const Limits& limits, Answer* answer) {
  QFT_ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                       PromptIds(tokenizer, prompt, limits.prompt_is_whole));
  Decoder decoder;
  QFT_RETURN_IF_ERROR(
      decoder.Open(session, static_cast<int64_t>(ids.size()) + limits.maximum_tokens));
  qft::TokenStream words(tokenizer, /*skip_special=*/true);
  QFT_RETURN_IF_ERROR(words.StartAfter(ids));
  const std::vector<int32_t> unused = UnusedIds(tokenizer);
  for (int64_t i = 0; i < limits.maximum_tokens; ++i) {
    QFT_RETURN_IF_ERROR(decoder.Feed(ids));
    const int64_t choices =
        std::min(tokenizer.size(), static_cast<int64_t>(decoder.logits().size()));
    decoder.Mask(unused);
    QFT_ASSIGN_OR_RETURN(const int32_t id,
                         qft::SampleToken(decoder.logits().data(), choices, limits.sampler,
                                          static_cast<uint64_t>(i)));
    if (tokenizer.Stops(id) || Contains(limits.stop_ids, id)) break;
    ids.assign(1, id);
    QFT_ASSIGN_OR_RETURN(const std::string piece, words.Push(id));
    QFT_RETURN_IF_ERROR(answer->Add(piece));
  }
  return answer->Add(words.Finish());
}

}  // namespace

extern "C" {

qft_status qft_generate(qft_session* session, const qft_tokenizer* tokenizer, const char* prompt,
                        size_t prompt_length, const qft_generate_options* options,
                        qft_text_callback callback, void* user, char* buffer, size_t capacity,
                        size_t* needed, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("needed", needed));
    if (capacity > 0) QFT_RETURN_IF_ERROR(qft::RequireNotNull("buffer", buffer));
    QFT_ASSIGN_OR_RETURN(const auto object, qft::Shared<qft::TokenizerObject>::Lock(tokenizer));
    QFT_ASSIGN_OR_RETURN(const std::string_view text,
                         qft::ReadBytes("prompt", prompt, prompt_length));
    QFT_ASSIGN_OR_RETURN(const Limits limits, LimitsOf(options));
    Answer answer(callback, user);
    QFT_RETURN_IF_ERROR(Generate(session, *object->tokenizer, text, limits, &answer));
    return qft::CopyOut(answer.text(), buffer, capacity, needed);
  });
}

}  // extern "C"
