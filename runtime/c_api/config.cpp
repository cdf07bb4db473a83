#include <memory>
#include <string>

#include "runtime/c_api/boundary.h"
#include "runtime/c_api/config_handle.h"

namespace {

using qft::SessionConfig;
using qft::Status;

// Locks the configuration, reads the key, and runs set(config, key).
template <typename Set>
qft_status SetKey(qft_config* config, const char* key, size_t key_length, qft_error** error,
                  Set&& set) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto locked, qft::Exclusive<SessionConfig>::Lock(config));
    QFT_ASSIGN_OR_RETURN(const std::string_view name, qft::ReadUtf8("key", key, key_length));
    return set(*locked, name);
  });
}

}  // namespace

extern "C" {

qft_status qft_config_create(qft_config** config, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("config", config));
    *config = qft::AddHandle(std::make_shared<SessionConfig>());
    return absl::OkStatus();
  });
}

void qft_config_destroy(qft_config* config) {
  qft::RemoveHandle<SessionConfig>(config);
}

const char* qft_config_describe(void) {
  try {
    // Never freed: callers may keep the text for the life of the process.
    static const std::string& text = *new std::string(qft::DescribeSessionConfig());
    return text.c_str();
  } catch (...) {
    return "[]";
  }
}

qft_status qft_config_set_string(qft_config* config, const char* key, size_t key_length,
                                 const char* value, size_t value_length, qft_error** error) {
  return SetKey(config, key, key_length, error,
                [&](SessionConfig& target, std::string_view name) -> Status {
                  QFT_ASSIGN_OR_RETURN(const std::string_view text,
                                       qft::ReadUtf8("value", value, value_length));
                  return target.SetString(name, text);
                });
}

qft_status qft_config_set_int(qft_config* config, const char* key, size_t key_length, int64_t value,
                              qft_error** error) {
  return SetKey(config, key, key_length, error, [&](SessionConfig& target, std::string_view name) {
    return target.SetInt(name, value);
  });
}

qft_status qft_config_set_float(qft_config* config, const char* key, size_t key_length,
                                double value, qft_error** error) {
  return SetKey(config, key, key_length, error, [&](SessionConfig& target, std::string_view name) {
    return target.SetFloat(name, value);
  });
}

qft_status qft_config_set_text(qft_config* config, const char* key, size_t key_length,
                               const char* value, size_t value_length, qft_error** error) {
  return SetKey(config, key, key_length, error,
                [&](SessionConfig& target, std::string_view name) -> Status {
                  QFT_ASSIGN_OR_RETURN(const std::string_view text,
                                       qft::ReadUtf8("value", value, value_length));
                  return target.SetText(name, text);
                });
}

qft_status qft_config_add_group(qft_config* config, const char* pattern, size_t pattern_length,
                                double learning_rate_factor, double weight_decay, int32_t frozen,
                                qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto locked, qft::Exclusive<SessionConfig>::Lock(config));
    QFT_ASSIGN_OR_RETURN(const std::string_view text,
                         qft::ReadUtf8("pattern", pattern, pattern_length));
    return locked->AddGroup({std::string(text), learning_rate_factor, weight_decay, frozen != 0});
  });
}

qft_status qft_config_to_json(const qft_config* config, char* buffer, size_t capacity,
                              size_t* needed, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto locked, qft::Shared<SessionConfig>::Lock(config));
    return qft::CopyOut(locked->ToJson(), buffer, capacity, needed);
  });
}

}  // extern "C"
