#include "runtime/c_api/data/objects.h"
#include "runtime/c_api/struct_size.h"

using qft::DatasetObject;
using qft::Exclusive;
using qft::Shared;
using qft::Status;
using qft::TokenizerObject;

namespace {

qft::DatasetOptions OptionsOf(const qft_dataset_options& in) {
  qft::DatasetOptions options;
  if (in.batch_tokens != 0) options.batch_tokens = in.batch_tokens;
  options.sequence_tokens = in.sequence_tokens;
  options.held_out_share = in.held_out_share;
  options.held_out_limit = in.held_out_limit;
  options.seed = in.seed;
  return options;
}

qft_dataset_info InfoOf(const qft::DatasetInfo& in) {
  qft_dataset_info info{};
  info.documents = in.documents;
  info.documents_held_out = in.documents_held_out;
  info.documents_truncated = in.documents_truncated;
  info.tokens = in.tokens;
  info.batches = in.batches;
  info.batches_held_out = in.batches_held_out;
  info.packing_efficiency = in.packing_efficiency;
  return info;
}

qft_batch BatchOf(const qft::TokenBatch& in) {
  qft_batch batch{};
  batch.tokens = static_cast<int64_t>(in.token_ids.size());
  batch.token_ids = in.token_ids.data();
  batch.targets = in.targets.data();
  batch.loss_weights = in.loss_weights.data();
  batch.document_ids = in.document_ids.data();
  return batch;
}

}  // namespace

extern "C" {

qft_status qft_dataset_open(const char* path, size_t path_length, const qft_tokenizer* tokenizer,
                            const qft_dataset_options* options, qft_dataset** dataset,
                            qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("dataset", dataset));
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<TokenizerObject>::Lock(tokenizer));
    QFT_ASSIGN_OR_RETURN(const std::string_view file, qft::ReadPath("path", path, path_length));
    QFT_ASSIGN_OR_RETURN(const qft_dataset_options in, qft::ReadStruct("options", options));
    auto opened = std::make_shared<DatasetObject>();
    QFT_ASSIGN_OR_RETURN(opened->dataset,
                         qft::Dataset::Open(qft::PosixFileSystem(), std::string(file),
                                            *object->tokenizer, OptionsOf(in)));
    *dataset = qft::AddHandle(std::move(opened));
    return absl::OkStatus();
  });
}

void qft_dataset_destroy(qft_dataset* dataset) {
  qft::RemoveHandle<DatasetObject>(dataset);
}

qft_status qft_dataset_get_info(const qft_dataset* dataset, qft_dataset_info* info,
                                qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<DatasetObject>::Lock(dataset));
    return qft::WriteStruct("info", info, InfoOf(object->dataset->info()));
  });
}

qft_status qft_dataset_next(qft_dataset* dataset, qft_batch* batches, int64_t count,
                            qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<DatasetObject>::Lock(dataset));
    QFT_RETURN_IF_ERROR(object->dataset->CheckCount(count));
    QFT_RETURN_IF_ERROR(qft::CheckOutStruct("batches", batches));
    for (int64_t i = 1; i < count; ++i) {
      if (qft::StructAt(batches, i)->struct_size == batches->struct_size) continue;
      return qft::MakeError(qft::ErrorCode::kStructSize,
                            absl::StrCat("batches[", i, "].struct_size differs from the first's"));
    }
    QFT_ASSIGN_OR_RETURN(const auto* next, object->dataset->Next(count));
    for (int64_t i = 0; i < count; ++i) {
      QFT_RETURN_IF_ERROR(qft::WriteStruct("batches", qft::StructAt(batches, i),
                                           BatchOf((*next)[static_cast<size_t>(i)])));
    }
    return absl::OkStatus();
  });
}

qft_status qft_dataset_get_held_out(const qft_dataset* dataset, int64_t index, qft_batch* batch,
                                    qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<DatasetObject>::Lock(dataset));
    const auto& held_out = object->dataset->held_out();
    if (index < 0 || index >= static_cast<int64_t>(held_out.size())) {
      return qft::MakeError(qft::ErrorCode::kOutOfRange,
                            absl::StrCat("held-out batch ", index, " of ", held_out.size()));
    }
    return qft::WriteStruct("batch", batch, BatchOf(held_out[static_cast<size_t>(index)]));
  });
}

qft_status qft_dataset_get_epoch(const qft_dataset* dataset, double* epoch, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<DatasetObject>::Lock(dataset));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("epoch", epoch));
    *epoch = object->dataset->epoch();
    return absl::OkStatus();
  });
}

qft_status qft_dataset_get_cursor(const qft_dataset* dataset, void* buffer, size_t capacity,
                                  size_t* needed, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<DatasetObject>::Lock(dataset));
    const std::string cursor = object->dataset->Cursor();
    return qft::CopyOutArray(cursor.data(), cursor.size(), static_cast<char*>(buffer), capacity,
                             needed);
  });
}

qft_status qft_dataset_set_cursor(qft_dataset* dataset, const void* cursor, size_t length,
                                  qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<DatasetObject>::Lock(dataset));
    QFT_ASSIGN_OR_RETURN(const std::string_view bytes, qft::ReadBytes("cursor", cursor, length));
    return object->dataset->SetCursor(bytes);
  });
}

}  // extern "C"
