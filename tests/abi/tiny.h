/* A model of two layers with random weights and a session over it. */
#ifndef QFT_TESTS_ABI_TINY_H
#define QFT_TESTS_ABI_TINY_H

#include "harness.h"

#define TINY_VOCABULARY 64
#define TINY_TOKENS 32
#define TINY_CONFIG                                                                       \
  "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":64," \
  "\"hidden_size\":16,\"intermediate_size\":32,\"num_hidden_layers\":2,"                  \
  "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"rms_norm_eps\":1e-5,"            \
  "\"rope_theta\":10000.0,\"max_position_embeddings\":128,\"hidden_act\":\"silu\","       \
  "\"tie_word_embeddings\":true}"

typedef struct {
  qft_model* model;
  qft_config* config;
  qft_session* session;
  int32_t tokens[TINY_TOKENS];
  qft_batch batch;
  qft_step_options options;
} tiny;

/* 1 if all could be opened. `setting` is a key=value of the configuration or NULL. */
static inline int tiny_open(tiny* t, const char* setting) {
  const int before = g_failures;
  memset(t, 0, sizeof(*t));
  for (int i = 0; i < TINY_TOKENS; ++i) t->tokens[i] = (i * 7 + 3) % TINY_VOCABULARY;
  t->batch.struct_size = sizeof(t->batch);
  t->batch.tokens = TINY_TOKENS;
  t->batch.token_ids = t->tokens;
  t->options.struct_size = sizeof(t->options);
  t->options.learning_rate = 1e-3;
  EXPECT_OK(qft_model_create_random(TEXT(TINY_CONFIG), 7, &t->model, &error));
  EXPECT_OK(qft_config_create(&t->config, &error));
  EXPECT_OK(qft_config_set_int(t->config, TEXT("threads"), 2, &error));
  EXPECT_OK(qft_config_set_int(t->config, TEXT("micro_batch_tokens"), TINY_TOKENS, &error));
  EXPECT_OK(qft_config_set_int(t->config, TEXT("micro_batches"), 2, &error));
  if (setting != NULL) {
    const char* value = strchr(setting, '=') + 1;
    EXPECT_OK(qft_config_set_text(t->config, setting, (size_t)(value - 1 - setting), value,
                                  strlen(value), &error));
  }
  EXPECT_OK(qft_session_open(t->model, t->config, NULL, &t->session, &error));
  return g_failures == before;
}

static inline void tiny_close(tiny* t) {
  qft_session_destroy(t->session);
  qft_config_destroy(t->config);
  qft_model_destroy(t->model);
}

#endif
