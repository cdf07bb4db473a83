// A tiny model, sessions and checkpoints through the C interface, for tests that make things fail.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <vector>

#include "qft_c.h"
#include "qft_data.h"

namespace qft {

inline constexpr char kModelJson[] =
    R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","vocab_size":64,)"
    R"("hidden_size":16,"intermediate_size":24,"num_hidden_layers":1,"num_attention_heads":2,)"
    R"("num_key_value_heads":1,"max_position_embeddings":64,"rms_norm_eps":1e-5,)"
    R"("rope_theta":10000.0,"hidden_act":"silu","tie_word_embeddings":true})";
inline constexpr int64_t kTokens = 24;

// Of the embedding, tensor 0.
inline qft_tensor_view ViewOfEmbedding(std::vector<float>& values) {
  values.resize(64 * 16);
  qft_tensor_view view{};
  view.struct_size = sizeof(view);
  view.data = values.data();
  view.dimensions = 2;
  view.shape[0] = 64;
  view.shape[1] = 16;
  return view;
}

struct Outcome {
  qft_status status = QFT_OK;
  std::string message;
};

// Takes the error object apart.
inline Outcome OutcomeOf(qft_status status, qft_error* error) {
  Outcome outcome{status, {}};
  if (error != nullptr) outcome.message = qft_error_message(error);
  EXPECT_EQ(qft_error_code(error), status == QFT_OK ? QFT_ERROR_STALE : status);
  EXPECT_EQ(status == QFT_OK, error == nullptr);
  qft_error_destroy(error);
  return outcome;
}

template <typename F>
Outcome Call(const F& function) {
  qft_error* error = nullptr;
  const qft_status status = function(&error);
  return OutcomeOf(status, error);
}

// For what must work.
template <typename F>
void Must(const F& function) {
  const Outcome outcome = Call(function);
  ASSERT_EQ(outcome.status, QFT_OK) << outcome.message;
}

class World : public testing::Test {
 protected:
  World() {
    // In memory where there is such a folder: a sync costs nothing there.
    const bool in_memory = std::filesystem::is_directory("/dev/shm");
    std::string pattern = (in_memory ? "/dev/shm/" : testing::TempDir()) + "qft_faults_XXXXXX";
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    folder_ = root_ + "/checkpoints";
    OpenModel();
  }
  ~World() override {
    qft_config_destroy(config_);
    qft_model_destroy(model_);
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }

  // Again in a forked child, where handles of the parent can't be used.
  void OpenModel() {
    Must([&](qft_error** error) {
      return qft_model_create_random(kModelJson, sizeof(kModelJson) - 1, 5, &model_, error);
    });
    Must([&](qft_error** error) { return qft_config_create(&config_, error); });
    Must([&](qft_error** error) { return qft_config_set_int(config_, "threads", 7, 1, error); });
    Must([&](qft_error** error) {
      return qft_config_set_int(config_, "micro_batch_tokens", 18, kTokens, error);
    });
  }
  void Set(const std::string& key, const std::string& value) {
    Must([&](qft_error** error) {
      return qft_config_set_text(config_, key.data(), key.size(), value.data(), value.size(),
                                 error);
    });
  }
  // With room for one update, so that all others are on their way or on the disk.
  void PutMomentumOnNvme(const std::string& backend) {
    const std::string folder = root_ + "/nvme";
    std::filesystem::create_directories(folder);
    Set("momentum", "nvme");
    Set("nvme_folders", folder);
    Set("nvme_backend", backend);
    Set("staging", "0");
  }
  qft_session* Open() {
    qft_session* session = nullptr;
    Must([&](qft_error** error) {
      return qft_session_open(model_, config_, nullptr, &session, error);
    });
    return session;
  }
  // The batch depends on the number alone.
  qft_status Step(qft_session* session, int number, qft_error** error) {
    int32_t tokens[kTokens];
    for (int i = 0; i < kTokens; ++i) tokens[i] = (i * 7 + number * 13) % 64;
    qft_batch batch{};
    batch.struct_size = sizeof(batch);
    batch.tokens = kTokens;
    batch.token_ids = tokens;
    qft_step_options options{};
    options.struct_size = sizeof(options);
    options.learning_rate = 1e-2;
    return qft_session_step(session, &options, &batch, 1, nullptr, error);
  }
  void StepTo(qft_session* session, int64_t step) {
    for (int64_t number = StepOf(session); number < step; ++number) {
      Must([&](qft_error** error) { return Step(session, static_cast<int>(number), error); });
    }
  }
  int64_t StepOf(qft_session* session) {
    qft_session_metrics metrics{};
    metrics.struct_size = sizeof(metrics);
    Must([&](qft_error** error) { return qft_session_get_metrics(session, &metrics, error); });
    return metrics.step;
  }
  // Empty where the session is poisoned.
  std::string HashOf(qft_session* session) {
    char hash[33] = {};
    const Outcome outcome = Call([&](qft_error** error) {
      return qft_session_state_hash(session, hash, sizeof(hash), error);
    });
    EXPECT_TRUE(outcome.status == QFT_OK || outcome.status == QFT_ERROR_POISONED)
        << outcome.message;
    return hash;
  }
  // The states of an uninterrupted run.
  std::string HashAt(int64_t step) {
    while (static_cast<int64_t>(hashes_.size()) <= step) {
      qft_session* session = Open();
      StepTo(session, static_cast<int64_t>(hashes_.size()));
      hashes_.push_back(HashOf(session));
      qft_session_destroy(session);
    }
    return hashes_[step];
  }
  qft_status Save(qft_session* session, int64_t keep, qft_error** error) {
    return qft_session_save(session, folder_.data(), folder_.size(), "cursor", 6, keep, error);
  }
  qft_status OpenCheckpoint(qft_checkpoint** checkpoint, qft_error** error) {
    return qft_checkpoint_open(folder_.data(), folder_.size(), checkpoint, nullptr, error);
  }
  // Of the newest checkpoint, which must load and hold the states of its step; -1: none.
  int64_t Newest() {
    qft_checkpoint* checkpoint = nullptr;
    const Outcome opened =
        Call([&](qft_error** error) { return OpenCheckpoint(&checkpoint, error); });
    if (opened.status == QFT_ERROR_NOT_FOUND) return -1;
    EXPECT_EQ(opened.status, QFT_OK) << opened.message;
    qft_session* session = Open();
    Must([&](qft_error** error) { return qft_session_restore(session, checkpoint, error); });
    const int64_t step = StepOf(session);
    EXPECT_EQ(HashOf(session), HashAt(step));
    qft_session_destroy(session);
    qft_checkpoint_destroy(checkpoint);
    return step;
  }

  std::string root_;
  std::string folder_;
  qft_model* model_ = nullptr;
  qft_config* config_ = nullptr;
  std::vector<std::string> hashes_;
};

}  // namespace qft
