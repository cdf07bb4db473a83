// Trains a tiny model, saving as it goes, and prints the hash of all states at the end; started
// again it goes on from its last checkpoint. kill_rounds.py kills it.
//
//   kill_run FOLDER STEPS SAVE_EVERY ENGINE SCRATCH [KILL_AFTER]
//
// SCRATCH: the folder for momentum on NVMe, or - for momentum in the engine's memory.
// KILL_AFTER: the number of the file operation after which the process kills itself, counted from
// the first save.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "qft_c.h"
#include "tests/abi/faults/injection.h"

namespace {

constexpr int kTokens = 96;
constexpr int kVocabulary = 300;
constexpr char kModelJson[] =
    R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","vocab_size":300,)"
    R"("hidden_size":64,"intermediate_size":160,"num_hidden_layers":2,"num_attention_heads":4,)"
    R"("num_key_value_heads":2,"max_position_embeddings":128,"rms_norm_eps":1e-5,)"
    R"("rope_theta":10000.0,"hidden_act":"silu","tie_word_embeddings":true})";

template <typename F>
void Must(const char* what, const F& call) {
  qft_error* error = nullptr;
  if (call(&error) == QFT_OK) return;
  std::fprintf(stderr, "%s: %s\n", what, qft_error_message(error));
  std::exit(1);
}

struct Run {
  std::string folder;
  qft_model* model = nullptr;
  qft_config* config = nullptr;
  qft_session* session = nullptr;
  int64_t cursor = 0;  // of the data, kept in the checkpoint's blob

  void Set(const char* key, const char* value) {
    Must(key, [&](qft_error** error) {
      return qft_config_set_text(config, key, std::strlen(key), value, std::strlen(value), error);
    });
  }
  void Open(const char* engine, const char* scratch) {
    Must("model", [&](qft_error** error) {
      return qft_model_create_random(kModelJson, sizeof(kModelJson) - 1, 5, &model, error);
    });
    Must("config", [&](qft_error** error) { return qft_config_create(&config, error); });
    Must("micro_batch_tokens", [&](qft_error** error) {
      return qft_config_set_int(config, "micro_batch_tokens", 18, kTokens, error);
    });
    Set("engine", engine);
    if (std::strcmp(scratch, "-") != 0) {
      Set("momentum", "nvme");
      Set("nvme_folders", scratch);
      Set("nvme_backend", "threads");
      Set("staging", "0");
    }
    Must("session", [&](qft_error** error) {
      return qft_session_open(model, config, nullptr, &session, error);
    });
  }

  // From the newest checkpoint, if there is one. The step.
  int64_t Resume() {
    qft_checkpoint* checkpoint = nullptr;
    qft_error* error = nullptr;
    const char* warning = nullptr;
    const qft_status opened =
        qft_checkpoint_open(folder.data(), folder.size(), &checkpoint, &warning, &error);
    if (opened == QFT_ERROR_NOT_FOUND) {
      qft_error_destroy(error);
      return 0;
    }
    Must("open", [&](qft_error** out) { return *out = error, opened; });
    if (*warning != '\0') std::exit(2);  // a process that is killed leaves no broken checkpoint
    Must("restore", [&](qft_error** out) { return qft_session_restore(session, checkpoint, out); });
    const void* blob = nullptr;
    size_t length = 0;
    int64_t step = 0;
    Must("blob",
         [&](qft_error** out) { return qft_checkpoint_get_blob(checkpoint, &blob, &length, out); });
    Must("step", [&](qft_error** out) { return qft_checkpoint_get_step(checkpoint, &step, out); });
    if (length != sizeof(cursor)) std::exit(3);
    std::memcpy(&cursor, blob, length);
    qft_checkpoint_destroy(checkpoint);
    return step;
  }

  void Step() {
    int32_t tokens[kTokens];
    for (int t = 0; t < kTokens; ++t) {
      tokens[t] = static_cast<int32_t>((t * t + 7 * cursor + 3 * t) % kVocabulary);
    }
    ++cursor;
    qft_step_options options{};
    options.struct_size = sizeof(options);
    options.learning_rate = 1e-3;
    qft_batch batch{};
    batch.struct_size = sizeof(batch);
    batch.tokens = kTokens;
    batch.token_ids = tokens;
    Must("step", [&](qft_error** error) {
      return qft_session_step(session, &options, &batch, 1, nullptr, error);
    });
  }

  void Save(int64_t step) {
    Must("save", [&](qft_error** error) {
      return qft_session_save(session, folder.data(), folder.size(), &cursor, sizeof(cursor), 2,
                              error);
    });
    std::printf("saved %lld\n", static_cast<long long>(step));
    std::fflush(stdout);
  }

  void PrintHash() {
    char hash[33];
    Must("hash", [&](qft_error** error) {
      return qft_session_state_hash(session, hash, sizeof(hash), error);
    });
    std::printf("operations %lld\nhash %s\n",
                static_cast<long long>(qft::injection::FileOperations()), hash);
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 6) return 64;
  Run run;
  run.folder = argv[1];
  const int64_t steps = std::atoll(argv[2]);
  const int64_t every = std::atoll(argv[3]);
  run.Open(argv[4], argv[5]);
  int64_t step = run.Resume();
  std::printf("resumed %lld\n", static_cast<long long>(step));
  std::fflush(stdout);
  qft::injection::Start({.kill_after = argc > 6 ? std::atoll(argv[6]) : 0});
  if (step > 0) run.Save(step);  // over the checkpoint it comes from
  while (step < steps) {
    run.Step();
    if (++step % every == 0) run.Save(step);
  }
  run.PrintHash();
  qft_session_destroy(run.session);
  qft_config_destroy(run.config);
  qft_model_destroy(run.model);
  return 0;
}
