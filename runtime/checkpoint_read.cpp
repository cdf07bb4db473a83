#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "base/hash.h"
#include "runtime/checkpoint_files.h"
#include "runtime/checkpoint_states.h"
#include "runtime/data/json.h"
#include "runtime/data/safetensors.h"

namespace qft {
namespace {

constexpr uint64_t kMaxManifestBytes = 256 << 20;

// How the checkpoint's weights are held must be how the session holds them: critical weights and
// residuals that it has no room for would be lost without a word.
template <typename Tensors>
Status CheckFormat(const Session& session, const Tensors& tensors, const std::string& path) {
  const Plan& plan = session.plan();
  const TensorInfo* columns = tensors.Find("critical_columns");
  const int64_t critical = columns == nullptr || columns->shape.empty() ? 0 : columns->shape.back();
  const std::string& embedding = plan.model->table()[plan.model->tensors().embedding].name;
  const int residual = tensors.Find(embedding + ".residual") == nullptr ? 0 : kResidualBits;
  const auto differs = [&](const char* setting, int64_t saved, int64_t held) {
    return MakeError(ErrorCode::kShape,
                     absl::StrCat(path, ": saved with ", setting, " = ", saved,
                                  ", this session has ", held, "; open it with ", saved));
  };
  if (critical != plan.critical_count) {
    return differs("critical_features", critical, plan.critical_count);
  }
  const int held = plan.residual ? kResidualBits : 0;
  return residual == held ? absl::OkStatus() : differs("residual_bits", residual, held);
}

}  // namespace

StatusOr<std::string> HashFile(FileSystem& fs, const std::string& path, uint64_t& size) {
  QFT_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, fs.Open(path, OpenMode::kRead));
  QFT_ASSIGN_OR_RETURN(size, file->Size());
  Hasher hasher;
  std::vector<char> buffer;
  for (uint64_t begin = 0; begin < size; begin += kCopyBytes) {
    buffer.resize(std::min<uint64_t>(kCopyBytes, size - begin));
    QFT_RETURN_IF_ERROR(file->Pread(buffer.data(), buffer.size(), begin));
    hasher.Update(buffer.data(), buffer.size());
  }
  return hasher.Hex();
}

StatusOr<CheckpointFiles> VerifyCheckpoint(FileSystem& fs, const std::string& path) {
  const std::string manifest_path = JoinPath(path, kManifestName);
  CheckpointFiles checkpoint;
  checkpoint.path = path;
  QFT_ASSIGN_OR_RETURN(checkpoint.manifest, ReadWholeFile(fs, manifest_path, kMaxManifestBytes));
  QFT_ASSIGN_OR_RETURN(const nlohmann::json manifest,
                       ParseJson(checkpoint.manifest, manifest_path));
  const auto corrupt = [&](const std::string& what) { return Corrupt(manifest_path, ": ", what); };
  if (!manifest.is_object()) return corrupt("not an object");
  const auto version = manifest.find("format_version");
  if (version == manifest.end() || !version->is_number_integer()) return corrupt("no version");
  if (*version != kFormatVersion) {
    return Unsupported(manifest_path, ": format version ", version->dump(), ", this library reads ",
                       kFormatVersion);
  }
  const auto step = manifest.find("step");
  const auto blob = manifest.find("blob_base64");
  const auto files = manifest.find("files");
  if (step == manifest.end() || !step->is_number_unsigned() ||
      step->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return corrupt("no step");
  }
  if (blob == manifest.end() || !blob->is_string() ||
      !absl::Base64Unescape(blob->get_ref<const std::string&>(), &checkpoint.blob)) {
    return corrupt("no blob");
  }
  if (files == manifest.end() || !files->is_object() || !files->contains(kStatesName)) {
    return corrupt("no files");
  }
  checkpoint.step = step->get<int64_t>();
  for (const auto& [name, entry] : files->items()) {
    if (name.find('/') != std::string::npos || !entry.is_object()) return corrupt("bad file entry");
    uint64_t size = 0;
    QFT_ASSIGN_OR_RETURN(const std::string hash, HashFile(fs, JoinPath(path, name), size));
    if (entry.value("bytes", nlohmann::json()) != size ||
        entry.value("xxh3_128", nlohmann::json()) != hash) {
      return Corrupt(JoinPath(path, name), ": size or hash is not the manifest's");
    }
  }
  return checkpoint;
}

StatusOr<CheckpointFiles> OpenCheckpoint(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const bool is_directory, fs.IsDirectory(path));
  if (!is_directory) {
    return MakeError(ErrorCode::kNotFound, absl::StrCat(path, ": no such folder"));
  }
  QFT_ASSIGN_OR_RETURN(const bool single, fs.Exists(JoinPath(path, kManifestName)));
  if (single) return VerifyCheckpoint(fs, path);
  QFT_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListSteps(fs, path));
  std::string warning;
  for (const int64_t step : steps) {
    StatusOr<CheckpointFiles> checkpoint =
        VerifyCheckpoint(fs, JoinPath(path, absl::StrCat(kPrefix, step)));
    if (checkpoint.ok()) {
      checkpoint->warning = warning;
      return checkpoint;
    }
    absl::StrAppend(&warning, warning.empty() ? "" : "; ", kPrefix, step,
                    " passed over: ", std::string(checkpoint.status().message()));
  }
  return MakeError(ErrorCode::kNotFound, absl::StrCat(path, ": no whole checkpoint",
                                                      warning.empty() ? "" : " (" + warning + ")"));
}

Status RestoreCheckpoint(Session& session, FileSystem& fs, const CheckpointFiles& checkpoint) {
  QFT_RETURN_IF_ERROR(session.CheckUsable());
  if (session.step_open()) return MakeError(ErrorCode::kState, "a step is open");
  QFT_ASSIGN_OR_RETURN(const nlohmann::json manifest,
                       ParseJson(checkpoint.manifest, JoinPath(checkpoint.path, kManifestName)));
  const std::string states = session.plan().int8_states ? "int8" : "fp32";
  if (manifest.value("states", nlohmann::json()) != states) {
    return MakeError(ErrorCode::kState,
                     absl::StrCat(checkpoint.path, ": its states are not ", states));
  }
  const nlohmann::json seed = manifest.value("seed", nlohmann::json());
  const nlohmann::json square_sum =
      manifest.value("previous_gradient_square_sum", nlohmann::json());
  const nlohmann::json rounding = manifest.value("rounding_square_sum", nlohmann::json());
  if (!seed.is_number_integer() || !square_sum.is_number() || !rounding.is_number()) {
    return Corrupt(checkpoint.path, ": no seed, gradient norm or rounding in the manifest");
  }
  QFT_ASSIGN_OR_RETURN(const SafetensorsFile file,
                       OpenSafetensorsFile(fs, JoinPath(checkpoint.path, kStatesName)));
  const std::vector<StatePart> parts = StateParts(session);
  QFT_RETURN_IF_ERROR(CheckFormat(session, *file.tensors, checkpoint.path));
  for (const StatePart& part : parts) {
    const TensorInfo* info = file.tensors->Find(part.info.name);
    if (info == nullptr || info->shape != part.info.shape || info->type != part.info.type) {
      return MakeError(
          ErrorCode::kShape,
          absl::StrCat(checkpoint.path, ": ", part.info.name,
                       info == nullptr ? " is missing" : " has another shape or type"));
    }
  }
  session.snapshot().BeforeOverwriteAll();
  std::vector<char> buffer;
  for (const StatePart& part : parts) {
    for (size_t begin = 0; begin < part.bytes; begin += kCopyBytes) {
      buffer.resize(std::min(kCopyBytes, part.bytes - begin));
      Status read = file.tensors->ReadBytes(part.info.name, begin, buffer.size(), buffer.data());
      if (!read.ok()) {
        session.Poison("a checkpoint was loaded half way");
        return read;
      }
      session.engine().CopyToEngine(static_cast<char*>(part.data) + begin, buffer.data(),
                                    buffer.size());
    }
  }
  QFT_RETURN_IF_ERROR(session.CheckCriticalColumns());
  session.SetProgress(
      {static_cast<uint64_t>(checkpoint.step), square_sum.get<double>(), rounding.get<double>()},
      seed.get<int64_t>());
  return session.Synchronize();
}

}  // namespace qft
