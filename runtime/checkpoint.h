// Checkpoints: a folder step_N with states.safetensors and manifest.json, which appears whole or
// not at all. docs/checkpoint_format.md describes the files.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "runtime/session.h"

namespace qft {

struct CheckpointContent;

// A save that is written and synced as step_N.tmp, not yet renamed.
class PreparedSave {
 public:
  // Errors: STATE (a step is open, mode = infer), BUSY (a save beside training is under way), IO.
  static StatusOr<std::unique_ptr<PreparedSave>> Prepare(Session& session, FileSystem& fs,
                                                         const std::string& folder,
                                                         const std::string& blob);
  static StatusOr<std::unique_ptr<PreparedSave>> Prepare(const CheckpointContent& content,
                                                         FileSystem& fs, const std::string& folder);
  // Renames to step_N, durable on return. Errors: STATE (committed before).
  Status Commit();
  // Removes what was written unless it was committed.
  ~PreparedSave();

 private:
  PreparedSave(FileSystem& fs, std::string folder, std::string name)
      : fs_(fs), folder_(std::move(folder)), name_(std::move(name)) {}

  FileSystem& fs_;
  std::string folder_;
  std::string name_;
  bool committed_ = false;
};

// A whole checkpoint on disk.
struct CheckpointFiles {
  std::string path;
  std::string manifest;  // as text
  std::string warning;   // newer ones that were passed over, and why
  std::string blob;
  int64_t step = 0;
};

// path: a checkpoint, or a folder of them (the newest whole one is taken; one of another format
// version is kUnsupported, not passed over).
StatusOr<CheckpointFiles> OpenCheckpoint(FileSystem& fs, const std::string& path);
Status RestoreCheckpoint(Session& session, FileSystem& fs, const CheckpointFiles& checkpoint);
// Renames checkpoints of later steps than `step` to step_N.superseded: they are of a course that
// was left by resuming from an earlier checkpoint, or damaged, and must not be taken for the
// newest.
Status SetAsideLater(FileSystem& fs, const std::string& folder, int64_t step);
// xxh3-128 over all states in the order of the tensor table.
StatusOr<std::string> StateHash(Session& session);

}  // namespace qft
