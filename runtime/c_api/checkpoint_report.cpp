#include "runtime/checkpoint_report.h"

#include "runtime/c_api/boundary.h"
#include "runtime/c_api/handle.h"
#include "runtime/c_api/struct_size.h"
#include "runtime/checkpoint_retention.h"

namespace qft {

struct CheckpointReportObject {
  std::string json;
};

template <>
struct HandleOf<CheckpointReportObject> {
  using type = qft_checkpoint_report;
};

}  // namespace qft

using qft::CheckpointReportObject;
using qft::Shared;
using qft::Status;

namespace {

// Names of files may be no UTF-8.
qft_checkpoint_report* AddReport(const nlohmann::ordered_json& json) {
  auto object = std::make_shared<CheckpointReportObject>();
  object->json = json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  return qft::AddHandle(std::move(object));
}

}  // namespace

extern "C" {

qft_status qft_checkpoint_report_create(const char* path, size_t path_length, int32_t check,
                                        qft_checkpoint_report** report, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("report", report));
    QFT_ASSIGN_OR_RETURN(const std::string_view name, qft::ReadPath("path", path, path_length));
    if (check != QFT_CHECKPOINT_CHECK_SIZES && check != QFT_CHECKPOINT_CHECK_HASHES) {
      return qft::InvalidArgument("check is ", check);
    }
    const auto kind = check == QFT_CHECKPOINT_CHECK_SIZES ? qft::CheckpointCheck::kSizes
                                                          : qft::CheckpointCheck::kHashes;
    QFT_ASSIGN_OR_RETURN(const qft::CheckpointReport made,
                         qft::ReportCheckpoints(qft::PosixFileSystem(), std::string(name), kind));
    *report = AddReport(made.ToJson());
    return absl::OkStatus();
  });
}

qft_status qft_checkpoint_prune(const char* folder, size_t folder_length,
                                const qft_prune_options* options, qft_checkpoint_report** report,
                                qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const std::string_view path,
                         qft::ReadPath("folder", folder, folder_length));
    QFT_ASSIGN_OR_RETURN(const qft_prune_options asked, qft::ReadStruct("options", options));
    const qft::Retention retention = {.keep = asked.keep,
                                      .keep_every = asked.keep_every,
                                      .superseded = asked.superseded != 0,
                                      .dry_run = asked.dry_run != 0};
    QFT_ASSIGN_OR_RETURN(
        const qft::PruneReport made,
        qft::PruneCheckpoints(qft::PosixFileSystem(), std::string(path), retention));
    if (report != nullptr) *report = AddReport(made.ToJson());
    return absl::OkStatus();
  });
}

qft_status qft_checkpoint_report_get_json(const qft_checkpoint_report* report, const char** json,
                                          size_t* length, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("json", json));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("length", length));
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<CheckpointReportObject>::Lock(report));
    *json = object->json.c_str();
    *length = object->json.size();
    return absl::OkStatus();
  });
}

void qft_checkpoint_report_destroy(qft_checkpoint_report* report) {
  qft::RemoveHandle<CheckpointReportObject>(report);
}

}  // extern "C"
