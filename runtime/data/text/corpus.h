// The documents of all files of a data set: an index of all, and the tokens of as many as memory is
// allowed for; the others are read again from their file when they are needed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "base/status.h"
#include "runtime/data/text/document_source.h"

namespace qft {

// One of the files that training draws from.
struct DataFile {
  std::string path;
  double weight = 0;  // share of the tokens relative to the other files'; 0 in all: as they are
};

struct CorpusOptions {
  RecordForm form = RecordForm::kAuto;
  std::string chat_template;  // empty: the tokenizer's
  std::string chat_date;      // empty: ChatTemplate::kDefaultDate
  int64_t sequence_tokens = 0;
  int64_t memory_limit = 0;  // bytes of tokens that are kept; 0: no limit
  bool skip_bad = false;     // leave out records that are wrong, instead of failing
};

class Corpus {
 public:
  struct Document {
    int32_t file = 0;
    int32_t length = 0;
    int32_t dropped = 0;  // tokens that were cut off
    DocumentPlace place;
    int64_t number = 0;  // as in FoundDocument
    int64_t begin = -1;  // in the kept tokens; -1: not kept
    uint64_t tokens_hash = 0;
    uint64_t content_hash = 0;
  };

  // Reads all files once. kBadData names file and line; the rest as DocumentEncoder::Create.
  static StatusOr<std::unique_ptr<Corpus>> Read(FileSystem& fs, const std::vector<DataFile>& files,
                                                std::shared_ptr<const Tokenizer> tokenizer,
                                                const CorpusOptions& options);

  const std::vector<DataFile>& files() const { return files_; }
  const std::vector<Document>& documents() const { return documents_; }
  // kState: the file has changed since it was read.
  StatusOr<EncodedDocument> Get(int64_t index) const;

  // Records left out, and what was wrong with the first kMostReasons of them.
  static constexpr size_t kMostReasons = 100;
  int64_t skipped() const { return skipped_; }
  const std::vector<std::string>& reasons() const { return reasons_; }

  // Depends on all tokens and on which of them are learnt, and on nothing else.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  Corpus(std::vector<DataFile> files, DocumentEncoder encoder, const CorpusOptions& options)
      : files_(std::move(files)), encoder_(std::move(encoder)), options_(options) {}

  Status ReadFile(FileSystem& fs, int32_t file, int64_t vocabulary, Hasher* hasher);
  Status Add(int32_t file, StatusOr<FoundDocument> found, Hasher* hasher);
  // Where the tokens are kept; -1: the limit is reached.
  int64_t Keep(const EncodedDocument& document);

  std::vector<DataFile> files_;
  DocumentEncoder encoder_;
  CorpusOptions options_;
  std::vector<std::unique_ptr<DocumentSource>> sources_;
  std::vector<Document> documents_;
  std::vector<uint32_t> tokens_;  // twice the id, plus one where it is learnt
  int64_t skipped_ = 0;
  std::vector<std::string> reasons_;
  std::string fingerprint_;
};

}  // namespace qft
