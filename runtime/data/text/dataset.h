// A data set for fine-tuning: documents tokenised, some held out, the rest mixed and shuffled anew
// for each epoch and packed into batches.
//
// Some 150 bytes a document are kept in memory, 4 bytes a token up to CorpusOptions::memory_limit,
// the held-out batches, and the batches that are made ahead of those that were asked for.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "runtime/data/text/batch_queue.h"
#include "runtime/data/text/corpus.h"
#include "runtime/data/text/mixture.h"
#include "runtime/data/text/token_batch.h"
#include "runtime/data/text/tokenizer.h"

namespace qft {

struct DatasetOptions {
  int64_t batch_tokens = 2048;  // 2 .. kMaxBatchTokens
  CorpusOptions corpus;         // its sequence_tokens: 2 .. batch_tokens; 0: batch_tokens
  double held_out_share = 0;    // 0 .. 1
  int64_t held_out_limit = 0;   // 0: none
  uint64_t seed = 0;
};

inline constexpr int64_t kMaxBatchTokens = int64_t{1} << 24;

struct DatasetInfo {
  int64_t documents = 0;
  int64_t documents_held_out = 0;
  int64_t documents_truncated = 0;
  int64_t tokens = 0;   // of the training part
  int64_t batches = 0;  // of the first epoch; another epoch's packing may differ by a few
  int64_t batches_held_out = 0;
  double packing_efficiency = 0;
  int64_t records_skipped = 0;
};

class Dataset {
 public:
  // Documents are those of DocumentEncoder, cut to sequence_tokens as Truncate does. One is held
  // out by a hash of its content, so that equal documents are on one side and neither the file nor
  // the order in it matters; within the limit those of the smallest hashes are taken.
  static StatusOr<std::unique_ptr<Dataset>> Open(FileSystem& fs, const std::vector<DataFile>& files,
                                                 std::shared_ptr<const Tokenizer> tokenizer,
                                                 const DatasetOptions& options);

  const DatasetInfo& info() const { return info_; }
  // Whether so many batches can be had at once. kOutOfRange.
  Status CheckCount(int64_t count) const;
  // The next batches, epoch after epoch; valid until the next call. From the first call on, a
  // thread makes those that come next. Errors: as CheckCount, and as Corpus::Get; the position is
  // then what it was before the call.
  StatusOr<const std::vector<TokenBatch>*> Next(int64_t count);
  const std::vector<TokenBatch>& held_out() const { return held_out_; }

  // All documents in the order of the files.
  const Corpus& corpus() const { return *corpus_; }
  bool IsHeldOut(int64_t document) const { return is_held_out_[static_cast<size_t>(document)]; }

  // Epochs gone by, as a fraction; like the cursor, of the batches that Next has returned.
  double epoch() const;
  std::string Cursor() const;
  // kBadData: not a cursor. kState: of other data or options.
  Status SetCursor(std::string_view cursor);

 private:
  Dataset(const DatasetOptions& options, std::unique_ptr<Corpus> corpus)
      : options_(options), corpus_(std::move(corpus)) {}

  Status Divide();
  Status PackHeldOut(const std::vector<int64_t>& documents);
  void SetOptionsFingerprint();
  // The documents of the corpus that each batch of an epoch holds.
  std::vector<std::vector<int64_t>> PlanEpoch(uint64_t epoch) const;
  // Makes the batches from position_ on.
  BatchQueue::Maker MakerFromHere();
  // Documents of the corpus, divided into batches.
  std::vector<std::vector<int64_t>> Pack(const std::vector<int64_t>& documents) const;
  StatusOr<TokenBatch> MakeBatch(const std::vector<int64_t>& documents) const;

  DatasetOptions options_;
  DatasetInfo info_;
  std::unique_ptr<Corpus> corpus_;
  std::vector<bool> is_held_out_;  // by document of the corpus
  std::vector<int64_t> training_;  // documents of the corpus
  std::vector<MixturePart> parts_;
  std::vector<int64_t> counts_;  // of documents an epoch takes from each part
  std::vector<TokenBatch> held_out_;
  std::string options_fingerprint_;

  BatchPosition position_;
  std::vector<std::vector<int64_t>> plan_;  // of position_'s epoch, until the queue takes it over
  std::vector<TokenBatch> current_;
  std::unique_ptr<BatchQueue> queue_;  // the last member: its thread reads the others
};

}  // namespace qft
