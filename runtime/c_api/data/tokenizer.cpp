#include <vector>

#include "runtime/c_api/data/objects.h"

using qft::Shared;
using qft::Status;
using qft::TokenizerObject;

namespace {

qft_status CopyIds(const qft_tokenizer* tokenizer, std::vector<int32_t> qft::TextFrame::*part,
                   int32_t* ids, size_t capacity, size_t* needed, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<TokenizerObject>::Lock(tokenizer));
    const std::vector<int32_t>& result = object->tokenizer->frame().*part;
    return qft::CopyOutArray(result.data(), result.size(), ids, capacity, needed);
  });
}

}  // namespace

extern "C" {

qft_status qft_tokenizer_load(const char* path, size_t path_length, qft_tokenizer** tokenizer,
                              qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("tokenizer", tokenizer));
    QFT_ASSIGN_OR_RETURN(const std::string_view file, qft::ReadPath("path", path, path_length));
    auto object = std::make_shared<TokenizerObject>();
    QFT_ASSIGN_OR_RETURN(object->tokenizer,
                         qft::Tokenizer::Load(qft::PosixFileSystem(), std::string(file)));
    *tokenizer = qft::AddHandle(std::move(object));
    return absl::OkStatus();
  });
}

void qft_tokenizer_destroy(qft_tokenizer* tokenizer) {
  qft::RemoveHandle<TokenizerObject>(tokenizer);
}

qft_status qft_tokenizer_encode(const qft_tokenizer* tokenizer, const char* text,
                                size_t text_length, int32_t special, int32_t* ids, size_t capacity,
                                size_t* needed, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<TokenizerObject>::Lock(tokenizer));
    QFT_ASSIGN_OR_RETURN(const std::string_view bytes, qft::ReadBytes("text", text, text_length));
    std::vector<int32_t> result;
    QFT_RETURN_IF_ERROR(object->tokenizer->Encode(bytes, special != 0, &result));
    return qft::CopyOutArray(result.data(), result.size(), ids, capacity, needed);
  });
}

qft_status qft_tokenizer_decode(const qft_tokenizer* tokenizer, const int32_t* ids, size_t count,
                                int32_t skip_special, char* buffer, size_t capacity, size_t* needed,
                                qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<TokenizerObject>::Lock(tokenizer));
    if (count > 0) QFT_RETURN_IF_ERROR(qft::RequireNotNull("ids", ids));
    QFT_ASSIGN_OR_RETURN(const std::string text,
                         object->tokenizer->Decode(ids, count, skip_special != 0));
    return qft::CopyOut(text, buffer, capacity, needed);
  });
}

qft_status qft_tokenizer_get_prefix(const qft_tokenizer* tokenizer, int32_t* ids, size_t capacity,
                                    size_t* needed, qft_error** error) {
  return CopyIds(tokenizer, &qft::TextFrame::prefix, ids, capacity, needed, error);
}

qft_status qft_tokenizer_get_suffix(const qft_tokenizer* tokenizer, int32_t* ids, size_t capacity,
                                    size_t* needed, qft_error** error) {
  return CopyIds(tokenizer, &qft::TextFrame::suffix, ids, capacity, needed, error);
}

qft_status qft_tokenizer_get_size(const qft_tokenizer* tokenizer, int64_t* size,
                                  qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<TokenizerObject>::Lock(tokenizer));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("size", size));
    *size = object->tokenizer->size();
    return absl::OkStatus();
  });
}

qft_status qft_tokenizer_find(const qft_tokenizer* tokenizer, const char* token,
                              size_t token_length, int32_t* id, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<TokenizerObject>::Lock(tokenizer));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("id", id));
    QFT_ASSIGN_OR_RETURN(const std::string_view text, qft::ReadUtf8("token", token, token_length));
    const std::optional<int32_t> found = object->tokenizer->Find(text);
    if (!found) {
      return qft::MakeError(qft::ErrorCode::kNotFound,
                            absl::StrCat("no token '", std::string(text), "'"));
    }
    *id = *found;
    return absl::OkStatus();
  });
}

qft_status qft_tokenizer_get_end(const qft_tokenizer* tokenizer, int32_t* id, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<TokenizerObject>::Lock(tokenizer));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("id", id));
    const std::optional<int32_t> end = object->tokenizer->end_id();
    if (!end) return qft::MakeError(qft::ErrorCode::kNotFound, "the tokenizer has no end token");
    *id = *end;
    return absl::OkStatus();
  });
}

}  // extern "C"
