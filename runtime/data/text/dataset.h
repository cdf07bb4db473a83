// A data set for fine-tuning: documents tokenised, some held out, the rest shuffled anew for each
// epoch and packed into batches.
//
// The token ids of all documents are kept in memory: 4 bytes a token and some 50 bytes a document.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "runtime/data/text/json_lines.h"
#include "runtime/data/text/tokenizer.h"

namespace qft {

struct DatasetOptions {
  int64_t batch_tokens = 2048;  // 2 .. kMaxBatchTokens
  int64_t sequence_tokens = 0;  // 2 .. batch_tokens; 0: batch_tokens
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
};

// Documents one after the other. targets: the next token of the document, -1 at its end.
struct TokenBatch {
  std::vector<int32_t> token_ids;
  std::vector<int32_t> targets;
  std::vector<float> loss_weights;    // 0 where the target belongs to a prompt or there is none
  std::vector<int32_t> document_ids;  // from 0
};

class Dataset {
 public:
  // {"text"}: its tokens and the end token, all of which train. {"prompt", "completion"}: tokens of
  // both, each encoded for itself, and the end token; completion and end token train. Special
  // tokens written in a prompt are recognised, in text and completion they are plain text. What is
  // longer than sequence_tokens loses tokens of its prompt from the beginning (all but one), then
  // of the rest from the end.
  // A document is held out by a hash of its content, so that equal documents are on one side and
  // the file's order does not matter; within the limit those of the smallest hashes are taken.
  static StatusOr<std::unique_ptr<Dataset>> Open(FileSystem& fs, const std::string& path,
                                                 const Tokenizer& tokenizer,
                                                 const DatasetOptions& options);

  const DatasetInfo& info() const { return info_; }
  // Whether so many batches can be had at once. kOutOfRange.
  Status CheckCount(int64_t count) const;
  // The next batches, epoch after epoch; valid until the next call. Errors: as CheckCount.
  StatusOr<const std::vector<TokenBatch>*> Next(int64_t count);
  const std::vector<TokenBatch>& held_out() const { return held_out_; }

  // Epochs gone by, as a fraction.
  double epoch() const;
  std::string Cursor() const;
  // kBadData: not a cursor. kState: of other data or options.
  Status SetCursor(std::string_view cursor);

 private:
  struct Document {
    int64_t begin = 0;  // in tokens_
    int32_t length = 0;
    int32_t loss_begin = 0;  // first token that is learnt
  };
  struct Read {
    Document document;
    uint64_t hash = 0;
  };

  explicit Dataset(const DatasetOptions& options) : options_(options) {}

  Status Add(const TextDocument& text, const Tokenizer& tokenizer, int32_t end_id,
             std::vector<Read>* documents);
  Status Divide(const std::vector<Read>& documents);
  void SetFingerprints();
  // The batches of an epoch become those that Next takes from.
  void BeginEpoch(uint64_t epoch);
  TokenBatch MakeBatch(const std::vector<Document>& documents,
                       const std::vector<int64_t>& batch) const;
  void AppendDocument(const Document& document, int32_t number, TokenBatch* batch) const;

  DatasetOptions options_;
  DatasetInfo info_;
  std::vector<int32_t> tokens_;
  std::vector<Document> training_;
  std::vector<int32_t> lengths_;  // of training_
  std::vector<TokenBatch> held_out_;
  std::string data_fingerprint_;
  std::string options_fingerprint_;

  uint64_t epoch_ = 0;
  uint64_t next_batch_ = 0;  // in epoch_batches_; its size: the epoch is over
  std::vector<std::vector<int64_t>> epoch_batches_;
  std::vector<TokenBatch> current_;
};

}  // namespace qft
