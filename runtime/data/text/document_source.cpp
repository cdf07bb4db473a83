#include "runtime/data/text/document_source.h"

#include "runtime/data/text/json_lines.h"
#include "runtime/data/text/token_file.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace qft {
namespace {

class JsonLinesSource : public DocumentSource {
 public:
  JsonLinesSource(std::unique_ptr<File> file, std::string path, RecordForm form,
                  const DocumentEncoder& encoder)
      : file_(std::move(file)), path_(std::move(path)), form_(form), encoder_(encoder) {}

  Status ReadAll(const Use& use) const override {
    // What `use` says already names its line.
    Status ended;
    const Status read = ReadLines(*file_, path_, [&](const Line& line) {
      StatusOr<FoundDocument> found = Find(line);
      if (!found.ok()) {
        found = Annotate(found.status(), absl::StrCat(path_, ":", line.number));
      }
      ended = use(std::move(found));
      return ended;
    });
    return ended.ok() ? read : ended;
  }

  StatusOr<EncodedDocument> ReadAt(const DocumentPlace& place) const override {
    std::string line(place.size, '\0');
    QFT_RETURN_IF_ERROR(file_->Pread(line.data(), line.size(), place.at));
    QFT_ASSIGN_OR_RETURN(const Record record, ParseRecord(line, form_));
    return encoder_.Encode(record);
  }

 private:
  StatusOr<FoundDocument> Find(const Line& line) const {
    QFT_ASSIGN_OR_RETURN(const Record record, ParseRecord(line.text, form_));
    FoundDocument found;
    found.place = {line.offset, static_cast<uint32_t>(line.text.size())};
    found.number = line.number;
    QFT_ASSIGN_OR_RETURN(found.document, encoder_.Encode(record));
    found.content_hash = ContentHash(record);
    return found;
  }

  std::unique_ptr<File> file_;
  std::string path_;
  RecordForm form_;
  const DocumentEncoder& encoder_;
};

class TokenFileSource : public DocumentSource {
 public:
  TokenFileSource(std::unique_ptr<File> file, const TokenFile& tokens, std::string path,
                  int64_t vocabulary)
      : file_(std::move(file)), tokens_(tokens), path_(std::move(path)), vocabulary_(vocabulary) {}

  Status ReadAll(const Use& use) const override {
    for (uint64_t i = 0; i < tokens_.documents(); ++i) QFT_RETURN_IF_ERROR(use(Find(i)));
    return absl::OkStatus();
  }

  StatusOr<EncodedDocument> ReadAt(const DocumentPlace& place) const override {
    return tokens_.Read(place.at, vocabulary_);
  }

 private:
  StatusOr<FoundDocument> Find(uint64_t number) const {
    StatusOr<EncodedDocument> document = tokens_.Read(number, vocabulary_);
    if (!document.ok()) {
      return Annotate(document.status(), absl::StrCat(path_, ": document ", number));
    }
    FoundDocument found;
    found.place = {number, 0};
    found.number = static_cast<int64_t>(number);
    found.document = *std::move(document);
    const EncodedDocument& read = found.document;
    found.content_hash =
        XXH3_64bits_withSeed(read.learnt.data(), read.learnt.size(),
                             XXH3_64bits(read.ids.data(), read.ids.size() * sizeof(int32_t)));
    return found;
  }

  std::unique_ptr<File> file_;
  TokenFile tokens_;  // over *file_
  std::string path_;
  int64_t vocabulary_;
};

}  // namespace

StatusOr<std::unique_ptr<DocumentSource>> OpenDocumentSource(FileSystem& fs,
                                                             const std::string& path,
                                                             RecordForm form,
                                                             const DocumentEncoder& encoder,
                                                             int64_t vocabulary) {
  QFT_ASSIGN_OR_RETURN(const bool is_folder, fs.IsDirectory(path));
  if (is_folder) return BadData(path, " is a folder, not a file of JSON lines or tokens");
  QFT_ASSIGN_OR_RETURN(std::unique_ptr<File> file, fs.Open(path, OpenMode::kRead));
  QFT_ASSIGN_OR_RETURN(const bool is_tokens, TokenFile::Is(*file));
  if (!is_tokens) {
    return std::make_unique<JsonLinesSource>(std::move(file), path, form, encoder);
  }
  const StatusOr<TokenFile> tokens = TokenFile::Open(*file);
  if (!tokens.ok()) return Annotate(tokens.status(), path);
  return std::make_unique<TokenFileSource>(std::move(file), *tokens, path, vocabulary);
}

}  // namespace qft
