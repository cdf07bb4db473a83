#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "base/hash.h"
#include "runtime/checkpoint_content.h"
#include "runtime/checkpoint_files.h"
#include "runtime/checkpoint_manifest.h"
#include "runtime/data/safetensors.h"

namespace qft {
namespace {

// Everything goes through one buffer.
PartReader EngineReader(Session& session, const std::vector<StatePart>& parts) {
  auto buffer = std::make_shared<std::vector<char>>();
  return
      [&session, parts, buffer](size_t part, size_t begin, size_t size) -> StatusOr<const char*> {
        buffer->resize(size);
        QFT_RETURN_IF_ERROR(
            session.ReadState(buffer->data(), static_cast<char*>(parts[part].data) + begin, size));
        return buffer->data();
      };
}

// Gives sink(data, size) the part piece by piece.
template <typename Sink>
Status ForEachPiece(size_t bytes, size_t part, const PartReader& read, const Sink& sink) {
  for (size_t begin = 0; begin < bytes; begin += kCheckpointCopyBytes) {
    const size_t size = std::min(kCheckpointCopyBytes, bytes - begin);
    QFT_ASSIGN_OR_RETURN(const char* data, read(part, begin, size));
    QFT_RETURN_IF_ERROR(sink(data, size));
  }
  return absl::OkStatus();
}

// The manifest's entries of what was written.
struct WrittenStates {
  nlohmann::json file;
  nlohmann::json tensors = nlohmann::json::object();
};

StatusOr<WrittenStates> WriteStates(const CheckpointContent& content, FileSystem& fs,
                                    const std::string& path) {
  std::vector<TensorInfo> infos;
  infos.reserve(content.parts.size());
  for (const StatePart& part : content.parts) infos.push_back(part.info);
  QFT_ASSIGN_OR_RETURN(const std::unique_ptr<SafetensorsWriter> writer,
                       SafetensorsWriter::Create(fs, path, infos, {{"format", "libqft"}}));
  WrittenStates written;
  for (size_t i = 0; i < content.parts.size(); ++i) {
    const StatePart& part = content.parts[i];
    Hasher hasher;
    QFT_RETURN_IF_ERROR(
        ForEachPiece(part.bytes, i, content.read, [&](const char* data, size_t size) {
          hasher.Update(data, size);
          return writer->Append(data, size);
        }));
    written.tensors[part.info.name] = {{"bytes", part.bytes}, {"xxh3_128", hasher.Hex()}};
  }
  QFT_RETURN_IF_ERROR(writer->Finish());
  written.file = {{"bytes", writer->size()}, {"xxh3_128", writer->Hash()}};
  return written;
}

std::string ManifestOf(Session& session, const std::string& blob) {
  nlohmann::ordered_json manifest;
  manifest["format_version"] = kCheckpointFormatVersion;
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
  return manifest.dump();
}

}  // namespace

StatusOr<CheckpointContent> ContentOf(Session& session, const std::string& blob) {
  QFT_RETURN_IF_ERROR(session.FinishUpdates());
  if (session.step_open()) return MakeError(ErrorCode::kState, "a step is open");
  if (!session.plan().train)
    return MakeError(ErrorCode::kState, "mode = infer has no states to save");
  if (session.snapshot().in_use()) {
    return MakeError(ErrorCode::kBusy, "a save of this session is under way; wait for its event");
  }
  CheckpointContent content;
  content.step = session.step();
  content.manifest = ManifestOf(session, blob);
  content.parts = StateParts(session);
  content.read = EngineReader(session, content.parts);
  return content;
}

Status WriteContent(const CheckpointContent& content, FileSystem& fs, const std::string& folder) {
  QFT_ASSIGN_OR_RETURN(const WrittenStates written,
                       WriteStates(content, fs, JoinPath(folder, kStatesName)));
  auto manifest = nlohmann::ordered_json::parse(content.manifest);
  manifest["files"][kStatesName] = written.file;
  manifest["tensors"] = written.tensors;
  return WriteFileDurably(fs, JoinPath(folder, kManifestName), SealManifest(manifest));
}

StatusOr<std::unique_ptr<PreparedSave>> PreparedSave::Prepare(Session& session, FileSystem& fs,
                                                              const std::string& folder,
                                                              const std::string& blob) {
  QFT_ASSIGN_OR_RETURN(const CheckpointContent content, ContentOf(session, blob));
  return Prepare(content, fs, folder);
}

StatusOr<std::unique_ptr<PreparedSave>> PreparedSave::Prepare(const CheckpointContent& content,
                                                              FileSystem& fs,
                                                              const std::string& folder) {
  QFT_RETURN_IF_ERROR(MakeDirectories(fs, folder));
  QFT_RETURN_IF_ERROR(fs.SyncDirectory(ParentPath(folder)));
  const std::string name = absl::StrCat(kCheckpointPrefix, content.step);
  std::unique_ptr<PreparedSave> save(new PreparedSave(fs, folder, name));
  const std::string temporary = JoinPath(folder, name + kTemporarySuffix);
  QFT_ASSIGN_OR_RETURN(const bool leftover, fs.Exists(temporary));
  // A save that was killed may have left the checkpoint it had just replaced there: what took its
  // place must be durable before its files go.
  if (leftover) QFT_RETURN_IF_ERROR(fs.SyncDirectory(folder));
  QFT_RETURN_IF_ERROR(RemoveTree(fs, temporary));
  QFT_RETURN_IF_ERROR(fs.MakeDirectory(temporary));
  QFT_RETURN_IF_ERROR(WriteContent(content, fs, temporary));
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
  // A leftover .tmp is never loaded, and pruned later.
  try {
    RemoveTree(fs_, JoinPath(folder_, name_ + kTemporarySuffix)).IgnoreError();
  } catch (const std::exception&) {  // no memory
  }
}

StatusOr<std::string> StateHash(Session& session) {
  QFT_RETURN_IF_ERROR(session.FinishUpdates());
  const std::vector<StatePart> parts = StateParts(session);
  const PartReader read = EngineReader(session, parts);
  Hasher hasher;
  for (size_t i = 0; i < parts.size(); ++i) {
    QFT_RETURN_IF_ERROR(ForEachPiece(parts[i].bytes, i, read, [&](const char* data, size_t size) {
      hasher.Update(data, size);
      return absl::OkStatus();
    }));
  }
  return hasher.Hex();
}

}  // namespace qft
