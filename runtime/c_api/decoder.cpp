#include "runtime/decoder.h"

#include "runtime/c_api/boundary.h"
#include "runtime/c_api/session_handle.h"

namespace qft {

struct DecoderObject {
  qft_session* session = nullptr;         // looked up at each use, so a destroyed one is STALE
  std::shared_ptr<SessionObject> engine;  // keeps the engine that owns the cache's memory alive
  std::unique_ptr<Decoder> decoder;
};

template <>
struct HandleOf<DecoderObject> {
  using type = qft_decoder;
};

}  // namespace qft

using qft::DecoderObject;
using qft::Exclusive;
using qft::SessionObject;
using qft::Status;

extern "C" {

qft_status qft_decoder_open(qft_session* session, int64_t capacity, qft_decoder** decoder,
                            qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("decoder", decoder));
    QFT_ASSIGN_OR_RETURN(const auto owner, Exclusive<SessionObject>::Lock(session));
    auto object = std::make_shared<DecoderObject>();
    object->session = session;
    object->engine = owner.shared();
    QFT_ASSIGN_OR_RETURN(object->decoder, qft::Decoder::Open(owner->get(), capacity));
    *decoder = qft::AddHandle(std::move(object));
    return absl::OkStatus();
  });
}

qft_status qft_decoder_feed(qft_decoder* decoder, const int32_t* token_ids, int64_t count,
                            float* logits, size_t logits_capacity, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<DecoderObject>::Lock(decoder));
    QFT_ASSIGN_OR_RETURN(const auto owner, Exclusive<SessionObject>::Lock(object->session));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("token_ids", token_ids));
    const int64_t vocabulary = owner->get().model().config().vocab_size;
    if (logits != nullptr && logits_capacity < static_cast<size_t>(vocabulary)) {
      return qft::MakeError(
          qft::ErrorCode::kShape,
          absl::StrCat("logits has ", logits_capacity, " elements, needed are ", vocabulary));
    }
    return object->decoder->Feed(owner->get(), token_ids, count, logits);
  });
}

qft_status qft_decoder_reset(qft_decoder* decoder, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<DecoderObject>::Lock(decoder));
    object->decoder->Reset();
    return absl::OkStatus();
  });
}

void qft_decoder_destroy(qft_decoder* decoder) {
  qft::RemoveHandle<DecoderObject>(decoder);
}

}  // extern "C"
