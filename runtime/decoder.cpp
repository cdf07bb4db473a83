#include "runtime/decoder.h"

#include <algorithm>
#include <numeric>

namespace qft {
namespace {

constexpr int64_t kPrefillTokens = 256;

Matrix RowsFrom(const Matrix& matrix, int64_t begin, int64_t rows) {
  const int64_t offset = begin * matrix.cols * ElementBytes(matrix.dtype);
  return {static_cast<char*>(matrix.data) + offset, matrix.dtype, rows, matrix.cols};
}

}  // namespace

StatusOr<std::unique_ptr<Decoder>> Decoder::Open(Session& session, int64_t capacity) {
  QFT_RETURN_IF_ERROR(session.FinishUpdates());
  const int64_t longest = session.model().config().max_position;
  if (capacity < 1 || capacity > longest) {
    return MakeError(
        ErrorCode::kOutOfRange,
        absl::StrCat("a cache of ", capacity, " tokens, the model takes 1 to ", longest));
  }
  std::unique_ptr<Decoder> decoder(new Decoder(session, capacity));
  QFT_RETURN_IF_ERROR(decoder->arena_.status());
  return decoder;
}

Decoder::Decoder(Session& session, int64_t capacity)
    : capacity_(capacity), chunk_(std::min(capacity, kPrefillTokens)), arena_(&session.engine()) {
  const Model& model = session.model();
  const BufferShape shape{&model.config(),
                          chunk_,
                          false,
                          session.plan().integer,
                          session.plan().critical_count,
                          session.plan().activation_type};
  activations_ = AllocateSharedActivations(shape, Kept::kNothing, arena_);
  batch_ = AllocateMicroBatch(shape, arena_);
  workspace_ = AllocateWorkspace(shape, 1, {}, arena_);
  x_ = AllocateMatrix(Purpose::kActivations, shape.activation_type, chunk_,
                      model.config().hidden_size, arena_);
  const int64_t width = model.config().kv_heads * model.config().head_dim;
  for (size_t block = 0; block < model.tensors().blocks.size(); ++block) {
    k_cache_.push_back(
        AllocateMatrix(Purpose::kActivations, shape.activation_type, capacity, width, arena_));
    v_cache_.push_back(
        AllocateMatrix(Purpose::kActivations, shape.activation_type, capacity, width, arena_));
  }
}

Status Decoder::Feed(Session& session, const int32_t* token_ids, int64_t count, float* logits) {
  QFT_RETURN_IF_ERROR(session.FinishUpdates());
  if (session.step_open()) return MakeError(ErrorCode::kState, "a step is open");
  if (count < 1 || used_ + count > capacity_) {
    return MakeError(ErrorCode::kOutOfRange,
                     absl::StrCat(count, " tokens after ", used_, ", the cache holds ", capacity_));
  }
  const int64_t vocabulary = session.model().config().vocab_size;
  for (int64_t t = 0; t < count; ++t) {
    if (token_ids[t] < 0 || token_ids[t] >= vocabulary) {
      return MakeError(ErrorCode::kOutOfRange,
                       absl::StrCat("token ", token_ids[t], ", the vocabulary has ", vocabulary));
    }
  }
  for (int64_t begin = 0; begin < count; begin += chunk_) {
    const int64_t part = std::min(chunk_, count - begin);
    const bool last = begin + part == count;
    QFT_RETURN_IF_ERROR(FeedChunk(session, token_ids + begin, part, last ? logits : nullptr));
  }
  return absl::OkStatus();
}

Status Decoder::FeedChunk(Session& session, const int32_t* token_ids, int64_t count,
                          float* logits) {
  Engine& engine = session.engine();
  Llama llama = session.llama();
  const float* inverse_frequency = llama.workspace->inverse_frequency;
  workspace_.inverse_frequency = const_cast<float*>(inverse_frequency);
  llama.workspace = &workspace_;
  std::vector<int32_t> positions(static_cast<size_t>(count));
  std::iota(positions.begin(), positions.end(), static_cast<int32_t>(used_));
  engine.CopyToEngine(batch_.token_ids, token_ids, count * sizeof(int32_t));
  engine.CopyToEngine(batch_.positions, positions.data(), count * sizeof(int32_t));
  for (int32_t& position : positions) {
    position = FirstSeen(session.model().config(), 0, position);
  }
  engine.CopyToEngine(batch_.document_start, positions.data(), count * sizeof(int32_t));
  batch_.tokens = count;

  const Matrix x = FirstRows(x_, count);
  EmbedForward(llama, batch_, x);
  for (int block = 0; block < static_cast<int>(k_cache_.size()); ++block) {
    Block(llama, block, count, x);
  }
  used_ += count;
  if (logits == nullptr) return session.Synchronize();

  // Only the last token's logits are wanted.
  MicroBatch last = batch_;
  last.tokens = 1;
  HeadNorm(llama, last, RowsFrom(x, count - 1, 1));
  for (int64_t chunk = 0; chunk < llama.vocabulary_chunks(); ++chunk) {
    const Matrix part = HeadLogits(llama, last, chunk);
    engine.CopyToHost(logits + chunk * kVocabularyChunk, part.data, part.cols * sizeof(float));
  }
  return session.Synchronize();
}

// BlockForward with the cache in place of the micro-batch's own keys and values.
void Decoder::Block(const Llama& llama, int block, int64_t count, const Matrix& x) {
  const auto rows = [count](const auto& buffer) { return FirstRows(buffer, count); };
  const AttentionHeads heads{rows(activations_.q), RowsFrom(k_cache_[block], used_, count)};
  const Matrix v = RowsFrom(v_cache_[block], used_, count);
  BlockProjections(llama, block, x, activations_, heads, v);
  NormHeads(llama, block, heads, heads);
  RotateHeads(llama, block, batch_.positions, heads, false);
  const Matrix attention_output = rows(activations_.attention_output);
  llama.engine->AttentionDecode(llama.attention_shape(count), used_, batch_.document_start, heads.q,
                                k_cache_[block], v_cache_[block], attention_output);
  BlockAfterAttention(llama, block, count, x, activations_, x);
}

}  // namespace qft
