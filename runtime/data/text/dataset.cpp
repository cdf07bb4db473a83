#include "runtime/data/text/dataset.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "base/hash.h"
#include "runtime/data/text/packing.h"

namespace qft {
namespace {

// The sum of all files' weights is finite.
constexpr double kLargestWeight = 1e300;
constexpr int64_t kMaxTokensAtOnce = int64_t{1} << 30;
// Made ahead, 16 bytes each: seconds of training, enough for the order of the next epoch.
constexpr int64_t kTokensAhead = int64_t{1} << 18;

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
constexpr uint32_t kCursorVersion = 2;
constexpr uint64_t kMaxEpoch = uint64_t{1} << 48;

Status OutOfRange(const std::string& what) {
  return MakeError(ErrorCode::kOutOfRange, what);
}

StatusOr<DatasetOptions> CheckOptions(DatasetOptions options) {
  if (options.batch_tokens < 2 || options.batch_tokens > kMaxBatchTokens) {
    return OutOfRange(
        absl::StrCat("batch_tokens is ", options.batch_tokens, ", must be 2 to ", kMaxBatchTokens));
  }
  int64_t& sequence_tokens = options.corpus.sequence_tokens;
  if (sequence_tokens == 0) sequence_tokens = options.batch_tokens;
  if (sequence_tokens < 2 || sequence_tokens > options.batch_tokens) {
    return OutOfRange(absl::StrCat("sequence_tokens is ", sequence_tokens,
                                   ", must be 2 to batch_tokens, ", options.batch_tokens));
  }
  if (options.corpus.memory_limit < 0) {
    return OutOfRange(
        absl::StrCat("memory_limit is ", options.corpus.memory_limit, ", must not be negative"));
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

Status CheckFiles(const std::vector<DataFile>& files) {
  if (files.empty()) return InvalidArgument("there is no file of data");
  for (const DataFile& file : files) {
    if (!(file.weight >= 0 && file.weight <= kLargestWeight)) {
      return OutOfRange(absl::StrCat("the weight of ", file.path, " is ", file.weight,
                                     ", must be above 0 and at most ", kLargestWeight));
    }
    if ((file.weight > 0) != (files.front().weight > 0)) {
      return OutOfRange("either all files of data have weights above 0 or none has");
    }
  }
  return absl::OkStatus();
}

void AppendDocument(const EncodedDocument& document, int32_t number, TokenBatch* batch) {
  const size_t length = document.ids.size();
  for (size_t i = 0; i < length; ++i) {
    const bool has_target = i + 1 < length;
    batch->token_ids.push_back(document.ids[i]);
    batch->targets.push_back(has_target ? document.ids[i + 1] : -1);
    batch->loss_weights.push_back(has_target && document.learnt[i + 1] != 0 ? 1.0f : 0.0f);
    batch->document_ids.push_back(number);
  }
}

}  // namespace

StatusOr<std::unique_ptr<Dataset>> Dataset::Open(FileSystem& fs, const std::vector<DataFile>& files,
                                                 std::shared_ptr<const Tokenizer> tokenizer,
                                                 const DatasetOptions& options) {
  QFT_ASSIGN_OR_RETURN(const DatasetOptions checked, CheckOptions(options));
  QFT_RETURN_IF_ERROR(CheckFiles(files));
  QFT_ASSIGN_OR_RETURN(auto corpus, Corpus::Read(fs, files, std::move(tokenizer), checked.corpus));
  std::unique_ptr<Dataset> dataset(new Dataset(checked, std::move(corpus)));
  const Status divided = dataset->Divide();
  if (!divided.ok()) return Annotate(divided, files.front().path);
  dataset->SetOptionsFingerprint();
  dataset->plan_ = dataset->PlanEpoch(0);
  dataset->position_.batches = dataset->plan_.size();
  DatasetInfo& info = dataset->info_;
  info.records_skipped = dataset->corpus_->skipped();
  info.batches = static_cast<int64_t>(dataset->plan_.size());
  for (const std::vector<int64_t>& batch : dataset->plan_) {
    for (const int64_t document : batch) {
      info.tokens += dataset->corpus_->documents()[static_cast<size_t>(document)].length;
    }
  }
  info.packing_efficiency =
      static_cast<double>(info.tokens) /
      (static_cast<double>(info.batches) * static_cast<double>(checked.batch_tokens));
  return dataset;
}

Status Dataset::Divide() {
  const std::vector<Corpus::Document>& documents = corpus_->documents();
  std::vector<uint64_t> hashes;
  hashes.reserve(documents.size());
  for (const Corpus::Document& document : documents) hashes.push_back(document.content_hash);
  std::sort(hashes.begin(), hashes.end());
  const std::optional<uint64_t> largest = LargestHeldOut(hashes, options_);

  std::vector<int64_t> held_out;
  is_held_out_.resize(documents.size());
  for (const DataFile& file : corpus_->files()) parts_.push_back({0, 0, file.weight});
  for (size_t i = 0; i < documents.size(); ++i) {
    info_.documents_truncated += documents[i].dropped > 0 ? 1 : 0;
    is_held_out_[i] = largest && documents[i].content_hash <= *largest;
    (is_held_out_[i] ? held_out : training_).push_back(static_cast<int64_t>(i));
    if (is_held_out_[i]) continue;
    MixturePart& part = parts_[static_cast<size_t>(documents[i].file)];
    ++part.documents;
    part.tokens += documents[i].length;
  }
  counts_ = DocumentsOfEpoch(parts_);
  info_.documents = static_cast<int64_t>(training_.size());
  info_.documents_held_out = static_cast<int64_t>(held_out.size());
  if (training_.empty()) {
    return BadData("every document is held out and none is left to train on");
  }
  std::stable_sort(held_out.begin(), held_out.end(), [&documents](int64_t a, int64_t b) {
    return documents[static_cast<size_t>(a)].content_hash <
           documents[static_cast<size_t>(b)].content_hash;
  });
  return PackHeldOut(held_out);
}

Status Dataset::PackHeldOut(const std::vector<int64_t>& documents) {
  for (const auto& batch : Pack(documents)) {
    QFT_ASSIGN_OR_RETURN(TokenBatch made, MakeBatch(batch));
    held_out_.push_back(std::move(made));
  }
  info_.batches_held_out = static_cast<int64_t>(held_out_.size());
  return absl::OkStatus();
}

void Dataset::SetOptionsFingerprint() {
  Hasher options;
  for (const int64_t value : {options_.batch_tokens, options_.corpus.sequence_tokens,
                              options_.held_out_limit, static_cast<int64_t>(options_.seed)}) {
    options.Update(&value, sizeof(value));
  }
  options.Update(&options_.held_out_share, sizeof(options_.held_out_share));
  // Files without weights are as one file.
  for (const MixturePart& part : parts_) {
    if (part.weight > 0) options.Update(&part, sizeof(part));
  }
  options_fingerprint_ = options.Hex();
}

std::vector<std::vector<int64_t>> Dataset::Pack(const std::vector<int64_t>& documents) const {
  std::vector<int32_t> lengths;
  std::vector<int64_t> order;
  lengths.reserve(documents.size());
  for (const int64_t document : documents) {
    order.push_back(static_cast<int64_t>(order.size()));
    lengths.push_back(corpus_->documents()[static_cast<size_t>(document)].length);
  }
  std::vector<std::vector<int64_t>> batches = PackFirstFit(order, lengths, options_.batch_tokens);
  for (std::vector<int64_t>& batch : batches) {
    for (int64_t& place : batch) place = documents[static_cast<size_t>(place)];
  }
  return batches;
}

std::vector<std::vector<int64_t>> Dataset::PlanEpoch(uint64_t epoch) const {
  const std::vector<int64_t> chosen = ChooseDocuments(parts_, counts_, options_.seed, epoch);
  const auto count = static_cast<int64_t>(chosen.size());
  std::vector<int64_t> documents;
  documents.reserve(chosen.size());
  for (const int64_t place : ShuffledOrder(count, options_.seed, epoch)) {
    const int64_t number = chosen[static_cast<size_t>(place)];
    documents.push_back(training_[static_cast<size_t>(number)]);
  }
  return Pack(documents);
}

StatusOr<TokenBatch> Dataset::MakeBatch(const std::vector<int64_t>& documents) const {
  TokenBatch result;
  for (size_t i = 0; i < documents.size(); ++i) {
    QFT_ASSIGN_OR_RETURN(const EncodedDocument document, corpus_->Get(documents[i]));
    AppendDocument(document, static_cast<int32_t>(i), &result);
  }
  return result;
}

Status Dataset::CheckCount(int64_t count) const {
  const int64_t most = kMaxTokensAtOnce / options_.batch_tokens;
  if (count >= 1 && count <= most) return absl::OkStatus();
  return OutOfRange(absl::StrCat("the number of batches is ", count, ", must be 1 to ", most));
}

BatchQueue::Maker Dataset::MakerFromHere() {
  if (plan_.empty()) plan_ = PlanEpoch(position_.epoch);
  return [this, at = position_, plan = std::exchange(plan_, {})]() mutable -> StatusOr<ReadyBatch> {
    if (at.batch == at.batches) {
      plan = PlanEpoch(at.epoch + 1);
      at = {at.epoch + 1, 0, plan.size()};
    }
    QFT_ASSIGN_OR_RETURN(TokenBatch batch, MakeBatch(plan[at.batch]));
    ++at.batch;
    return ReadyBatch{std::move(batch), at};
  };
}

StatusOr<const std::vector<TokenBatch>*> Dataset::Next(int64_t count) {
  QFT_RETURN_IF_ERROR(CheckCount(count));
  current_.clear();
  current_.reserve(static_cast<size_t>(count));
  if (queue_ == nullptr) queue_ = std::make_unique<BatchQueue>(MakerFromHere());
  const auto ahead = static_cast<size_t>(std::max(count, kTokensAhead / options_.batch_tokens));
  BatchPosition position = position_;
  while (static_cast<int64_t>(current_.size()) < count) {
    StatusOr<ReadyBatch> ready = queue_->Pop(ahead);
    if (!ready.ok()) {
      queue_.reset();
      return ready.status();
    }
    current_.push_back(std::move(ready->batch));
    position = ready->after;
  }
  position_ = position;
  return &current_;
}

double Dataset::epoch() const {
  return static_cast<double>(position_.epoch) +
         static_cast<double>(position_.batch) / static_cast<double>(position_.batches);
}

std::string Dataset::Cursor() const {
  CursorBytes cursor{};
  std::memcpy(cursor.magic, kCursorMagic, sizeof(kCursorMagic));
  cursor.version = kCursorVersion;
  std::memcpy(cursor.data_fingerprint, corpus_->fingerprint().data(),
              sizeof(cursor.data_fingerprint));
  std::memcpy(cursor.options_fingerprint, options_fingerprint_.data(),
              sizeof(cursor.options_fingerprint));
  cursor.epoch = position_.epoch;
  cursor.next_batch = position_.batch;
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
  if (!equal(cursor.data_fingerprint, corpus_->fingerprint())) {
    return MakeError(ErrorCode::kState, "the cursor belongs to other data (documents, tokenizer)");
  }
  if (!equal(cursor.options_fingerprint, options_fingerprint_)) {
    return MakeError(ErrorCode::kState, "the cursor belongs to other options of the data set");
  }
  if (cursor.epoch > kMaxEpoch) return BadData("the cursor's epoch is impossible");
  std::vector<std::vector<int64_t>> plan = PlanEpoch(cursor.epoch);
  if (cursor.next_batch > plan.size()) return BadData("the cursor's batch is impossible");
  queue_.reset();
  position_ = {cursor.epoch, cursor.next_batch, plan.size()};
  plan_ = std::move(plan);
  return absl::OkStatus();
}

}  // namespace qft
