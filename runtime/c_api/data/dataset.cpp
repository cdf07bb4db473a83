#include "runtime/c_api/data/objects.h"
#include "runtime/c_api/struct_size.h"

using qft::DatasetObject;
using qft::Exclusive;
using qft::Shared;
using qft::Status;
using qft::StatusOr;
using qft::TokenizerObject;

namespace {

constexpr int64_t kMostFiles = 65536;

StatusOr<qft::DatasetOptions> OptionsOf(const qft_dataset_options& in) {
  qft::DatasetOptions options;
  if (in.batch_tokens != 0) options.batch_tokens = in.batch_tokens;
  options.held_out_share = in.held_out_share;
  options.held_out_limit = in.held_out_limit;
  options.seed = in.seed;
  qft::CorpusOptions& corpus = options.corpus;
  corpus.sequence_tokens = in.sequence_tokens;
  corpus.memory_limit = in.memory_limit;
  corpus.skip_bad = in.skip_bad != 0;
  QFT_ASSIGN_OR_RETURN(const auto form, qft::ReadUtf8("form", in.form, in.form_length));
  if (!form.empty()) {
    QFT_ASSIGN_OR_RETURN(corpus.form, qft::FindRecordForm(form));
  }
  QFT_ASSIGN_OR_RETURN(corpus.chat_template,
                       qft::ReadUtf8("chat_template", in.chat_template, in.chat_template_length));
  QFT_ASSIGN_OR_RETURN(corpus.chat_date,
                       qft::ReadUtf8("chat_date", in.chat_date, in.chat_date_length));
  return options;
}

StatusOr<std::vector<qft::DataFile>> FilesOf(const qft_dataset_file* files, int64_t count) {
  QFT_ASSIGN_OR_RETURN(const auto in, qft::ReadStructs("files", files, count, kMostFiles));
  std::vector<qft::DataFile> result;
  for (const qft_dataset_file& file : in) {
    QFT_ASSIGN_OR_RETURN(const std::string_view path,
                         qft::ReadPath("files[].path", file.path, file.path_length));
    result.push_back({std::string(path), file.weight});
  }
  return result;
}

Status Open(const std::vector<qft::DataFile>& files, const qft_tokenizer* tokenizer,
            const qft_dataset_options* options, qft_dataset** dataset) {
  QFT_ASSIGN_OR_RETURN(const auto object, Shared<TokenizerObject>::Lock(tokenizer));
  QFT_ASSIGN_OR_RETURN(const qft_dataset_options in, qft::ReadStruct("options", options));
  QFT_ASSIGN_OR_RETURN(const qft::DatasetOptions known, OptionsOf(in));
  auto opened = std::make_shared<DatasetObject>();
  QFT_ASSIGN_OR_RETURN(opened->dataset,
                       qft::Dataset::Open(qft::PosixFileSystem(), files, object->tokenizer, known));
  *dataset = qft::AddHandle(std::move(opened));
  return absl::OkStatus();
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
  info.records_skipped = in.records_skipped;
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
    QFT_ASSIGN_OR_RETURN(const std::string_view file, qft::ReadPath("path", path, path_length));
    return Open({{std::string(file)}}, tokenizer, options, dataset);
  });
}

qft_status qft_dataset_open_files(const qft_dataset_file* files, int64_t count,
                                  const qft_tokenizer* tokenizer,
                                  const qft_dataset_options* options, qft_dataset** dataset,
                                  qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("dataset", dataset));
    QFT_ASSIGN_OR_RETURN(const std::vector<qft::DataFile> in, FilesOf(files, count));
    return Open(in, tokenizer, options, dataset);
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

qft_status qft_dataset_get_document(qft_dataset* dataset, int64_t index, qft_document* document,
                                    qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<DatasetObject>::Lock(dataset));
    QFT_RETURN_IF_ERROR(qft::CheckOutStruct("document", document));
    const qft::Corpus& corpus = object->dataset->corpus();
    if (index < 0 || index >= static_cast<int64_t>(corpus.documents().size())) {
      return qft::MakeError(qft::ErrorCode::kOutOfRange,
                            absl::StrCat("document ", index, " of ", corpus.documents().size()));
    }
    QFT_ASSIGN_OR_RETURN(object->shown, corpus.Get(index));
    const qft::Corpus::Document& entry = corpus.documents()[static_cast<size_t>(index)];
    qft_document out{};
    out.tokens = entry.length;
    out.token_ids = object->shown.ids.data();
    out.learnt = object->shown.learnt.data();
    out.dropped = entry.dropped;
    out.file = entry.file;
    out.number = entry.number;
    out.held_out = object->dataset->IsHeldOut(index) ? 1 : 0;
    return qft::WriteStruct("document", document, out);
  });
}

qft_status qft_dataset_get_skipped(const qft_dataset* dataset, int64_t index, char* buffer,
                                   size_t capacity, size_t* needed, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<DatasetObject>::Lock(dataset));
    const std::vector<std::string>& reasons = object->dataset->corpus().reasons();
    if (index < 0 || index >= static_cast<int64_t>(reasons.size())) {
      return qft::MakeError(qft::ErrorCode::kOutOfRange,
                            absl::StrCat("skipped record ", index, " of ", reasons.size()));
    }
    return qft::CopyOut(reasons[static_cast<size_t>(index)], buffer, capacity, needed);
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
