#include "runtime/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "base/hash.h"
#include "runtime/checkpoint_states.h"
#include "runtime/data/json.h"
#include "runtime/data/safetensors.h"

namespace qft {
namespace {

constexpr int kFormatVersion = 2;
constexpr char kManifestName[] = "manifest.json";
constexpr char kStatesName[] = "states.safetensors";
constexpr char kPrefix[] = "step_";
constexpr char kTemporarySuffix[] = ".tmp";
constexpr char kSupersededSuffix[] = ".superseded";
constexpr uint64_t kMaxManifestBytes = 256 << 20;
constexpr size_t kCopyBytes = 4 << 20;

// N of "step_N", nothing for other names.
std::optional<int64_t> StepOfName(const std::string& name) {
  const std::string prefix = kPrefix;
  if (name.rfind(prefix, 0) != 0) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data() + prefix.size(), end, step);
  if (parsed.ec != std::errc() || parsed.ptr != end || step < 0) return std::nullopt;
  return step;
}

// Copies a part out of the engine piece by piece.
template <typename Sink>
Status ForEachPiece(Session& session, const StatePart& part, std::vector<char>& buffer,
                    const Sink& sink) {
  for (size_t begin = 0; begin < part.bytes; begin += kCopyBytes) {
    const size_t size = std::min(kCopyBytes, part.bytes - begin);
    buffer.resize(size);
    session.engine().CopyToHost(buffer.data(), static_cast<char*>(part.data) + begin, size);
    QFT_RETURN_IF_ERROR(sink(buffer.data(), size));
  }
  return absl::OkStatus();
}

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

StatusOr<nlohmann::json> WriteStates(Session& session, FileSystem& fs, const std::string& path) {
  const std::vector<StatePart> parts = StateParts(session);
  std::vector<TensorInfo> infos;
  infos.reserve(parts.size());
  for (const StatePart& part : parts) infos.push_back(part.info);
  QFT_ASSIGN_OR_RETURN(const std::unique_ptr<SafetensorsWriter> writer,
                       SafetensorsWriter::Create(fs, path, infos, {{"format", "libqft"}}));
  nlohmann::json tensors = nlohmann::json::object();
  std::vector<char> buffer;
  for (const StatePart& part : parts) {
    Hasher hasher;
    QFT_RETURN_IF_ERROR(ForEachPiece(session, part, buffer, [&](const char* data, size_t size) {
      hasher.Update(data, size);
      return writer->Append(data, size);
    }));
    tensors[part.info.name] = {{"bytes", part.bytes}, {"xxh3_128", hasher.Hex()}};
  }
  QFT_RETURN_IF_ERROR(writer->Finish());
  return tensors;
}

std::string MakeManifest(Session& session, const std::string& blob, const nlohmann::json& tensors,
                         uint64_t states_bytes, const std::string& states_hash) {
  nlohmann::ordered_json manifest;
  manifest["format_version"] = kFormatVersion;
  manifest["step"] = session.step();
  manifest["seed"] = session.config().seed;
  manifest["previous_gradient_square_sum"] = session.progress().previous_square_sum;
  manifest["rounding_square_sum"] = session.progress().rounding_square_sum;
  manifest["states"] = session.plan().int8_states ? "int8" : "fp32";
  manifest["world_size"] = 1;
  manifest["model_config"] =
      nlohmann::json::parse(ToHuggingFaceJson(session.model().config(), "bfloat16"));
  manifest["session_config"] = nlohmann::json::parse(session.config().ToJson());
  manifest["blob_base64"] = absl::Base64Escape(blob);
  manifest["files"][kStatesName] = {{"bytes", states_bytes}, {"xxh3_128", states_hash}};
  manifest["tensors"] = tensors;
  return manifest.dump(1) + "\n";
}

// The manifest of one folder, with every file it names present in the size and with the hash it
// says.
StatusOr<CheckpointFiles> Verify(FileSystem& fs, const std::string& path) {
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

// Steps of the folder's checkpoints, newest first.
StatusOr<std::vector<int64_t>> ListSteps(FileSystem& fs, const std::string& folder) {
  QFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(folder));
  std::vector<int64_t> steps;
  for (const std::string& name : names) {
    if (const std::optional<int64_t> step = StepOfName(name)) steps.push_back(*step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

// Temporary folders of steps up to `newest`: a later one may be a save that is being prepared.
Status RemoveTornSaves(FileSystem& fs, const std::string& folder, int64_t newest) {
  QFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(folder));
  for (const std::string& name : names) {
    if (!absl::EndsWith(name, kTemporarySuffix)) continue;
    const std::optional<int64_t> step =
        StepOfName(name.substr(0, name.size() - (sizeof(kTemporarySuffix) - 1)));
    if (step.has_value() && *step <= newest) {
      QFT_RETURN_IF_ERROR(RemoveTree(fs, JoinPath(folder, name)));
    }
  }
  return absl::OkStatus();
}

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

}  // namespace

StatusOr<std::unique_ptr<PreparedSave>> PreparedSave::Prepare(Session& session, FileSystem& fs,
                                                              const std::string& folder,
                                                              const std::string& blob) {
  QFT_RETURN_IF_ERROR(session.CheckUsable());
  if (session.step_open()) return MakeError(ErrorCode::kState, "a step is open");
  if (!session.plan().train)
    return MakeError(ErrorCode::kState, "mode = infer has no states to save");
  QFT_RETURN_IF_ERROR(MakeDirectories(fs, folder));
  QFT_RETURN_IF_ERROR(fs.SyncDirectory(ParentPath(folder)));
  const std::string name = absl::StrCat(kPrefix, session.step());
  std::unique_ptr<PreparedSave> save(new PreparedSave(fs, folder, name));
  const std::string temporary = JoinPath(folder, name + kTemporarySuffix);
  QFT_RETURN_IF_ERROR(RemoveTree(fs, temporary));
  QFT_RETURN_IF_ERROR(fs.MakeDirectory(temporary));
  const std::string states_path = JoinPath(temporary, kStatesName);
  QFT_ASSIGN_OR_RETURN(nlohmann::json tensors, WriteStates(session, fs, states_path));
  uint64_t states_bytes = 0;
  QFT_ASSIGN_OR_RETURN(const std::string states_hash, HashFile(fs, states_path, states_bytes));
  QFT_RETURN_IF_ERROR(
      WriteFileDurably(fs, JoinPath(temporary, kManifestName),
                       MakeManifest(session, blob, tensors, states_bytes, states_hash)));
  QFT_RETURN_IF_ERROR(fs.SyncDirectory(temporary));
  return save;
}

Status PreparedSave::Commit() {
  if (committed_) return MakeError(ErrorCode::kState, "committed before");
  const std::string final_path = JoinPath(folder_, name_);
  const std::string temporary = final_path + kTemporarySuffix;
  QFT_ASSIGN_OR_RETURN(const bool replaces, fs_.Exists(final_path));
  // A folder that is not empty can't be renamed over: a checkpoint of the same step changes places
  // with the new one in one operation.
  QFT_RETURN_IF_ERROR(replaces ? fs_.Exchange(temporary, final_path)
                               : fs_.Rename(temporary, final_path));
  committed_ = true;
  QFT_RETURN_IF_ERROR(fs_.SyncDirectory(folder_));
  return RemoveTree(fs_, temporary);
}

PreparedSave::~PreparedSave() {
  if (committed_) return;
  const Status removed = RemoveTree(fs_, JoinPath(folder_, name_ + kTemporarySuffix));
  removed.IgnoreError();  // a leftover .tmp is never loaded, and pruned later
}

StatusOr<CheckpointFiles> OpenCheckpoint(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const bool is_directory, fs.IsDirectory(path));
  if (!is_directory) {
    return MakeError(ErrorCode::kNotFound, absl::StrCat(path, ": no such folder"));
  }
  QFT_ASSIGN_OR_RETURN(const bool single, fs.Exists(JoinPath(path, kManifestName)));
  if (single) return Verify(fs, path);
  QFT_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListSteps(fs, path));
  std::string warning;
  for (const int64_t step : steps) {
    StatusOr<CheckpointFiles> checkpoint = Verify(fs, JoinPath(path, absl::StrCat(kPrefix, step)));
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
  session.SetProgress(progress, seed);
  return session.Synchronize();
}

Status SetAsideLater(FileSystem& fs, const std::string& folder, int64_t step) {
  QFT_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListSteps(fs, folder));
  for (const int64_t later : steps) {
    if (later <= step) break;
    const std::string path = JoinPath(folder, absl::StrCat(kPrefix, later));
    QFT_RETURN_IF_ERROR(RemoveTree(fs, path + kSupersededSuffix));
    QFT_RETURN_IF_ERROR(fs.Rename(path, path + kSupersededSuffix));
  }
  return absl::OkStatus();
}

Status PruneCheckpoints(FileSystem& fs, const std::string& folder, int64_t keep) {
  QFT_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListSteps(fs, folder));
  if (steps.empty() || keep <= 0) return absl::OkStatus();
  QFT_RETURN_IF_ERROR(Verify(fs, JoinPath(folder, absl::StrCat(kPrefix, steps[0]))).status());
  QFT_RETURN_IF_ERROR(RemoveTornSaves(fs, folder, steps[0]));
  for (size_t i = static_cast<size_t>(keep); i < steps.size(); ++i) {
    // Renamed first, so that a crash half way leaves no folder that looks like a checkpoint.
    const std::string path = JoinPath(folder, absl::StrCat(kPrefix, steps[i]));
    QFT_RETURN_IF_ERROR(fs.Rename(path, path + kTemporarySuffix));
    QFT_RETURN_IF_ERROR(RemoveTree(fs, path + kTemporarySuffix));
  }
  return absl::OkStatus();
}

StatusOr<std::string> StateHash(Session& session) {
  QFT_RETURN_IF_ERROR(session.CheckUsable());
  Hasher hasher;
  std::vector<char> buffer;
  for (const StatePart& part : StateParts(session)) {
    QFT_RETURN_IF_ERROR(ForEachPiece(session, part, buffer, [&](const char* data, size_t size) {
      hasher.Update(data, size);
      return absl::OkStatus();
    }));
  }
  return hasher.Hex();
}

}  // namespace qft
