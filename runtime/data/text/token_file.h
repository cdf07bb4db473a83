// Files of documents that are tokens already. All numbers are little endian, without padding:
//   8 bytes "QFTTOKEN"; uint32 version, 1; uint32 bytes of a token, 2 or 4; uint32 1 if there is a
//   mask, else 0; uint32 0; uint64 tokens; uint64 documents;
//   the tokens; the mask, a byte a token, 1 where it is learnt, 0 where not; for each document a
//   uint64, the number of tokens up to and with its last.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/file.h"
#include "base/status.h"
#include "runtime/data/text/document_encoder.h"

namespace qft {

class TokenFile {
 public:
  // Whether the file begins as one.
  static StatusOr<bool> Is(const File& file);
  // kBadData: a header or a size that no such file has. `file` must outlive the result.
  static StatusOr<TokenFile> Open(const File& file);

  uint64_t documents() const { return documents_; }
  uint64_t tokens() const { return tokens_; }
  // kBadData: ends that do not grow or pass the tokens, ids of `vocabulary` or above, a mask that
  // is neither 0 nor 1, a document without a token to learn.
  StatusOr<EncodedDocument> Read(uint64_t document, int64_t vocabulary) const;

 private:
  explicit TokenFile(const File& file) : file_(&file) {}

  Status CheckSize() const;
  StatusOr<uint64_t> End(uint64_t document) const;
  Status ReadIds(uint64_t begin, int64_t vocabulary, std::vector<int32_t>* ids) const;
  Status ReadMask(uint64_t begin, std::vector<uint8_t>* learnt) const;

  const File* file_;
  uint64_t token_bytes_ = 0;
  bool has_mask_ = false;
  uint64_t tokens_ = 0;
  uint64_t documents_ = 0;
  uint64_t mask_at_ = 0;
  uint64_t ends_at_ = 0;
};

}  // namespace qft
