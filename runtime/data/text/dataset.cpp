#include "runtime/data/text/dataset.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "base/hash.h"
#include "runtime/data/text/packing.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace qft {
namespace {

constexpr int64_t kMaxTokensAtOnce = int64_t{1} << 30;

struct CursorBytes {
  char magic[8];
  uint32_t version;
  uint32_t reserved;
  char data_fingerprint[32];
  char options_fingerprint[32];
  uint64_t epoch;
  uint64_t next_batch;
};
static_assert(sizeof(CursorBytes) == 96, "part of the checkpoint format");

constexpr char kCursorMagic[8] = {'Q', 'F', 'T', 'C', 'U', 'R', 'S', 'R'};
constexpr uint32_t kCursorVersion = 1;
constexpr uint64_t kMaxEpoch = uint64_t{1} << 48;

Status OutOfRange(const std::string& what) {
  return MakeError(ErrorCode::kOutOfRange, what);
}

StatusOr<DatasetOptions> CheckOptions(DatasetOptions options) {
  if (options.batch_tokens < 2 || options.batch_tokens > kMaxBatchTokens) {
    return OutOfRange(
        absl::StrCat("batch_tokens is ", options.batch_tokens, ", must be 2 to ", kMaxBatchTokens));
  }
  if (options.sequence_tokens == 0) options.sequence_tokens = options.batch_tokens;
  if (options.sequence_tokens < 2 || options.sequence_tokens > options.batch_tokens) {
    return OutOfRange(absl::StrCat("sequence_tokens is ", options.sequence_tokens,
                                   ", must be 2 to batch_tokens, ", options.batch_tokens));
  }
  if (!(options.held_out_share >= 0 && options.held_out_share <= 1)) {
    return OutOfRange(
        absl::StrCat("held_out_share is ", options.held_out_share, ", must be 0 to 1"));
  }
  if (options.held_out_limit < 0) {
    return OutOfRange(
        absl::StrCat("held_out_limit is ", options.held_out_limit, ", must not be negative"));
  }
  return options;
}

uint64_t ContentHash(const TextDocument& document) {
  // The lengths of the hashes' inputs keep "a" + "bc" and "ab" + "c" apart.
  const uint64_t prompt = XXH3_64bits_withSeed(document.prompt.data(), document.prompt.size(),
                                               document.has_prompt ? 1 : 0);
  return XXH3_64bits_withSeed(document.text.data(), document.text.size(), prompt);
}

// The largest hash that is held out. `hashes` are sorted; equal ones stay together.
std::optional<uint64_t> LargestHeldOut(const std::vector<uint64_t>& hashes,
                                       const DatasetOptions& options) {
  const auto within_share = [&options](uint64_t hash) {
    return options.held_out_share == 1 ||
           std::ldexp(static_cast<double>(hash), -64) < options.held_out_share;
  };
  size_t count = static_cast<size_t>(
      std::partition_point(hashes.begin(), hashes.end(), within_share) - hashes.begin());
  if (options.held_out_limit > 0) {
    count = std::min(count, static_cast<size_t>(options.held_out_limit));
  }
  while (count > 0 && count < hashes.size() && hashes[count] == hashes[count - 1]) --count;
  if (count == 0) return std::nullopt;
  return hashes[count - 1];
}

}  // namespace

StatusOr<std::unique_ptr<Dataset>> Dataset::Open(FileSystem& fs, const std::string& path,
                                                 const Tokenizer& tokenizer,
                                                 const DatasetOptions& options) {
  QFT_ASSIGN_OR_RETURN(const DatasetOptions checked, CheckOptions(options));
  if (!tokenizer.end_id()) return BadData("the tokenizer has no end token");
  const int32_t end_id = *tokenizer.end_id();
  std::unique_ptr<Dataset> dataset(new Dataset(checked));
  std::vector<Read> documents;
  QFT_RETURN_IF_ERROR(ReadJsonLines(fs, path, [&](const TextDocument& text) {
    return dataset->Add(text, tokenizer, end_id, &documents);
  }));
  if (documents.empty()) return BadData(path, " holds no document");
  const Status divided = dataset->Divide(documents);
  if (!divided.ok()) return Annotate(divided, path);
  dataset->SetFingerprints();
  dataset->BeginEpoch(0);
  dataset->info_.batches = static_cast<int64_t>(dataset->epoch_batches_.size());
  dataset->info_.packing_efficiency =
      static_cast<double>(dataset->info_.tokens) /
      (static_cast<double>(dataset->info_.batches) * static_cast<double>(checked.batch_tokens));
  return dataset;
}

Status Dataset::Add(const TextDocument& text, const Tokenizer& tokenizer, int32_t end_id,
                    std::vector<Read>* documents) {
  std::vector<int32_t> ids;
  QFT_ASSIGN_OR_RETURN(const size_t prefix, tokenizer.Begin(text.prompt, &ids));
  size_t prompt = ids.size();
  QFT_RETURN_IF_ERROR(tokenizer.Encode(text.text, /*special=*/false, &ids));
  if (ids.size() == prefix) return BadData("the document has no tokens");
  ids.push_back(end_id);
  const size_t most = static_cast<size_t>(options_.sequence_tokens);
  if (ids.size() > most) {
    ++info_.documents_truncated;
    const size_t kept = std::min(prompt, std::max<size_t>(prefix, 1));
    const size_t cut = std::min(ids.size() - most, prompt - kept);
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(prefix);
    ids.erase(begin, begin + static_cast<std::ptrdiff_t>(cut));
    prompt -= cut;
    ids.resize(most);
  }
  Read read;
  read.document.begin = static_cast<int64_t>(tokens_.size());
  read.document.length = static_cast<int32_t>(ids.size());
  read.document.loss_begin = static_cast<int32_t>(prompt);
  read.hash = ContentHash(text);
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  documents->push_back(read);
  return absl::OkStatus();
}

Status Dataset::Divide(const std::vector<Read>& documents) {
  std::vector<uint64_t> hashes;
  hashes.reserve(documents.size());
  for (const Read& read : documents) hashes.push_back(read.hash);
  std::sort(hashes.begin(), hashes.end());
  const std::optional<uint64_t> largest = LargestHeldOut(hashes, options_);

  std::vector<Read> held_out;
  for (const Read& read : documents) {
    if (largest && read.hash <= *largest) {
      held_out.push_back(read);
      continue;
    }
    training_.push_back(read.document);
    lengths_.push_back(read.document.length);
    info_.tokens += read.document.length;
  }
  info_.documents = static_cast<int64_t>(training_.size());
  info_.documents_held_out = static_cast<int64_t>(held_out.size());
  if (training_.empty()) {
    return BadData("every document is held out and none is left to train on");
  }
  std::stable_sort(held_out.begin(), held_out.end(),
                   [](const Read& a, const Read& b) { return a.hash < b.hash; });
  std::vector<Document> held_documents;
  std::vector<int32_t> held_lengths;
  std::vector<int64_t> held_order;
  for (const Read& read : held_out) {
    held_order.push_back(static_cast<int64_t>(held_order.size()));
    held_documents.push_back(read.document);
    held_lengths.push_back(read.document.length);
  }
  for (const auto& batch : PackFirstFit(held_order, held_lengths, options_.batch_tokens)) {
    held_out_.push_back(MakeBatch(held_documents, batch));
  }
  info_.batches_held_out = static_cast<int64_t>(held_out_.size());
  return absl::OkStatus();
}

void Dataset::SetFingerprints() {
  Hasher data;
  data.Update(tokens_.data(), tokens_.size() * sizeof(int32_t));
  for (const Document& document : training_) {
    data.Update(&document.begin, sizeof(document.begin));
    data.Update(&document.length, sizeof(document.length));
    data.Update(&document.loss_begin, sizeof(document.loss_begin));
  }
  data_fingerprint_ = data.Hex();
  Hasher options;
  for (const int64_t value : {options_.batch_tokens, options_.sequence_tokens,
                              options_.held_out_limit, static_cast<int64_t>(options_.seed)}) {
    options.Update(&value, sizeof(value));
  }
  options.Update(&options_.held_out_share, sizeof(options_.held_out_share));
  options_fingerprint_ = options.Hex();
}

void Dataset::BeginEpoch(uint64_t epoch) {
  const int64_t count = static_cast<int64_t>(training_.size());
  epoch_batches_ =
      PackFirstFit(ShuffledOrder(count, options_.seed, epoch), lengths_, options_.batch_tokens);
  epoch_ = epoch;
  next_batch_ = 0;
}

void Dataset::AppendDocument(const Document& document, int32_t number, TokenBatch* batch) const {
  const int32_t* ids = tokens_.data() + document.begin;
  for (int32_t i = 0; i < document.length; ++i) {
    const bool has_target = i + 1 < document.length;
    batch->token_ids.push_back(ids[i]);
    batch->targets.push_back(has_target ? ids[i + 1] : -1);
    batch->loss_weights.push_back(has_target && i + 1 >= document.loss_begin ? 1.0f : 0.0f);
    batch->document_ids.push_back(number);
  }
}

TokenBatch Dataset::MakeBatch(const std::vector<Document>& documents,
                              const std::vector<int64_t>& batch) const {
  TokenBatch result;
  for (size_t i = 0; i < batch.size(); ++i) {
    AppendDocument(documents[static_cast<size_t>(batch[i])], static_cast<int32_t>(i), &result);
  }
  return result;
}

Status Dataset::CheckCount(int64_t count) const {
  const int64_t most = kMaxTokensAtOnce / options_.batch_tokens;
  if (count >= 1 && count <= most) return absl::OkStatus();
  return OutOfRange(absl::StrCat("the number of batches is ", count, ", must be 1 to ", most));
}

StatusOr<const std::vector<TokenBatch>*> Dataset::Next(int64_t count) {
  QFT_RETURN_IF_ERROR(CheckCount(count));
  current_.clear();
  current_.reserve(static_cast<size_t>(count));
  while (static_cast<int64_t>(current_.size()) < count) {
    if (next_batch_ == epoch_batches_.size()) BeginEpoch(epoch_ + 1);
    current_.push_back(MakeBatch(training_, epoch_batches_[next_batch_]));
    ++next_batch_;
  }
  return &current_;
}

double Dataset::epoch() const {
  return static_cast<double>(epoch_) +
         static_cast<double>(next_batch_) / static_cast<double>(epoch_batches_.size());
}

std::string Dataset::Cursor() const {
  CursorBytes cursor{};
  std::memcpy(cursor.magic, kCursorMagic, sizeof(kCursorMagic));
  cursor.version = kCursorVersion;
  std::memcpy(cursor.data_fingerprint, data_fingerprint_.data(), sizeof(cursor.data_fingerprint));
  std::memcpy(cursor.options_fingerprint, options_fingerprint_.data(),
              sizeof(cursor.options_fingerprint));
  cursor.epoch = epoch_;
  cursor.next_batch = next_batch_;
  return {reinterpret_cast<const char*>(&cursor), sizeof(cursor)};
}

Status Dataset::SetCursor(std::string_view bytes) {
  CursorBytes cursor{};
  if (bytes.size() != sizeof(cursor))
    return BadData("these ", bytes.size(), " bytes are no cursor");
  std::memcpy(&cursor, bytes.data(), sizeof(cursor));
  if (std::memcmp(cursor.magic, kCursorMagic, sizeof(kCursorMagic)) != 0 || cursor.reserved != 0) {
    return BadData("these bytes are no cursor of a data set");
  }
  if (cursor.version != kCursorVersion) {
    return BadData("the cursor is of version ", cursor.version, ", known is ", kCursorVersion);
  }
  const auto equal = [](const char(&stored)[32], const std::string& own) {
    return std::string_view(stored, sizeof(stored)) == own;
  };
  if (!equal(cursor.data_fingerprint, data_fingerprint_)) {
    return MakeError(ErrorCode::kState, "the cursor belongs to other data (documents, tokenizer)");
  }
  if (!equal(cursor.options_fingerprint, options_fingerprint_)) {
    return MakeError(ErrorCode::kState, "the cursor belongs to other options of the data set");
  }
  if (cursor.epoch > kMaxEpoch) return BadData("the cursor's epoch is impossible");
  const uint64_t epoch_before = epoch_;
  const uint64_t batch_before = next_batch_;
  BeginEpoch(cursor.epoch);
  if (cursor.next_batch <= epoch_batches_.size()) {
    next_batch_ = cursor.next_batch;
    return absl::OkStatus();
  }
  BeginEpoch(epoch_before);
  next_batch_ = batch_before;
  return BadData("the cursor's batch is impossible");
}

}  // namespace qft
