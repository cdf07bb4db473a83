#include "runtime/c_api/boundary.h"
#include "runtime/c_api/config_handle.h"
#include "runtime/c_api/session_handle.h"
#include "runtime/c_api/struct_size.h"
#include "runtime/plan_report.h"

namespace qft {

struct PlanObject {
  std::string json;
};

template <>
struct HandleOf<PlanObject> {
  using type = qft_plan;
};

}  // namespace qft

using qft::PlanObject;
using qft::Shared;
using qft::Status;

extern "C" {

const char* qft_plan_describe_devices(void) {
  try {
    // Never freed: callers may keep the text for the life of the process.
    static const std::string& text = *new std::string(qft::DescribeDeviceProfiles());
    return text.c_str();
  } catch (...) {
    return "[]";
  }
}

qft_status qft_plan_create(const qft_model* model, const qft_config* config,
                           const qft_plan_options* options, qft_plan** plan, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("plan", plan));
    std::string device;
    double nvme_bytes_per_second = 0;
    if (options != nullptr) {
      QFT_ASSIGN_OR_RETURN(const qft_plan_options in, qft::ReadStruct("options", options));
      if (!(in.nvme_bytes_per_second >= 0)) {
        return qft::MakeError(qft::ErrorCode::kOutOfRange, "nvme_bytes_per_second is below 0");
      }
      nvme_bytes_per_second = in.nvme_bytes_per_second;
      if (in.device != nullptr) {
        QFT_ASSIGN_OR_RETURN(device, qft::ReadUtf8("device", in.device, in.device_length));
      }
    }
    QFT_ASSIGN_OR_RETURN(const auto model_object, Shared<qft::ModelObject>::Lock(model));
    QFT_ASSIGN_OR_RETURN(const auto settings, Shared<qft::SessionConfig>::Lock(config));
    QFT_ASSIGN_OR_RETURN(const auto json, qft::ReportPlan(model_object->model, *settings, device,
                                                          nvme_bytes_per_second));
    auto object = std::make_shared<PlanObject>();
    object->json = json.dump();
    *plan = qft::AddHandle(std::move(object));
    return absl::OkStatus();
  });
}

qft_status qft_plan_get_json(const qft_plan* plan, const char** json, size_t* length,
                             qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("json", json));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("length", length));
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<PlanObject>::Lock(plan));
    *json = object->json.c_str();
    *length = object->json.size();
    return absl::OkStatus();
  });
}

void qft_plan_destroy(qft_plan* plan) {
  qft::RemoveHandle<PlanObject>(plan);
}

}  // extern "C"
