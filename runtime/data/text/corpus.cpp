#include "runtime/data/text/corpus.h"

#include <utility>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace qft {
namespace {

uint64_t TokensHash(const EncodedDocument& document) {
  return XXH3_64bits_withSeed(
      document.learnt.data(), document.learnt.size(),
      XXH3_64bits(document.ids.data(), document.ids.size() * sizeof(int32_t)));
}

}  // namespace

StatusOr<std::unique_ptr<Corpus>> Corpus::Read(FileSystem& fs, const std::vector<DataFile>& files,
                                               std::shared_ptr<const Tokenizer> tokenizer,
                                               const CorpusOptions& options) {
  const int64_t vocabulary = tokenizer->size();
  QFT_ASSIGN_OR_RETURN(
      DocumentEncoder encoder,
      DocumentEncoder::Create(std::move(tokenizer), options.chat_template, options.chat_date));
  std::unique_ptr<Corpus> corpus(new Corpus(files, std::move(encoder), options));
  Hasher hasher;
  for (size_t i = 0; i < files.size(); ++i) {
    QFT_RETURN_IF_ERROR(corpus->ReadFile(fs, static_cast<int32_t>(i), vocabulary, &hasher));
  }
  corpus->documents_.shrink_to_fit();
  corpus->fingerprint_ = hasher.Hex();
  return corpus;
}

Status Corpus::ReadFile(FileSystem& fs, int32_t file, int64_t vocabulary, Hasher* hasher) {
  const std::string& path = files_[static_cast<size_t>(file)].path;
  const size_t before = documents_.size();
  QFT_ASSIGN_OR_RETURN(auto source,
                       OpenDocumentSource(fs, path, options_.form, encoder_, vocabulary));
  sources_.push_back(std::move(source));
  QFT_RETURN_IF_ERROR(sources_.back()->ReadAll(
      [&](StatusOr<FoundDocument> found) { return Add(file, std::move(found), hasher); }));
  if (documents_.size() > before) return absl::OkStatus();
  if (skipped_ > 0) return BadData(path, " holds no document that is right: ", reasons_.back());
  return BadData(path, " holds no document");
}

Status Corpus::Add(int32_t file, StatusOr<FoundDocument> found, Hasher* hasher) {
  if (!found.ok()) {
    const ErrorCode code = GetErrorInfo(found.status()).code;
    const bool is_record = code == ErrorCode::kBadData || code == ErrorCode::kUnsupported;
    if (!options_.skip_bad || !is_record) return found.status();
    ++skipped_;
    if (reasons_.size() < kMostReasons) reasons_.emplace_back(found.status().message());
    return absl::OkStatus();
  }
  EncodedDocument& read = found->document;
  Document document;
  document.file = file;
  document.dropped =
      static_cast<int32_t>(Truncate(options_.sequence_tokens, encoder_.prefix(), &read));
  document.length = static_cast<int32_t>(read.ids.size());
  document.place = found->place;
  document.number = found->number;
  document.tokens_hash = TokensHash(read);
  document.content_hash = found->content_hash;
  document.begin = Keep(read);
  hasher->Update(&document.length, sizeof(document.length));
  hasher->Update(&document.tokens_hash, sizeof(document.tokens_hash));
  documents_.push_back(document);
  return absl::OkStatus();
}

int64_t Corpus::Keep(const EncodedDocument& document) {
  const size_t size = tokens_.size() + document.ids.size();
  if (options_.memory_limit > 0) {
    const size_t most = static_cast<size_t>(options_.memory_limit) / sizeof(uint32_t);
    if (size > most) return -1;
    tokens_.reserve(most);  // once: growing would take up to three times as much for a moment
  }
  const auto begin = static_cast<int64_t>(tokens_.size());
  for (size_t i = 0; i < document.ids.size(); ++i) {
    tokens_.push_back(static_cast<uint32_t>(document.ids[i]) * 2 + document.learnt[i]);
  }
  return begin;
}

StatusOr<EncodedDocument> Corpus::Get(int64_t index) const {
  const Document& document = documents_[static_cast<size_t>(index)];
  if (document.begin >= 0) {
    EncodedDocument result;
    const uint32_t* tokens = tokens_.data() + document.begin;
    for (int32_t i = 0; i < document.length; ++i) {
      result.ids.push_back(static_cast<int32_t>(tokens[i] / 2));
      result.learnt.push_back(static_cast<uint8_t>(tokens[i] % 2));
    }
    return result;
  }
  StatusOr<EncodedDocument> read =
      sources_[static_cast<size_t>(document.file)]->ReadAt(document.place);
  if (read.ok()) Truncate(options_.sequence_tokens, encoder_.prefix(), &*read);
  if (!read.ok() || TokensHash(*read) != document.tokens_hash) {
    return MakeError(ErrorCode::kState,
                     absl::StrCat(files_[static_cast<size_t>(document.file)].path,
                                  " has changed since it was opened"));
  }
  return read;
}

}  // namespace qft
