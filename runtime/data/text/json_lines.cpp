#include "runtime/data/text/json_lines.h"

#include <algorithm>

namespace qft {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 20;

class LineReader {
 public:
  LineReader(const File& file, uint64_t size) : file_(file), size_(size) {}

  // Where the next line begins.
  uint64_t offset() const { return offset_ - (held_.size() - begin_); }
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

}  // namespace

Status ReadLines(const File& file, const std::string& path,
                 const std::function<Status(const Line&)>& use) {
  QFT_ASSIGN_OR_RETURN(const uint64_t size, file.Size());
  LineReader reader(file, size);
  Line line;
  while (true) {
    ++line.number;
    line.offset = reader.offset();
    const StatusOr<bool> more = reader.Next(&line.text);
    Status status = more.status();
    if (status.ok() && !*more) return absl::OkStatus();
    if (status.ok() && line.text.find_first_not_of(" \t\r") != std::string_view::npos) {
      status = use(line);
    }
    if (!status.ok()) return Annotate(status, absl::StrCat(path, ":", line.number));
  }
}

}  // namespace qft
