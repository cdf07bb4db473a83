// A disk in memory that remembers every operation since it was last whole, and what it may hold
// after the power went at any of them.
//
// What is durable: the data of a file that was synced after it was written, and the entries of a
// folder that was synced after they changed. Of everything else any subset may have reached the
// disk, in any order, with two exceptions: an entry operation (a rename and an exchange too)
// happens whole or not at all, and a later change of the same entry or byte lies over an earlier
// one. That is weaker than any journal: what holds here holds on a file system that keeps its
// operations in order. Of a write that was not synced each sector may be there, missing, or zeros.
#pragma once

#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"

namespace qft {

struct DiskNode {
  bool directory = false;
  std::string content;
  std::map<std::string, int> entries;  // name to node
};

// Node 0 is the root.
using DiskImage = std::vector<DiskNode>;

// Paths and contents of all that can be reached from the root.
std::string ImageText(const DiskImage& image);

struct DiskOperation {
  enum class Kind { kWrite, kTruncate, kEntries, kSync };

  Kind kind = Kind::kSync;
  int node = 0;
  uint64_t offset = 0;
  std::string data;
  std::vector<std::pair<std::string, int>> entries;  // -1: the name goes
  std::string label;                                 // "sync /run/step_1.tmp"
};

// What became of an operation that was not synced. The torn kinds are for writes: of each sector it
// is drawn whether it was kept, lost or zeroed.
enum class Fate { kKept, kLost, kZeroed, kTorn512, kTorn4096 };

class CrashDisk final : public FileSystem {
 public:
  CrashDisk() : CrashDisk(DiskImage{{.directory = true}}) {}
  explicit CrashDisk(DiskImage image) : start_(image), now_(std::move(image)) {}

  // All that was done is durable; the log begins again.
  void Settle() {
    start_ = now_;
    log_.clear();
  }
  const DiskImage& image() const { return now_; }
  const DiskImage& start() const { return start_; }
  const std::vector<DiskOperation>& log() const { return log_; }

  StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status Exchange(const std::string& a, const std::string& b) override;
  Status Unlink(const std::string& path) override;
  Status RemoveDirectory(const std::string& path) override;
  Status MakeDirectory(const std::string& path) override;
  StatusOr<std::vector<std::string>> List(const std::string& path) override;
  Status SyncDirectory(const std::string& path) override;
  StatusOr<bool> Exists(const std::string& path) override;
  StatusOr<bool> IsDirectory(const std::string& path) override;
  StatusOr<bool> IsSymbolicLink(const std::string&) override { return false; }

 private:
  friend class CrashFile;
  struct Place {
    int folder = 0;
    std::string name;
    int node = -1;  // -1: nothing there
  };

  // kFileNotFound where a folder on the way is missing.
  StatusOr<Place> Find(const std::string& path) const;
  StatusOr<Place> FindExisting(const std::string& path) const;
  int AddNode(bool directory);
  void Do(DiskOperation operation);

  DiskImage start_;
  DiskImage now_;
  std::vector<DiskOperation> log_;
};

// The first `operations` of a log that begins at `start`, of which sync number `ignored` (an index
// into the log; -1: none) did nothing.
class Crash {
 public:
  Crash(const DiskImage& start, const std::vector<DiskOperation>& log, size_t operations,
        int ignored = -1);

  // Indices of the operations that were not synced.
  const std::vector<size_t>& pending() const { return pending_; }
  const DiskOperation& operation(size_t index) const { return log_[index]; }
  // One fate for each pending operation.
  DiskImage Image(const std::vector<Fate>& fates, std::mt19937_64& random) const;

 private:
  const DiskImage& start_;
  const std::vector<DiskOperation>& log_;
  size_t operations_;
  std::vector<size_t> pending_;
};

}  // namespace qft
