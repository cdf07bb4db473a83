// Opens a data set of one file and reads all that it holds.
#pragma once

#include "runtime/data/text/dataset.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/small_tokenizer.h"

namespace qft {

inline void UseDataset(const uint8_t* data, size_t size, const CorpusOptions& corpus,
                       double held_out_share) {
  static const auto* const tokenizer = new std::shared_ptr<const Tokenizer>(SmallTokenizer());
  MemoryFileSystem fs = FileSystemWith("data", data, size);
  DatasetOptions options;
  options.batch_tokens = 64;
  options.held_out_share = held_out_share;
  options.corpus = corpus;
  const auto dataset = Dataset::Open(fs, {{"data"}}, *tokenizer, options);
  if (!Accepted(dataset.status())) return;
  const Corpus& documents = (*dataset)->corpus();
  for (size_t i = 0; i < documents.documents().size(); ++i) {
    const auto document = documents.Get(static_cast<int64_t>(i));
    Require(Accepted(document.status()), "what was read can be read again");
    Require(document->ids.size() == document->learnt.size() && HasTarget(*document),
            "a document teaches something");
    for (const int32_t id : document->ids) {
      Require(id >= 0 && id < (*tokenizer)->size(), "ids are of the vocabulary");
    }
  }
}

}  // namespace qft
