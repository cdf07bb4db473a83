// What the handles of libqft_data stand for.
#pragma once

#include <memory>
#include <string>

#include "include/qft_data.h"
#include "runtime/c_api/boundary.h"
#include "runtime/c_api/handle.h"
#include "runtime/data/text/dataset.h"
#include "runtime/data/text/tokenizer.h"

namespace qft {

struct TokenizerObject {
  std::shared_ptr<const Tokenizer> tokenizer;
};

struct DatasetObject {
  std::unique_ptr<Dataset> dataset;
  EncodedDocument shown;  // what qft_dataset_get_document lent last
};

template <>
struct HandleOf<TokenizerObject> {
  using type = qft_tokenizer;
};
template <>
struct HandleOf<DatasetObject> {
  using type = qft_dataset;
};

// Calls a function of libqft.so, whose last parameter is the error, and returns its failure as a
// Status.
template <typename Function, typename... Args>
Status CallCore(Function function, Args... args) {
  qft_error* error = nullptr;
  const qft_status code = function(args..., &error);
  if (code == QFT_OK) return absl::OkStatus();
  Status status = MakeError(static_cast<ErrorCode>(code), qft_error_message(error),
                            qft_error_native_code(error));
  qft_error_destroy(error);
  return status;
}

}  // namespace qft
