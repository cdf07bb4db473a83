// libqft's handles as owning C++ values, and calls whose errors become a Failure.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "bindings/cli/failure.h"
#include "include/qft_c.h"
#include "include/qft_data.h"

namespace qft::cli {

template <typename T, void (*destroy)(T*)>
struct Destroyer {
  void operator()(T* handle) const { destroy(handle); }
};
template <typename T, void (*destroy)(T*)>
using Handle = std::unique_ptr<T, Destroyer<T, destroy>>;

using Error = Handle<qft_error, qft_error_destroy>;
using Config = Handle<qft_config, qft_config_destroy>;
using Model = Handle<qft_model, qft_model_destroy>;
using Session = Handle<qft_session, qft_session_destroy>;
using Event = Handle<qft_event, qft_event_destroy>;
using Plan = Handle<qft_plan, qft_plan_destroy>;
using Checkpoint = Handle<qft_checkpoint, qft_checkpoint_destroy>;
using Tokenizer = Handle<qft_tokenizer, qft_tokenizer_destroy>;
using Dataset = Handle<qft_dataset, qft_dataset_destroy>;

// Calls function(arguments..., &error) and gives its status; the message goes to *message.
template <typename Function, typename... Arguments>
qft_status Try(std::string* message, Function function, Arguments... arguments) {
  qft_error* raw = nullptr;
  const qft_status status = function(arguments..., &raw);
  if (status == QFT_OK) return status;
  const Error error(raw);
  *message = error ? qft_error_message(error.get()) : qft_status_name(status);
  return status;
}

// As Try; anything but QFT_OK is a Failure with the library's message.
template <typename Function, typename... Arguments>
void Call(Function function, Arguments... arguments) {
  std::string message;
  if (Try(&message, function, arguments...) != QFT_OK) throw Failure(message);
}

// Makes a handle with a function whose last parameters are the handle and the error.
template <typename H, typename Function, typename... Arguments>
H Make(Function function, Arguments... arguments) {
  typename H::pointer handle = nullptr;
  Call(function, arguments..., &handle);
  return H(handle);
}

// Until the work has ended; its error is a Failure.
inline void Await(const Event& event) {
  Call(qft_event_wait, event.get(), INT64_MAX);
}

// The text of a function that copies into (buffer, capacity, needed).
template <typename Function, typename... Arguments>
std::string CopyText(Function function, Arguments... arguments) {
  size_t needed = 0;
  Call(function, arguments..., nullptr, size_t{0}, &needed);
  std::string text(needed + 1, '\0');
  Call(function, arguments..., text.data(), text.size(), &needed);
  text.resize(needed);
  return text;
}

// An open struct with its size set.
template <typename T>
T Sized() {
  T value{};
  value.struct_size = sizeof(T);
  return value;
}

}  // namespace qft::cli
