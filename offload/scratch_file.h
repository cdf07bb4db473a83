// A file of a fixed size without a name: it goes when its last descriptor does, however the process
// ends.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"

namespace qft {

class ScratchFile {
 public:
  // All of its bytes have room on the disk; where they have not, kNoSpace tells how many are needed
  // and how many there are.
  static StatusOr<std::shared_ptr<const ScratchFile>> Create(const std::string& folder,
                                                             int64_t bytes);
  ~ScratchFile();
  ScratchFile(const ScratchFile&) = delete;
  ScratchFile& operator=(const ScratchFile&) = delete;

  int descriptor() const { return descriptor_; }
  // For messages.
  const std::string& name() const { return name_; }
  // Why transfers go through the page cache; empty: they are direct.
  const std::string& why_buffered() const { return why_buffered_; }

 private:
  explicit ScratchFile(const std::string& folder) : name_("the offload file in " + folder) {}

  Status Open(const std::string& folder);
  Status Reserve(const std::string& folder, int64_t bytes) const;
  Status SetDirect();

  int descriptor_ = -1;
  std::string name_;
  std::string why_buffered_;
};

}  // namespace qft
