#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "base/hash.h"
#include "runtime/checkpoint_files.h"
#include "runtime/checkpoint_states.h"
#include "runtime/data/safetensors.h"

namespace qft {
namespace {

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
