#include <string>

#include "absl/cleanup/cleanup.h"
#include "runtime/c_api/boundary.h"
#include "runtime/c_api/event_handle.h"
#include "runtime/c_api/session_handle.h"
#include "runtime/c_api/struct_size.h"
#include "runtime/callback_files.h"
#include "runtime/checkpoint_files.h"
#include "runtime/checkpoint_save.h"

namespace qft {

struct SaveObject {
  std::unique_ptr<PreparedSave> save;
};

// A checkpoint and the file system that it is read from.
struct CheckpointObject {
  std::shared_ptr<FileSystem> storage;  // nullptr: the process's own
  CheckpointFiles files;

  FileSystem& fs() const { return storage != nullptr ? *storage : PosixFileSystem(); }
};

template <>
struct HandleOf<SaveObject> {
  using type = qft_save;
};
template <>
struct HandleOf<CheckpointObject> {
  using type = qft_checkpoint;
};

}  // namespace qft

using qft::CheckpointFiles;
using qft::CheckpointObject;
using qft::Exclusive;
using qft::SaveObject;
using qft::SessionObject;
using qft::Shared;
using qft::Status;
using qft::StatusOr;

namespace {

// Where and what the caller saves.
struct SaveArguments {
  std::string folder;
  std::string blob;
};

StatusOr<SaveArguments> ReadArguments(const char* folder, size_t folder_length, const void* blob,
                                      size_t blob_length) {
  QFT_ASSIGN_OR_RETURN(const std::string_view path, qft::ReadPath("folder", folder, folder_length));
  QFT_ASSIGN_OR_RETURN(const std::string_view bytes, qft::ReadBytes("blob", blob, blob_length));
  return SaveArguments{std::string(path), std::string(bytes)};
}

Status CheckKeep(int64_t keep) {
  if (keep >= 0) return absl::OkStatus();
  return qft::MakeError(qft::ErrorCode::kOutOfRange, absl::StrCat("keep is ", keep));
}

Status RequireCallbacks(const char* name, bool all) {
  return all ? absl::OkStatus() : qft::InvalidArgument("a callback of ", name, " is NULL");
}

qft::FileSink SinkOf(const qft_checkpoint_sink& sink) {
  qft::FileSink files;
  files.write = [sink](const char* name, uint64_t offset, const void* data, size_t size) {
    return sink.write(sink.user, name, offset, data, size);
  };
  files.finish = [sink](const char* name) { return sink.finish(sink.user, name); };
  return files;
}

// Into what and what the caller saves.
struct SinkArguments {
  std::shared_ptr<qft::FileSystem> storage;
  std::string blob;
};

StatusOr<SinkArguments> ReadSink(const qft_checkpoint_sink* sink, const void* blob,
                                 size_t blob_length) {
  QFT_ASSIGN_OR_RETURN(const qft_checkpoint_sink in, qft::ReadStruct("sink", sink));
  QFT_RETURN_IF_ERROR(RequireCallbacks("sink", in.write != nullptr && in.finish != nullptr));
  QFT_ASSIGN_OR_RETURN(const std::string_view bytes, qft::ReadBytes("blob", blob, blob_length));
  return SinkArguments{qft::MakeSinkFileSystem(SinkOf(in)), std::string(bytes)};
}

Status BeginSave(SessionObject& session, const std::string& blob, const qft::ContentWriter& write,
                 qft_event** event) {
  auto made = std::make_shared<qft::EventObject>();
  // Before the save begins: without memory for a handle nobody could wait for it.
  qft_event* handle = qft::AddHandle(made);
  absl::Cleanup unused = [handle] { qft::RemoveHandle<qft::EventObject>(handle); };
  QFT_ASSIGN_OR_RETURN(made->save, qft::BackgroundSave::Begin(session.get(), blob, write));
  session.save = made->save;
  *event = handle;
  std::move(unused).Cancel();
  return absl::OkStatus();
}

// destroy_user is called when the last copy of the functions goes.
qft::FileSource SourceOf(const qft_checkpoint_source& source) {
  const auto destroy = source.destroy_user;
  const std::shared_ptr<void> user(source.user, [destroy](void* held) {
    if (destroy != nullptr) destroy(held);
  });
  qft::FileSource files;
  files.size = [user, f = source.size](const char* name, uint64_t* size) {
    return f(user.get(), name, size);
  };
  files.read = [user, f = source.read](const char* name, uint64_t offset, void* data, size_t size) {
    return f(user.get(), name, offset, data, size);
  };
  return files;
}

}  // namespace

extern "C" {

qft_status qft_save_prepare(qft_session* session, const char* folder, size_t folder_length,
                            const void* blob, size_t blob_length, qft_save** save,
                            qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("save", save));
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    QFT_ASSIGN_OR_RETURN(const SaveArguments in,
                         ReadArguments(folder, folder_length, blob, blob_length));
    auto prepared = std::make_shared<SaveObject>();
    QFT_ASSIGN_OR_RETURN(
        prepared->save,
        qft::PreparedSave::Prepare(object->get(), qft::PosixFileSystem(), in.folder, in.blob));
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
    QFT_RETURN_IF_ERROR(CheckKeep(keep));
    QFT_ASSIGN_OR_RETURN(const SaveArguments in,
                         ReadArguments(folder, folder_length, blob, blob_length));
    QFT_ASSIGN_OR_RETURN(const qft::CheckpointContent content,
                         qft::ContentOf(object->get(), in.blob));
    return qft::SaveCheckpoint(content, qft::PosixFileSystem(), in.folder, keep);
  });
}

qft_status qft_session_save_begin(qft_session* session, const char* folder, size_t folder_length,
                                  const void* blob, size_t blob_length, int64_t keep,
                                  qft_event** event, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("event", event));
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    QFT_RETURN_IF_ERROR(CheckKeep(keep));
    QFT_ASSIGN_OR_RETURN(const SaveArguments in,
                         ReadArguments(folder, folder_length, blob, blob_length));
    const auto write = [folder = in.folder, keep](const qft::CheckpointContent& content) {
      return qft::SaveCheckpoint(content, qft::PosixFileSystem(), folder, keep);
    };
    return BeginSave(*object, in.blob, write, event);
  });
}

qft_status qft_session_save_to_sink(qft_session* session, const qft_checkpoint_sink* sink,
                                    const void* blob, size_t blob_length, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    QFT_ASSIGN_OR_RETURN(const SinkArguments in, ReadSink(sink, blob, blob_length));
    QFT_ASSIGN_OR_RETURN(const qft::CheckpointContent content,
                         qft::ContentOf(object->get(), in.blob));
    return qft::WriteContent(content, *in.storage, "");
  });
}

qft_status qft_session_save_to_sink_begin(qft_session* session, const qft_checkpoint_sink* sink,
                                          const void* blob, size_t blob_length, qft_event** event,
                                          qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("event", event));
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    QFT_ASSIGN_OR_RETURN(const SinkArguments in, ReadSink(sink, blob, blob_length));
    const auto write = [storage = in.storage](const qft::CheckpointContent& content) {
      return qft::WriteContent(content, *storage, "");
    };
    return BeginSave(*object, in.blob, write, event);
  });
}

qft_status qft_checkpoint_open(const char* path, size_t path_length, qft_checkpoint** checkpoint,
                               const char** warning, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("checkpoint", checkpoint));
    QFT_ASSIGN_OR_RETURN(const std::string_view folder, qft::ReadPath("path", path, path_length));
    QFT_ASSIGN_OR_RETURN(CheckpointFiles files,
                         qft::OpenCheckpoint(qft::PosixFileSystem(), std::string(folder)));
    auto object = std::make_shared<CheckpointObject>();
    object->files = std::move(files);
    const char* text = object->files.warning.c_str();
    *checkpoint = qft::AddHandle(std::move(object));
    if (warning != nullptr) *warning = text;
    return absl::OkStatus();
  });
}

qft_status qft_checkpoint_open_source(const qft_checkpoint_source* source,
                                      qft_checkpoint** checkpoint, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const qft_checkpoint_source in, qft::ReadStruct("source", source));
    auto object = std::make_shared<CheckpointObject>();
    object->storage = qft::MakeSourceFileSystem(SourceOf(in));
    QFT_RETURN_IF_ERROR(RequireCallbacks("source", in.size != nullptr && in.read != nullptr));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("checkpoint", checkpoint));
    QFT_ASSIGN_OR_RETURN(object->files, qft::VerifyCheckpoint(object->fs(), ""));
    *checkpoint = qft::AddHandle(std::move(object));
    return absl::OkStatus();
  });
}

void qft_checkpoint_destroy(qft_checkpoint* checkpoint) {
  qft::RemoveHandle<CheckpointObject>(checkpoint);
}

qft_status qft_checkpoint_get_step(const qft_checkpoint* checkpoint, int64_t* step,
                                   qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("step", step));
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<CheckpointObject>::Lock(checkpoint));
    *step = object->files.step;
    return absl::OkStatus();
  });
}

qft_status qft_checkpoint_get_blob(const qft_checkpoint* checkpoint, const void** blob,
                                   size_t* length, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("blob", blob));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("length", length));
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<CheckpointObject>::Lock(checkpoint));
    *blob = object->files.blob.data();
    *length = object->files.blob.size();
    return absl::OkStatus();
  });
}

qft_status qft_checkpoint_get_manifest(const qft_checkpoint* checkpoint, const char** manifest,
                                       size_t* length, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("manifest", manifest));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("length", length));
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<CheckpointObject>::Lock(checkpoint));
    *manifest = object->files.manifest.c_str();
    *length = object->files.manifest.size();
    return absl::OkStatus();
  });
}

qft_status qft_session_restore(qft_session* session, const qft_checkpoint* checkpoint,
                               qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    QFT_ASSIGN_OR_RETURN(const auto source, Shared<CheckpointObject>::Lock(checkpoint));
    QFT_RETURN_IF_ERROR(qft::RestoreCheckpoint(object->get(), source->fs(), source->files));
    object->step = object->get().step();
    return absl::OkStatus();
  });
}

}  // extern "C"
