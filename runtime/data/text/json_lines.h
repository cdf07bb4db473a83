// Training documents from a file of JSON lines.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/file.h"
#include "base/status.h"

namespace qft {

inline constexpr size_t kMaxLineBytes = size_t{64} << 20;

// {"text": ...}: `prompt` is empty and has_prompt false. {"prompt": ..., "completion": ...}.
struct TextDocument {
  bool has_prompt = false;
  std::string prompt;
  std::string text;  // the text or the completion
};

// Calls `use` with each document of the file, in order, its memory that of one line. Lines that are
// empty or white space are skipped, keys besides those above are ignored.
// kBadData, beginning with "file:line: ", for a line that is not such an object, whose text or
// completion and prompt are empty, or that is longer than kMaxLineBytes; errors of `use` get the
// same beginning.
Status ReadJsonLines(FileSystem& fs, const std::string& path,
                     const std::function<Status(const TextDocument&)>& use);

}  // namespace qft
