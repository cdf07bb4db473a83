// A data set for fine-tuning: documents tokenised, some held out, the rest mixed and shuffled anew
// for each epoch and packed into batches.
//
// Some 150 bytes a document are kept in memory, 4 bytes a token up to CorpusOptions::memory_limit,
// and the held-out batches.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "runtime/data/text/corpus.h"
#include "runtime/data/text/mixture.h"
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

// Documents one after the other. targets: the next token of the document, -1 at its end.
struct TokenBatch {
  std::vector<int32_t> token_ids;
  std::vector<int32_t> targets;
  std::vector<float> loss_weights;    // 0 where the target is not learnt or there is none
  std::vector<int32_t> document_ids;  // from 0
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
  // The next batches, epoch after epoch; valid until the next call. Errors: as CheckCount, and as
  // Corpus::Get.
  StatusOr<const std::vector<TokenBatch>*> Next(int64_t count);
  const std::vector<TokenBatch>& held_out() const { return held_out_; }

  // All documents in the order of the files.
  const Corpus& corpus() const { return *corpus_; }
  bool IsHeldOut(int64_t document) const { return is_held_out_[static_cast<size_t>(document)]; }

  // Epochs gone by, as a fraction.
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
  // The batches of an epoch become those that Next takes from.
  void BeginEpoch(uint64_t epoch);
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

  uint64_t epoch_ = 0;
  uint64_t next_batch_ = 0;                          // in epoch_batches_; its size: it is over
  std::vector<std::vector<int64_t>> epoch_batches_;  // documents of the corpus
  std::vector<TokenBatch> current_;
};

}  // namespace qft
