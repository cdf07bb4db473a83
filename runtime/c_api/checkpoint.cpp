#include "runtime/checkpoint.h"

#include <string>

#include "runtime/c_api/boundary.h"
#include "runtime/c_api/session_handle.h"
#include "runtime/checkpoint_retention.h"

namespace qft {

struct SaveObject {
  std::unique_ptr<PreparedSave> save;
};

template <>
struct HandleOf<SaveObject> {
  using type = qft_save;
};
template <>
struct HandleOf<CheckpointFiles> {
  using type = qft_checkpoint;
};

}  // namespace qft

using qft::CheckpointFiles;
using qft::Exclusive;
using qft::SaveObject;
using qft::SessionObject;
using qft::Shared;
using qft::Status;
using qft::StatusOr;

namespace {

StatusOr<std::unique_ptr<qft::PreparedSave>> Prepare(qft::Session& session, const char* folder,
                                                     size_t folder_length, const void* blob,
                                                     size_t blob_length) {
  QFT_ASSIGN_OR_RETURN(const std::string_view path, qft::ReadPath("folder", folder, folder_length));
  QFT_ASSIGN_OR_RETURN(const std::string_view bytes, qft::ReadBytes("blob", blob, blob_length));
  return qft::PreparedSave::Prepare(session, qft::PosixFileSystem(), std::string(path),
                                    std::string(bytes));
}

}  // namespace

extern "C" {

qft_status qft_save_prepare(qft_session* session, const char* folder, size_t folder_length,
                            const void* blob, size_t blob_length, qft_save** save,
                            qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("save", save));
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    auto prepared = std::make_shared<SaveObject>();
    QFT_ASSIGN_OR_RETURN(prepared->save,
                         Prepare(object->get(), folder, folder_length, blob, blob_length));
    *save = qft::AddHandle(std::move(prepared));
    return absl::OkStatus();
  });
}

qft_status qft_save_commit(qft_save* save, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SaveObject>::Lock(save));
    return object->save->Commit();
  });
}

void qft_save_destroy(qft_save* save) {
  qft::RemoveHandle<SaveObject>(save);
}

qft_status qft_session_save(qft_session* session, const char* folder, size_t folder_length,
                            const void* blob, size_t blob_length, int64_t keep, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    if (keep < 0) {
      return qft::MakeError(qft::ErrorCode::kOutOfRange, absl::StrCat("keep is ", keep));
    }
    QFT_ASSIGN_OR_RETURN(const std::unique_ptr<qft::PreparedSave> save,
                         Prepare(object->get(), folder, folder_length, blob, blob_length));
    QFT_RETURN_IF_ERROR(save->Commit());
    const std::string root(folder, folder_length);
    QFT_RETURN_IF_ERROR(qft::SetAsideLater(qft::PosixFileSystem(), root, object->get().step()));
    if (keep == 0) return absl::OkStatus();
    return qft::PruneCheckpoints(qft::PosixFileSystem(), root, {.keep = keep}).status();
  });
}

qft_status qft_checkpoint_open(const char* path, size_t path_length, qft_checkpoint** checkpoint,
                               const char** warning, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("checkpoint", checkpoint));
    QFT_ASSIGN_OR_RETURN(const std::string_view folder, qft::ReadPath("path", path, path_length));
    QFT_ASSIGN_OR_RETURN(CheckpointFiles files,
                         qft::OpenCheckpoint(qft::PosixFileSystem(), std::string(folder)));
    auto object = std::make_shared<CheckpointFiles>(std::move(files));
    const char* text = object->warning.c_str();
    *checkpoint = qft::AddHandle(std::move(object));
    if (warning != nullptr) *warning = text;
    return absl::OkStatus();
  });
}

void qft_checkpoint_destroy(qft_checkpoint* checkpoint) {
  qft::RemoveHandle<CheckpointFiles>(checkpoint);
}

qft_status qft_checkpoint_get_step(const qft_checkpoint* checkpoint, int64_t* step,
                                   qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("step", step));
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<CheckpointFiles>::Lock(checkpoint));
    *step = object->step;
    return absl::OkStatus();
  });
}

qft_status qft_checkpoint_get_blob(const qft_checkpoint* checkpoint, const void** blob,
                                   size_t* length, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("blob", blob));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("length", length));
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<CheckpointFiles>::Lock(checkpoint));
    *blob = object->blob.data();
    *length = object->blob.size();
    return absl::OkStatus();
  });
}

qft_status qft_checkpoint_get_manifest(const qft_checkpoint* checkpoint, const char** manifest,
                                       size_t* length, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("manifest", manifest));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("length", length));
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<CheckpointFiles>::Lock(checkpoint));
    *manifest = object->manifest.c_str();
    *length = object->manifest.size();
    return absl::OkStatus();
  });
}

qft_status qft_session_restore(qft_session* session, const qft_checkpoint* checkpoint,
                               qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    QFT_ASSIGN_OR_RETURN(const auto files, Shared<CheckpointFiles>::Lock(checkpoint));
    QFT_RETURN_IF_ERROR(qft::RestoreCheckpoint(object->get(), qft::PosixFileSystem(), *files));
    object->step = object->get().step();
    return absl::OkStatus();
  });
}

}  // extern "C"
