// The weight codes that a run starts from, kept in a nameless file of the run's folder, so that the
// share that differs at the end is exact and costs no memory. The file is gone when the program is.
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "bindings/cli/files.h"
#include "bindings/cli/handles.h"

namespace qft::cli {

class StartCodes {
 public:
  // Takes the codes as the session holds them now.
  StartCodes(const Model& model, const Session& session, const std::filesystem::path& folder);
  // The share, 0 to 1, of codes that differ from the start. Nothing for a session without codes.
  std::optional<double> ChangedShare(const Session& session) const;

 private:
  struct Tensor {
    int64_t index;
    int64_t rows;
    int64_t cols;
    int64_t offset;
  };

  std::string name_;
  Descriptor file_;
  std::vector<Tensor> tensors_;
  bool has_codes_ = true;
};

}  // namespace qft::cli
