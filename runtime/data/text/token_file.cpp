#include "runtime/data/text/token_file.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace qft {
namespace {

static_assert(std::endian::native == std::endian::little, "the format's numbers are read as bytes");

constexpr char kMagic[8] = {'Q', 'F', 'T', 'T', 'O', 'K', 'E', 'N'};
constexpr uint32_t kVersion = 1;
// Beyond it sizes in bytes could wrap.
constexpr uint64_t kMostTokens = uint64_t{1} << 48;
constexpr uint64_t kLongestDocument = uint64_t{1} << 28;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t token_bytes;
  uint32_t has_mask;
  uint32_t reserved;
  uint64_t tokens;
  uint64_t documents;
};
static_assert(sizeof(Header) == 40, "part of the format");

}  // namespace

StatusOr<bool> TokenFile::Is(const File& file) {
  QFT_ASSIGN_OR_RETURN(const uint64_t size, file.Size());
  char magic[sizeof(kMagic)];
  if (size < sizeof(magic)) return false;
  QFT_RETURN_IF_ERROR(file.Pread(magic, sizeof(magic), 0));
  return std::memcmp(magic, kMagic, sizeof(magic)) == 0;
}

StatusOr<TokenFile> TokenFile::Open(const File& file) {
  QFT_ASSIGN_OR_RETURN(const uint64_t size, file.Size());
  Header header;
  if (size < sizeof(header)) return BadData("the file of tokens ends in its header");
  QFT_RETURN_IF_ERROR(file.Pread(&header, sizeof(header), 0));
  if (header.version != kVersion || header.reserved != 0) {
    return BadData("version ", header.version, " of a file of tokens is not known, 1 is");
  }
  if (header.token_bytes != 2 && header.token_bytes != 4) {
    return BadData("a token has ", header.token_bytes, " bytes, must be 2 or 4");
  }
  if (header.has_mask > 1) return BadData("has_mask is ", header.has_mask, ", must be 0 or 1");
  if (header.tokens > kMostTokens || header.documents > header.tokens) {
    return BadData(header.documents, " documents of ", header.tokens, " tokens are impossible");
  }
  TokenFile result(file);
  result.token_bytes_ = header.token_bytes;
  result.has_mask_ = header.has_mask == 1;
  result.tokens_ = header.tokens;
  result.documents_ = header.documents;
  result.mask_at_ = sizeof(header) + header.tokens * header.token_bytes;
  result.ends_at_ = result.mask_at_ + (result.has_mask_ ? header.tokens : 0);
  const uint64_t expected = result.ends_at_ + header.documents * sizeof(uint64_t);
  if (size != expected) return BadData("the file has ", size, " bytes, its header says ", expected);
  QFT_RETURN_IF_ERROR(result.CheckSize());
  return result;
}

Status TokenFile::CheckSize() const {
  if (documents_ == 0) return absl::OkStatus();
  QFT_ASSIGN_OR_RETURN(const uint64_t last, End(documents_ - 1));
  if (last == tokens_) return absl::OkStatus();
  return BadData("the last document ends at token ", last, " of ", tokens_);
}

StatusOr<uint64_t> TokenFile::End(uint64_t document) const {
  uint64_t end = 0;
  QFT_RETURN_IF_ERROR(file_->Pread(&end, sizeof(end), ends_at_ + document * sizeof(end)));
  return end;
}

Status TokenFile::ReadIds(uint64_t begin, int64_t vocabulary, std::vector<int32_t>* ids) const {
  const size_t count = ids->size();
  const uint64_t at = sizeof(Header) + begin * token_bytes_;
  if (token_bytes_ == 2) {
    std::vector<uint16_t> narrow(count);
    QFT_RETURN_IF_ERROR(file_->Pread(narrow.data(), count * sizeof(uint16_t), at));
    std::copy(narrow.begin(), narrow.end(), ids->begin());
  } else {
    QFT_RETURN_IF_ERROR(file_->Pread(ids->data(), count * sizeof(uint32_t), at));
  }
  for (const int32_t id : *ids) {
    if (static_cast<uint32_t>(id) < static_cast<uint64_t>(vocabulary)) continue;
    return BadData("the token ", static_cast<uint32_t>(id), " is beyond the vocabulary of ",
                   vocabulary);
  }
  return absl::OkStatus();
}

Status TokenFile::ReadMask(uint64_t begin, std::vector<uint8_t>* learnt) const {
  if (!has_mask_) {
    std::fill(learnt->begin(), learnt->end(), uint8_t{1});
    return absl::OkStatus();
  }
  QFT_RETURN_IF_ERROR(file_->Pread(learnt->data(), learnt->size(), mask_at_ + begin));
  for (const uint8_t value : *learnt) {
    if (value > 1) return BadData("the mask holds ", int{value}, ", must be 0 or 1");
  }
  return absl::OkStatus();
}

StatusOr<EncodedDocument> TokenFile::Read(uint64_t document, int64_t vocabulary) const {
  uint64_t begin = 0;
  if (document > 0) {
    QFT_ASSIGN_OR_RETURN(begin, End(document - 1));
  }
  QFT_ASSIGN_OR_RETURN(const uint64_t end, End(document));
  if (end <= begin || end > tokens_ || end - begin > kLongestDocument) {
    return BadData("tokens ", begin, " to ", end, " of ", tokens_, " are no document");
  }
  EncodedDocument result;
  result.ids.resize(static_cast<size_t>(end - begin));
  result.learnt.resize(result.ids.size());
  QFT_RETURN_IF_ERROR(ReadIds(begin, vocabulary, &result.ids));
  QFT_RETURN_IF_ERROR(ReadMask(begin, &result.learnt));
  if (!HasTarget(result)) return BadData("the document has no token to learn");
  return result;
}

}  // namespace qft
