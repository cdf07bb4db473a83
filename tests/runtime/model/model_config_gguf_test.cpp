#include "runtime/model/model_config.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>

#include "tests/runtime/data/format_bytes.h"
#include "tests/runtime/data/memory_file_system.h"
#include "tests/runtime/model/sample_config.h"

namespace qft {
namespace {

GgufBytes SampleGguf() {
  GgufBytes bytes;
  bytes.AddString("general.architecture", "llama");
  bytes.AddUint32("llama.context_length", 512);
  bytes.AddUint32("llama.embedding_length", 64);
  bytes.AddUint32("llama.block_count", 2);
  bytes.AddUint32("llama.feed_forward_length", 96);
  bytes.AddUint32("llama.attention.head_count", 4);
  bytes.AddUint32("llama.attention.head_count_kv", 2);
  bytes.AddFloat32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  bytes.AddFloat32("llama.rope.freq_base", 5000.0f);
  bytes.AddUint32("tokenizer.ggml.bos_token_id", 1);
  bytes.AddUint32("tokenizer.ggml.eos_token_id", 2);
  bytes.AddTensor("token_embd.weight", {64, 100}, 0, std::string(64 * 100 * 4, '\0'));
  return bytes;
}

std::string KeyOf(const std::string& entry) {
  uint64_t length;
  std::memcpy(&length, entry.data(), sizeof(length));
  return entry.substr(sizeof(length), length);
}

StatusOr<ModelConfig> ParseGguf(const GgufBytes& bytes) {
  MemoryFileSystem fs;
  fs.files["f"] = bytes.Build();
  QFT_ASSIGN_OR_RETURN(const GgufFile file, OpenGguf(fs, "f"));
  return ParseGgufConfig(file, "f");
}

Status ParseGgufWith(const std::function<void(GgufBytes&)>& change) {
  GgufBytes bytes = SampleGguf();
  change(bytes);
  return ParseGguf(bytes).status();
}

TEST(GgufConfig, ReadsEveryField) {
  const auto config = ParseGguf(SampleGguf());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(*config == SampleConfig());
}

TEST(GgufConfig, UntiedWhenThereIsAHead) {
  GgufBytes bytes = SampleGguf();
  bytes.AddTensor("output.weight", {64, 100}, 0, std::string(64 * 100 * 4, '\0'));
  const auto config = ParseGguf(bytes);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_FALSE(config->tie_embeddings);
}

TEST(GgufConfig, AcceptsWhatChangesNothing) {
  GgufBytes bytes = SampleGguf();
  bytes.AddUint32("llama.vocab_size", 100);
  bytes.AddUint32("llama.rope.dimension_count", 16);
  bytes.AddUint32("llama.attention.key_length", 16);
  bytes.AddUint32("llama.attention.value_length", 16);
  bytes.AddString("llama.rope.scaling.type", "none");
  bytes.AddFloat32("llama.rope.scaling.factor", 1.0f);
  bytes.AddUint32("llama.expert_count", 0);
  bytes.AddUint32("tokenizer.ggml.padding_token_id", 0xffffffff);
  const auto config = ParseGguf(bytes);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(*config == SampleConfig());
}

TEST(GgufConfig, RefusesByKeyWhatItDoesNotCompute) {
  const std::pair<std::string, std::function<void(GgufBytes&)>> unsupported[] = {
      {"llama.rope.scaling.type",
       [](GgufBytes& b) { b.AddString("llama.rope.scaling.type", "longrope"); }},
      {"llama.rope.scaling.factor",
       [](GgufBytes& b) { b.AddFloat32("llama.rope.scaling.factor", 4.0f); }},
      {"llama.rope.scaling.attn_factor",
       [](GgufBytes& b) { b.AddFloat32("llama.rope.scaling.attn_factor", 0.5f); }},
      {"llama.rope.scale_linear",
       [](GgufBytes& b) { b.AddFloat32("llama.rope.scale_linear", 4.0f); }},
      {"llama.expert_count", [](GgufBytes& b) { b.AddUint32("llama.expert_count", 8); }},
      {"llama.attention.sliding_window",
       [](GgufBytes& b) { b.AddUint32("llama.attention.sliding_window", 8); }},
      {"llama.logit_scale", [](GgufBytes& b) { b.AddFloat32("llama.logit_scale", 2.0f); }},
      {"llama.rope.dimension_count",
       [](GgufBytes& b) { b.AddUint32("llama.rope.dimension_count", 8); }},
      {"llama.attention.value_length",
       [](GgufBytes& b) { b.AddUint32("llama.attention.value_length", 8); }},
      {"general.architecture", [](GgufBytes& b) {
         b.entries.erase(b.entries.begin());
         b.AddString("general.architecture", "qwen2moe");
       }}};
  for (const auto& [key, change] : unsupported) {
    const Status status = ParseGgufWith(change);
    EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kUnsupported) << key << status;
    EXPECT_NE(status.message().find(key), absl::string_view::npos) << status;
  }
}

TEST(GgufConfig, RefusesMissingAndMistypedEntries) {
  constexpr size_t kRequired[] = {0, 1, 2, 3, 4, 5, 7};
  for (const size_t index : kRequired) {
    const Status missing =
        ParseGgufWith([&](GgufBytes& b) { b.entries.erase(b.entries.begin() + index); });
    EXPECT_EQ(GetErrorInfo(missing).code, ErrorCode::kBadData) << index << missing;
    const Status mistyped = ParseGgufWith([&](GgufBytes& b) {
      const std::string key = KeyOf(b.entries[index]);
      b.entries.erase(b.entries.begin() + index);
      b.AddEntry(key, 7, Bytes<uint8_t>(1));
    });
    EXPECT_EQ(GetErrorInfo(mistyped).code, ErrorCode::kBadData) << index << mistyped;
  }
  const Status array = ParseGgufWith([](GgufBytes& b) {
    b.entries.erase(b.entries.begin() + 5);
    b.AddEntry("llama.attention.head_count", 9,
               Bytes<uint32_t>(4) + Bytes<uint64_t>(2) + Bytes<uint32_t>(4) + Bytes<uint32_t>(4));
  });
  EXPECT_EQ(GetErrorInfo(array).code, ErrorCode::kBadData) << array;
  EXPECT_FALSE(ParseGgufWith([](GgufBytes& b) { b.tensors.clear(); }).ok());
}

TEST(GgufConfig, RefusesAbsurdSizes) {
  for (const size_t index : {1, 2, 3, 4, 5, 6}) {
    for (const uint64_t value : {uint64_t{0}, uint64_t{1} << 60, ~uint64_t{0}}) {
      const Status status = ParseGgufWith([&](GgufBytes& b) {
        const std::string key = KeyOf(b.entries[index]);
        b.entries.erase(b.entries.begin() + static_cast<int64_t>(index));
        b.AddEntry(key, 10, Bytes(value));
      });
      EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kBadData) << index << " " << value << status;
    }
  }
}

}  // namespace
}  // namespace qft
