#include "tests/runtime/session/crash_disk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_split.h"

namespace qft {
namespace {

constexpr size_t kSmallSector = 512;
constexpr size_t kLargeSector = 4096;

void Write(std::string& content, uint64_t offset, std::string_view data) {
  content.resize(std::max<size_t>(content.size(), offset + data.size()), '\0');
  content.replace(offset, data.size(), data);
}

void Apply(const DiskOperation& operation, DiskImage& image) {
  DiskNode& node = image[operation.node];
  switch (operation.kind) {
    case DiskOperation::Kind::kWrite:
      return Write(node.content, operation.offset, operation.data);
    case DiskOperation::Kind::kTruncate:
      return node.content.clear();
    case DiskOperation::Kind::kEntries:
      for (const auto& [name, child] : operation.entries) {
        if (child < 0) {
          node.entries.erase(name);
        } else {
          node.entries[name] = child;
        }
      }
      return;
    case DiskOperation::Kind::kSync:
      return;
  }
}

// Sectors are those of the file, not of the write.
void ApplyTorn(const DiskOperation& operation, size_t sector, DiskImage& image,
               std::mt19937_64& random) {
  const uint64_t end = operation.offset + operation.data.size();
  for (uint64_t begin = operation.offset; begin < end;) {
    const uint64_t next = std::min<uint64_t>(end, (begin / sector + 1) * sector);
    const std::string part = operation.data.substr(begin - operation.offset, next - begin);
    const uint64_t drawn = random() % 3;
    if (drawn == 0) Write(image[operation.node].content, begin, part);
    if (drawn == 1) Write(image[operation.node].content, begin, std::string(part.size(), '\0'));
    begin = next;
  }
}

void ApplyFate(const DiskOperation& operation, Fate fate, DiskImage& image,
               std::mt19937_64& random) {
  if (fate == Fate::kLost) return;
  if (fate == Fate::kKept || operation.kind != DiskOperation::Kind::kWrite) {
    return Apply(operation, image);
  }
  if (fate == Fate::kTorn512) return ApplyTorn(operation, kSmallSector, image, random);
  if (fate == Fate::kTorn4096) return ApplyTorn(operation, kLargeSector, image, random);
  Write(image[operation.node].content, operation.offset, std::string(operation.data.size(), '\0'));
}

void AppendText(const DiskImage& image, int node, const std::string& path, std::string& text) {
  absl::StrAppend(&text, path, image[node].directory ? "/ " : " ", image[node].content.size(), "\n",
                  image[node].content);
  for (const auto& [name, child] : image[node].entries) {
    AppendText(image, child, absl::StrCat(path, "/", name), text);
  }
}

}  // namespace

std::string ImageText(const DiskImage& image) {
  std::string text;
  AppendText(image, 0, "", text);
  return text;
}

class CrashFile final : public File {
 public:
  CrashFile(CrashDisk& disk, int node, std::string path)
      : disk_(disk), node_(node), path_(std::move(path)) {}

  Status Pread(void* data, size_t size, uint64_t offset) const override {
    const std::string& content = disk_.now_[node_].content;
    if (offset > content.size() || size > content.size() - offset) return Corrupt(path_, ": short");
    if (size > 0) std::memcpy(data, content.data() + offset, size);
    return absl::OkStatus();
  }
  Status Pwrite(const void* data, size_t size, uint64_t offset) override {
    disk_.Do({.kind = DiskOperation::Kind::kWrite,
              .node = node_,
              .offset = offset,
              .data = std::string(static_cast<const char*>(data), size),
              .label = "write " + path_});
    return absl::OkStatus();
  }
  Status Sync() override {
    disk_.Do({.node = node_, .label = "sync " + path_});
    return absl::OkStatus();
  }
  StatusOr<uint64_t> Size() const override { return disk_.now_[node_].content.size(); }
  Status Close() override { return absl::OkStatus(); }

 private:
  CrashDisk& disk_;
  int node_;
  std::string path_;
};

int CrashDisk::AddNode(bool directory) {
  // An empty node that nothing leads to changes no image, so it may be durable at once.
  start_.push_back({.directory = directory});
  now_.push_back({.directory = directory});
  return static_cast<int>(now_.size()) - 1;
}

void CrashDisk::Do(DiskOperation operation) {
  Apply(operation, now_);
  log_.push_back(std::move(operation));
}

StatusOr<CrashDisk::Place> CrashDisk::Find(const std::string& path) const {
  Place place;
  place.node = 0;
  for (const absl::string_view part : absl::StrSplit(path, '/', absl::SkipEmpty())) {
    if (place.node < 0) return ErrnoError(ENOENT, path);
    if (!now_[place.node].directory) return ErrnoError(ENOTDIR, path);
    place.folder = place.node;
    place.name = std::string(part);
    const auto found = now_[place.folder].entries.find(place.name);
    place.node = found == now_[place.folder].entries.end() ? -1 : found->second;
  }
  return place;
}

StatusOr<CrashDisk::Place> CrashDisk::FindExisting(const std::string& path) const {
  QFT_ASSIGN_OR_RETURN(Place place, Find(path));
  if (place.node < 0) return ErrnoError(ENOENT, path);
  return place;
}

StatusOr<std::unique_ptr<File>> CrashDisk::Open(const std::string& path, OpenMode mode) {
  QFT_ASSIGN_OR_RETURN(Place place, Find(path));
  if (place.node < 0 && mode == OpenMode::kRead) return ErrnoError(ENOENT, "open " + path);
  if (place.node < 0) {
    place.node = AddNode(false);
    Do({.kind = DiskOperation::Kind::kEntries,
        .node = place.folder,
        .entries = {{place.name, place.node}},
        .label = "create " + path});
  } else if (now_[place.node].directory) {
    return ErrnoError(EISDIR, "open " + path);
  } else if (mode == OpenMode::kCreate) {
    Do({.kind = DiskOperation::Kind::kTruncate, .node = place.node, .label = "truncate " + path});
  }
  return std::unique_ptr<File>(new CrashFile(*this, place.node, path));
}

// Within one folder, which is all that a save needs.
Status CrashDisk::Rename(const std::string& from, const std::string& to) {
  QFT_ASSIGN_OR_RETURN(const Place source, FindExisting(from));
  QFT_ASSIGN_OR_RETURN(const Place target, Find(to));
  if (source.folder != target.folder) return ErrnoError(EXDEV, "rename " + from);
  if (target.node >= 0 && !now_[target.node].entries.empty()) {
    return ErrnoError(ENOTEMPTY, "rename " + from);
  }
  Do({.kind = DiskOperation::Kind::kEntries,
      .node = source.folder,
      .entries = {{source.name, -1}, {target.name, source.node}},
      .label = "rename " + from + " " + to});
  return absl::OkStatus();
}

Status CrashDisk::Exchange(const std::string& a, const std::string& b) {
  QFT_ASSIGN_OR_RETURN(const Place first, FindExisting(a));
  QFT_ASSIGN_OR_RETURN(const Place second, FindExisting(b));
  if (first.folder != second.folder) return ErrnoError(EXDEV, "exchange " + a);
  Do({.kind = DiskOperation::Kind::kEntries,
      .node = first.folder,
      .entries = {{first.name, second.node}, {second.name, first.node}},
      .label = "exchange " + a + " " + b});
  return absl::OkStatus();
}

Status CrashDisk::Unlink(const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const Place place, FindExisting(path));
  if (now_[place.node].directory) return ErrnoError(EISDIR, "unlink " + path);
  Do({.kind = DiskOperation::Kind::kEntries,
      .node = place.folder,
      .entries = {{place.name, -1}},
      .label = "unlink " + path});
  return absl::OkStatus();
}

Status CrashDisk::RemoveDirectory(const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const Place place, FindExisting(path));
  if (!now_[place.node].directory) return ErrnoError(ENOTDIR, "rmdir " + path);
  if (!now_[place.node].entries.empty()) return ErrnoError(ENOTEMPTY, "rmdir " + path);
  Do({.kind = DiskOperation::Kind::kEntries,
      .node = place.folder,
      .entries = {{place.name, -1}},
      .label = "rmdir " + path});
  return absl::OkStatus();
}

Status CrashDisk::MakeDirectory(const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const Place place, Find(path));
  if (place.node >= 0) return ErrnoError(EEXIST, "mkdir " + path);
  Do({.kind = DiskOperation::Kind::kEntries,
      .node = place.folder,
      .entries = {{place.name, AddNode(true)}},
      .label = "mkdir " + path});
  return absl::OkStatus();
}

StatusOr<std::vector<std::string>> CrashDisk::List(const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const Place place, FindExisting(path));
  if (!now_[place.node].directory) return ErrnoError(ENOTDIR, "list " + path);
  std::vector<std::string> names;
  for (const auto& [name, child] : now_[place.node].entries) names.push_back(name);
  return names;
}

Status CrashDisk::SyncDirectory(const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const Place place, FindExisting(path));
  if (!now_[place.node].directory) return ErrnoError(ENOTDIR, "sync " + path);
  Do({.node = place.node, .label = "sync " + path});
  return absl::OkStatus();
}

StatusOr<bool> CrashDisk::Exists(const std::string& path) {
  const auto place = Find(path);
  return place.ok() && place->node >= 0;
}

StatusOr<bool> CrashDisk::IsDirectory(const std::string& path) {
  const auto place = Find(path);
  return place.ok() && place->node >= 0 && now_[place->node].directory;
}

Crash::Crash(const DiskImage& start, const std::vector<DiskOperation>& log, size_t operations,
             int ignored)
    : start_(start), log_(log), operations_(operations) {
  std::vector<bool> synced(start.size(), false);  // by a sync that comes later
  for (size_t i = operations; i-- > 0;) {
    if (log[i].kind != DiskOperation::Kind::kSync) {
      if (!synced[log[i].node]) pending_.push_back(i);
    } else if (static_cast<int>(i) != ignored) {
      synced[log[i].node] = true;
    }
  }
  std::reverse(pending_.begin(), pending_.end());
}

DiskImage Crash::Image(const std::vector<Fate>& fates, std::mt19937_64& random) const {
  DiskImage image = start_;
  size_t next = 0;
  for (size_t i = 0; i < operations_; ++i) {
    if (next < pending_.size() && pending_[next] == i) {
      ApplyFate(log_[i], fates[next++], image, random);
    } else {
      Apply(log_[i], image);
    }
  }
  return image;
}

}  // namespace qft
