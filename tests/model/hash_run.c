/* Trains a tiny random model for some steps and prints the hash of all states: run natively and
 * under valgrind (which has no AVX-512 and no VNNI) the two must print the same. */
#include <stdio.h>
#include <string.h>

#include "qft_c.h"

#define TOKENS 96
#define VOCABULARY 300

static const char kConfig[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"vocab_size\": 300,"
    " \"hidden_size\": 64, \"intermediate_size\": 160, \"num_hidden_layers\": 2,"
    " \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"max_position_embeddings\": 128,"
    " \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"tie_word_embeddings\": true,"
    " \"hidden_act\": \"silu\"}";

static int Fail(const char* what, qft_error* error) {
  fprintf(stderr, "%s: %s\n", what, qft_error_message(error));
  qft_error_destroy(error);
  return 1;
}

static int Train(qft_session* session) {
  int32_t tokens[TOKENS];
  int32_t documents[TOKENS];
  qft_step_options options;
  qft_batch batch;
  qft_error* error = NULL;
  int step;
  int t;
  memset(&options, 0, sizeof(options));
  memset(&batch, 0, sizeof(batch));
  options.struct_size = sizeof(options);
  options.learning_rate = 1e-3;
  batch.struct_size = sizeof(batch);
  batch.tokens = TOKENS;
  batch.token_ids = tokens;
  batch.document_ids = documents;
  for (step = 0; step < 4; ++step) {
    for (t = 0; t < TOKENS; ++t) {
      tokens[t] = (t * t + 7 * step + 3 * t) % VOCABULARY;
      documents[t] = t / 37;
    }
    if (qft_session_step(session, &options, &batch, 1, NULL, &error) != QFT_OK) {
      return Fail("step", error);
    }
  }
  return 0;
}

int main(void) {
  qft_config* config = NULL;
  qft_model* model = NULL;
  qft_session* session = NULL;
  qft_error* error = NULL;
  char hash[33];
  int failed;
  if (qft_model_create_random(kConfig, strlen(kConfig), 5, &model, &error) != QFT_OK) {
    return Fail("model", error);
  }
  if (qft_config_create(&config, &error) != QFT_OK) return Fail("config", error);
  if (qft_config_set_int(config, "micro_batch_tokens", 18, TOKENS, &error) != QFT_OK ||
      qft_config_set_int(config, "threads", 7, 2, &error) != QFT_OK) {
    return Fail("config", error);
  }
  if (qft_session_open(model, config, NULL, &session, &error) != QFT_OK) {
    return Fail("session", error);
  }
  failed = Train(session);
  if (!failed && qft_session_state_hash(session, hash, sizeof(hash), &error) != QFT_OK) {
    failed = Fail("hash", error);
  }
  if (!failed) printf("%s\n", hash);
  qft_session_destroy(session);
  qft_model_destroy(model);
  qft_config_destroy(config);
  return failed;
}
