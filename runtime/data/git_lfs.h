// What a clone without Git LFS leaves where a large file should be.
#pragma once

#include <string_view>

#include "base/status.h"

namespace qft {

// kBadData if a file that begins so is a pointer of Git LFS.
inline Status RefuseGitLfsPointer(std::string_view beginning) {
  if (!beginning.starts_with("version https://git-lfs.")) return absl::OkStatus();
  return BadData("a pointer of Git LFS in place of the file; `git lfs pull` brings the file");
}

}  // namespace qft
