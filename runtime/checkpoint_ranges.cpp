#include "runtime/checkpoint_ranges.h"

#include <algorithm>
#include <map>

#include "base/hash.h"
#include "runtime/data/safetensors.h"

namespace qft {
namespace {

constexpr char kDiffers[] = "differs from what was written";

// Feeds bytes [begin, end) of the file to both hashes.
Status HashRange(const File& file, uint64_t begin, uint64_t end, Hasher& whole, Hasher& part) {
  std::vector<char> buffer;
  for (uint64_t at = begin; at < end; at += buffer.size()) {
    buffer.resize(std::min<uint64_t>(kCheckpointCopyBytes, end - at));
    QFT_RETURN_IF_ERROR(file.Pread(buffer.data(), buffer.size(), at));
    whole.Update(buffer.data(), buffer.size());
    part.Update(buffer.data(), buffer.size());
  }
  return absl::OkStatus();
}

// One file while its bytes are compared with their hashes.
class FileCheck {
 public:
  FileCheck(const File& file, const HashedBytes& expected, const Manifest& manifest)
      : file_(file), expected_(expected) {
    for (const HashedBytes& tensor : manifest.tensors) tensors_[tensor.name] = &tensor;
  }

  // A file whose parts are not known.
  Status CheckWhole(std::vector<CheckedRange>* ranges) {
    Hasher part;
    QFT_RETURN_IF_ERROR(HashRange(file_, 0, expected_.bytes, whole_, part));
    const bool same = whole_.Hex() == expected_.hash;
    ranges->push_back(Range("", 0, expected_.bytes, same ? "" : kDiffers));
    return absl::OkStatus();
  }

  // The tensors lie one behind the other, from the end of the header to the end of the file.
  Status CheckTensors(const std::vector<StoredTensor>& tensors, std::vector<CheckedRange>* ranges) {
    const uint64_t header = tensors.empty() ? expected_.bytes : tensors.front().offset;
    Hasher unused;
    QFT_RETURN_IF_ERROR(HashRange(file_, 0, header, whole_, unused));
    std::vector<CheckedRange> found;
    for (const StoredTensor& tensor : tensors) {
      QFT_RETURN_IF_ERROR(CheckTensor(tensor, &found));
    }
    for (const auto& [name, tensor] : tensors_) {
      found.push_back(Range(name, 0, 0, "is in the manifest and not in the file"));
    }
    ranges->push_back(Summary(header, found));
    ranges->insert(ranges->end(), found.begin(), found.end());
    return absl::OkStatus();
  }

 private:
  Status CheckTensor(const StoredTensor& tensor, std::vector<CheckedRange>* found) {
    const std::string& name = tensor.info.name;
    const uint64_t end = tensor.offset + tensor.bytes;
    Hasher hasher;
    QFT_RETURN_IF_ERROR(HashRange(file_, tensor.offset, end, whole_, hasher));
    const auto known = tensors_.find(name);
    std::string problem;
    if (known == tensors_.end()) {
      problem = "is not in the manifest";
    } else if (known->second->bytes != tensor.bytes || known->second->hash != hasher.Hex()) {
      problem = kDiffers;
    }
    if (known != tensors_.end()) tensors_.erase(known);
    found->push_back(Range(name, tensor.offset, end, problem));
    return absl::OkStatus();
  }

  // The file as a whole; where only its header can be wrong, the header.
  CheckedRange Summary(uint64_t header, const std::vector<CheckedRange>& tensors) const {
    if (whole_.Hex() == expected_.hash) return Range("", 0, expected_.bytes, "");
    const auto wrong = std::count_if(tensors.begin(), tensors.end(),
                                     [](const CheckedRange& r) { return !r.problem.empty(); });
    if (wrong == 0) return Range("", 0, header, absl::StrCat("the header ", kDiffers));
    return Range("", 0, expected_.bytes,
                 absl::StrCat(wrong, " of ", tensors.size(), " tensors differ"));
  }

  CheckedRange Range(const std::string& tensor, uint64_t begin, uint64_t end,
                     const std::string& problem) const {
    return {expected_.name, tensor, begin, end, problem};
  }

  const File& file_;
  const HashedBytes& expected_;
  Hasher whole_;
  std::map<std::string, const HashedBytes*> tensors_;  // of the manifest, not yet found
};

Status CheckHashes(FileSystem& fs, const std::string& path, const File& file,
                   const HashedBytes& expected, const Manifest& manifest,
                   std::vector<CheckedRange>* ranges) {
  FileCheck check(file, expected, manifest);
  if (expected.name != kStatesName) return check.CheckWhole(ranges);
  QFT_ASSIGN_OR_RETURN(const SafetensorsFile states, OpenSafetensorsFile(fs, path));
  return check.CheckTensors(states.tensors->InFileOrder(), ranges);
}

}  // namespace

void CheckFile(FileSystem& fs, const std::string& path, const Manifest& manifest,
               const HashedBytes& file, CheckpointCheck check, std::vector<CheckedRange>* ranges) {
  const auto problem = [&](uint64_t begin, uint64_t end, const std::string& text) {
    ranges->push_back({file.name, "", begin, end, text});
  };
  const std::string name = JoinPath(path, file.name);
  const StatusOr<std::unique_ptr<File>> opened = fs.Open(name, OpenMode::kRead);
  if (!opened.ok()) return problem(0, file.bytes, std::string(opened.status().message()));
  const StatusOr<uint64_t> size = (*opened)->Size();
  if (!size.ok()) return problem(0, file.bytes, std::string(size.status().message()));
  if (*size != file.bytes) {
    return problem(std::min(*size, file.bytes), std::max(*size, file.bytes),
                   absl::StrCat(*size, " bytes, ", file.bytes, " were written"));
  }
  if (check == CheckpointCheck::kSizes) return problem(0, file.bytes, "");
  const Status checked = CheckHashes(fs, name, **opened, file, manifest, ranges);
  if (!checked.ok()) problem(0, file.bytes, std::string(checked.message()));
}

}  // namespace qft
