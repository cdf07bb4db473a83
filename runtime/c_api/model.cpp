#include <string>

#include "runtime/c_api/boundary.h"
#include "runtime/c_api/session_handle.h"

using qft::ModelObject;
using qft::Status;

namespace {

qft_tensor_info InfoOf(const qft::TensorSpec& spec) {
  qft_tensor_info info{};
  info.struct_size = sizeof(info);
  info.name = spec.name.c_str();
  info.rows = spec.rows;
  info.cols = spec.cols;
  info.dimensions = spec.dimensions;
  info.quantised = spec.quantised ? 1 : 0;
  return info;
}

qft_model* Publish(std::shared_ptr<const qft::Model> model) {
  auto object = std::make_shared<ModelObject>();
  object->model = std::move(model);
  return qft::AddHandle(std::move(object));
}

}  // namespace

extern "C" {

qft_status qft_model_load(const char* path, size_t path_length, qft_model** model,
                          qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("model", model));
    QFT_ASSIGN_OR_RETURN(const std::string_view file, qft::ReadPath("path", path, path_length));
    QFT_ASSIGN_OR_RETURN(std::shared_ptr<const qft::Model> loaded,
                         qft::Model::Load(qft::PosixFileSystem(), std::string(file)));
    *model = Publish(std::move(loaded));
    return absl::OkStatus();
  });
}

qft_status qft_model_create_random(const char* config_json, size_t config_length, uint64_t seed,
                                   qft_model** model, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("model", model));
    QFT_ASSIGN_OR_RETURN(const std::string_view json,
                         qft::ReadUtf8("config_json", config_json, config_length));
    QFT_ASSIGN_OR_RETURN(std::shared_ptr<const qft::Model> created,
                         qft::Model::Random(std::string(json), seed));
    *model = Publish(std::move(created));
    return absl::OkStatus();
  });
}

void qft_model_destroy(qft_model* model) {
  qft::RemoveHandle<ModelObject>(model);
}

qft_status qft_model_get_tensor_count(const qft_model* model, int64_t* count, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("count", count));
    QFT_ASSIGN_OR_RETURN(const auto object, qft::Shared<ModelObject>::Lock(model));
    *count = object->model->table().size();
    return absl::OkStatus();
  });
}

qft_status qft_model_get_tensor_info(const qft_model* model, int64_t index, qft_tensor_info* info,
                                     qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, qft::Shared<ModelObject>::Lock(model));
    const qft::TensorTable& table = object->model->table();
    if (index < 0 || index >= table.size()) {
      return qft::MakeError(qft::ErrorCode::kOutOfRange,
                            absl::StrCat("tensor ", index, " of ", table.size()));
    }
    return qft::WriteStruct("info", info, InfoOf(table[static_cast<int>(index)]));
  });
}

qft_status qft_model_find_tensor(const qft_model* model, const char* name, size_t name_length,
                                 int64_t* index, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("index", index));
    QFT_ASSIGN_OR_RETURN(const auto object, qft::Shared<ModelObject>::Lock(model));
    QFT_ASSIGN_OR_RETURN(const std::string_view wanted, qft::ReadUtf8("name", name, name_length));
    const int found = object->model->table().Find(wanted);
    if (found < 0) {
      return qft::MakeError(qft::ErrorCode::kNotFound,
                            absl::StrCat("no tensor '", std::string(wanted), "'"));
    }
    *index = found;
    return absl::OkStatus();
  });
}

qft_status qft_model_config_json(const qft_model* model, char* buffer, size_t capacity,
                                 size_t* needed, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, qft::Shared<ModelObject>::Lock(model));
    return qft::CopyOut(qft::ToHuggingFaceJson(object->model->config(), "bfloat16"), buffer,
                        capacity, needed);
  });
}

}  // extern "C"
