// What a clone without Git LFS leaves where a large file should be.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/status.h"

namespace qft {

inline constexpr std::string_view kGitLfsBeginning = "version https://git-lfs.";

// kBadData if a file that begins so is a pointer of Git LFS.
inline Status RefuseGitLfsPointer(std::string_view beginning) {
  if (!beginning.starts_with(kGitLfsBeginning)) return absl::OkStatus();
  return BadData("a pointer of Git LFS in place of the file; `git lfs pull` brings the file");
}

// The same for an open file of `file_bytes`.
inline Status RefuseGitLfsPointer(const File& file, uint64_t file_bytes) {
  std::string beginning(std::min<uint64_t>(file_bytes, kGitLfsBeginning.size()), '\0');
  QFT_RETURN_IF_ERROR(file.Pread(beginning.data(), beginning.size(), 0));
  return RefuseGitLfsPointer(beginning);
}

}  // namespace qft
