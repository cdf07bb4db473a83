#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "runtime/checkpoint_files.h"
#include "runtime/checkpoint_states.h"
#include "runtime/data/json.h"
#include "runtime/data/safetensors.h"

namespace qft {
namespace {

constexpr char kLoadedHalfWay[] = "a checkpoint was loaded half way";

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

// False unless the manifest has all but the step, each a value that a session can have had.
bool ReadProgress(const nlohmann::json& manifest, Progress* progress, int64_t* seed) {
  const auto saved_seed = manifest.find("seed");
  const auto previous = manifest.find("previous_gradient_square_sum");
  const auto rounding = manifest.find("rounding_square_sum");
  if (saved_seed == manifest.end() || !saved_seed->is_number_integer() ||
      previous == manifest.end() || !previous->is_number() || rounding == manifest.end() ||
      !rounding->is_number()) {
    return false;
  }
  *seed = saved_seed->get<int64_t>();  // wraps above the largest
  progress->previous_square_sum = previous->get<double>();
  progress->rounding_square_sum = rounding->get<double>();
  const bool has_previous = progress->previous_square_sum >= 0;
  return *seed >= 0 && (has_previous || progress->previous_square_sum == -1) &&
         progress->rounding_square_sum >= 0;
}

StatusOr<std::string> HashFile(FileSystem& fs, const std::string& path, uint64_t& size) {
  QFT_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, fs.Open(path, OpenMode::kRead));
  QFT_ASSIGN_OR_RETURN(size, file->Size());
  Hasher hasher;
  std::vector<char> buffer;
  for (uint64_t begin = 0; begin < size; begin += kCheckpointCopyBytes) {
    buffer.resize(std::min<uint64_t>(kCheckpointCopyBytes, size - begin));
    QFT_RETURN_IF_ERROR(file->Pread(buffer.data(), buffer.size(), begin));
    hasher.Update(buffer.data(), buffer.size());
  }
  return hasher.Hex();
}

}  // namespace

StatusOr<CheckpointFiles> VerifyCheckpoint(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(Manifest manifest, ReadManifest(fs, path));
  for (const HashedBytes& file : manifest.files) {
    uint64_t size = 0;
    QFT_ASSIGN_OR_RETURN(const std::string hash, HashFile(fs, JoinPath(path, file.name), size));
    if (file.bytes != size || file.hash != hash) {
      return Corrupt(JoinPath(path, file.name), ": size or hash is not the manifest's");
    }
  }
  return CheckpointFiles{path, std::move(manifest.text), "", std::move(manifest.blob),
                         manifest.step};
}

StatusOr<std::vector<int64_t>> ListSteps(FileSystem& fs, const std::string& folder) {
  QFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(folder));
  std::vector<int64_t> steps;
  for (const std::string& name : names) {
    const auto parsed = ParseCheckpointName(name);
    if (parsed.has_value() && parsed->kind == CheckpointKind::kCheckpoint) {
      steps.push_back(parsed->step);
    }
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
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
        VerifyCheckpoint(fs, JoinPath(path, absl::StrCat(kCheckpointPrefix, step)));
    if (checkpoint.ok()) {
      checkpoint->warning = warning;
      return checkpoint;
    }
    // What a newer library wrote is whole as far as can be told: going back behind it unasked would
    // throw training away.
    if (GetErrorInfo(checkpoint.status()).code == ErrorCode::kUnsupported) {
      return checkpoint.status();
    }
    absl::StrAppend(&warning, warning.empty() ? "" : "; ", kCheckpointPrefix, step,
                    " passed over: ", std::string(checkpoint.status().message()));
  }
  return MakeError(ErrorCode::kNotFound, absl::StrCat(path, ": no whole checkpoint",
                                                      warning.empty() ? "" : " (" + warning + ")"));
}

Status RestoreCheckpoint(Session& session, FileSystem& fs, const CheckpointFiles& checkpoint) {
  QFT_RETURN_IF_ERROR(session.FinishUpdates());
  if (session.step_open()) return MakeError(ErrorCode::kState, "a step is open");
  QFT_ASSIGN_OR_RETURN(const nlohmann::json manifest,
                       ParseJson(checkpoint.manifest, JoinPath(checkpoint.path, kManifestName)));
  const std::string states = session.plan().int8_states ? "int8" : "fp32";
  if (manifest.value("states", nlohmann::json()) != states) {
    return MakeError(ErrorCode::kState,
                     absl::StrCat(checkpoint.path, ": its states are not ", states));
  }
  Progress progress;
  progress.step = static_cast<uint64_t>(checkpoint.step);
  int64_t seed = 0;
  if (!ReadProgress(manifest, &progress, &seed)) {
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
  const PoisonOnException guard(session, kLoadedHalfWay);
  std::vector<char> buffer;
  for (const StatePart& part : parts) {
    for (size_t begin = 0; begin < part.bytes; begin += kCheckpointCopyBytes) {
      buffer.resize(std::min(kCheckpointCopyBytes, part.bytes - begin));
      Status read = file.tensors->ReadBytes(part.info.name, begin, buffer.size(), buffer.data());
      if (read.ok()) {
        read =
            session.WriteState(static_cast<char*>(part.data) + begin, buffer.data(), buffer.size());
      }
      if (!read.ok()) {
        session.Poison(kLoadedHalfWay);
        return read;
      }
    }
  }
  QFT_RETURN_IF_ERROR(session.CheckCriticalColumns());
  session.SetProgress(progress, seed);
  return session.Synchronize();
}

}  // namespace qft
