#include "runtime/data/text/json_lines.h"

#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

#include "runtime/data/json.h"

namespace qft {
namespace {

using nlohmann::json;

constexpr size_t kChunkBytes = size_t{1} << 20;

class LineReader {
 public:
  LineReader(const File& file, uint64_t size) : file_(file), size_(size) {}

  // The next line without its end; false: there is none.
  StatusOr<bool> Next(std::string_view* line) {
    while (true) {
      const size_t end = held_.find('\n', searched_);
      const bool is_last = end == std::string::npos && offset_ == size_;
      const size_t length = std::min(end, held_.size()) - begin_;
      if (length > kMaxLineBytes) {
        return BadData("the line is longer than ", kMaxLineBytes, " bytes");
      }
      if (end != std::string::npos || is_last) {
        if (is_last && length == 0) return false;
        *line = std::string_view(held_).substr(begin_, length);
        begin_ = searched_ = std::min(end, held_.size() - 1) + 1;
        return true;
      }
      QFT_RETURN_IF_ERROR(ReadMore());
    }
  }

 private:
  Status ReadMore() {
    held_.erase(0, begin_);
    begin_ = 0;
    searched_ = held_.size();
    const size_t wanted = static_cast<size_t>(std::min<uint64_t>(kChunkBytes, size_ - offset_));
    held_.resize(searched_ + wanted);
    QFT_RETURN_IF_ERROR(file_.Pread(held_.data() + searched_, wanted, offset_));
    offset_ += wanted;
    return absl::OkStatus();
  }

  const File& file_;
  uint64_t size_;
  uint64_t offset_ = 0;  // of what is not read yet
  std::string held_;
  size_t begin_ = 0;     // of the next line in held_
  size_t searched_ = 0;  // no line end in held_ before it
};

StatusOr<std::string> StringOf(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return BadData("there is no \"", key, "\"");
  if (!found->is_string()) return BadData("\"", key, "\" is not a string");
  return found->get<std::string>();
}

StatusOr<TextDocument> ParseLine(std::string_view line) {
  auto parsed = ParseJson(line, "the line");
  if (!parsed.ok()) return BadData(parsed.status().message());
  if (!parsed->is_object()) return BadData("the line is not a JSON object");
  TextDocument document;
  document.has_prompt = parsed->contains("prompt") || parsed->contains("completion");
  if (document.has_prompt && parsed->contains("text")) {
    return BadData("the line has both \"text\" and \"prompt\" or \"completion\"");
  }
  if (!document.has_prompt) {
    QFT_ASSIGN_OR_RETURN(document.text, StringOf(*parsed, "text"));
    if (document.text.empty()) return BadData("\"text\" is empty");
    return document;
  }
  QFT_ASSIGN_OR_RETURN(document.prompt, StringOf(*parsed, "prompt"));
  QFT_ASSIGN_OR_RETURN(document.text, StringOf(*parsed, "completion"));
  if (document.prompt.empty() && document.text.empty()) {
    return BadData("\"prompt\" and \"completion\" are empty");
  }
  return document;
}

Status UseLine(std::string_view line, const std::function<Status(const TextDocument&)>& use) {
  QFT_ASSIGN_OR_RETURN(const TextDocument document, ParseLine(line));
  return use(document);
}

}  // namespace

Status ReadJsonLines(FileSystem& fs, const std::string& path,
                     const std::function<Status(const TextDocument&)>& use) {
  QFT_ASSIGN_OR_RETURN(const bool is_folder, fs.IsDirectory(path));
  if (is_folder) return BadData(path, " is a folder, not a file of JSON lines");
  QFT_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, fs.Open(path, OpenMode::kRead));
  QFT_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  LineReader reader(*file, size);
  for (int64_t number = 1;; ++number) {
    const std::string where = absl::StrCat(path, ":", number);
    std::string_view line;
    const StatusOr<bool> more = reader.Next(&line);
    if (!more.ok()) return Annotate(more.status(), where);
    if (!*more) return absl::OkStatus();
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const Status used = UseLine(line, use);
    if (!used.ok()) return Annotate(used, where);
  }
}

}  // namespace qft
