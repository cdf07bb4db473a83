// A small model and sessions over it, through the C++ interface.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/checkpoint.h"
#include "runtime/model/model.h"
#include "runtime/session.h"

namespace qft {

inline std::string TinyJson(int layers, bool tied, int vocabulary = 64) {
  return absl::StrCat(
      R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","vocab_size":)", vocabulary,
      R"(,"hidden_size":16,"intermediate_size":24,"num_attention_heads":2,)",
      R"("num_key_value_heads":1,"max_position_embeddings":128,"rms_norm_eps":1e-5,)",
      R"("num_hidden_layers":)", layers, R"(,"tie_word_embeddings":)", tied ? "true" : "false",
      "}");
}

inline std::shared_ptr<const Model> TinyModel(int layers = 2, bool tied = true,
                                              int vocabulary = 64) {
  return Model::Random(TinyJson(layers, tied, vocabulary), 1).value();
}

inline SessionConfig TinyConfig() {
  SessionConfig config;
  config.threads = 1;
  config.micro_batch_tokens = 24;
  return config;
}

inline std::unique_ptr<Session> OpenTiny(const std::shared_ptr<const Model>& model,
                                         const SessionConfig& config = TinyConfig()) {
  return Session::Open(model, config, nullptr).value();
}

inline Status TryStepTiny(Session& session, int seed) {
  std::vector<int32_t> tokens;
  tokens.reserve(24);
  for (int i = 0; i < 24; ++i) tokens.push_back((i * 7 + seed * 13) % 64);
  BatchView batch;
  batch.tokens = 24;
  batch.token_ids = tokens.data();
  StepOptions options;
  options.learning_rate = 1e-2;
  QFT_RETURN_IF_ERROR(session.BeginStep(options));
  QFT_RETURN_IF_ERROR(session.Accumulate({batch}));
  return session.EndStep().status();
}

inline void StepTiny(Session& session, int seed) {
  ASSERT_EQ(TryStepTiny(session, seed), absl::OkStatus());
}

inline std::string HashOf(Session& session) {
  return StateHash(session).value();
}

inline Status SaveTo(Session& session, FileSystem& fs, const std::string& folder,
                     const std::string& blob = {}) {
  QFT_ASSIGN_OR_RETURN(const std::unique_ptr<PreparedSave> save,
                       PreparedSave::Prepare(session, fs, folder, blob));
  return save->Commit();
}

class FolderTest : public testing::Test {
 protected:
  explicit FolderTest(const std::string& parent = testing::TempDir()) {
    std::string pattern = JoinPath(parent, "qft_checkpoint_XXXXXX");
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  ~FolderTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  std::string Path(const std::string& name) const { return JoinPath(folder_, name); }

  std::string folder_;
};

}  // namespace qft
