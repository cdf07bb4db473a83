/* Misuse of model and session functions: NULL, struct sizes, ranges, order of calls. */
#include <math.h>
#include <stdlib.h>

#include "tiny.h"

/* A struct as a caller with a newer header would pass it. */
#define NEWER(type)      \
  struct {               \
    type known;          \
    uint64_t unknown[2]; \
  }

static void model_create(void) {
  qft_model* model = NULL;
  EXPECT_NULL_REFUSED(qft_model_create_random(TEXT(TINY_CONFIG), 1, NULL, &error));
  EXPECT_NULL_REFUSED(qft_model_create_random(NULL, 5, 1, &model, &error));
  EXPECT_CODE(QFT_ERROR_BAD_DATA, qft_model_create_random(NULL, 0, 1, &model, &error));
  EXPECT_CODE(QFT_ERROR_BAD_DATA, qft_model_create_random(TEXT("{"), 1, &model, &error));
  EXPECT_CODE(QFT_ERROR_BAD_DATA, qft_model_create_random(TEXT("[]"), 1, &model, &error));
  EXPECT_CODE(QFT_ERROR_UNSUPPORTED,
              qft_model_create_random(
                  TEXT("{\"architectures\":[\"MambaForCausalLM\"],\"model_type\":\"mamba\"}"), 1,
                  &model, &error));
  EXPECT_NULL_REFUSED(qft_model_load(NULL, 4, &model, &error));
  EXPECT_NULL_REFUSED(qft_model_load(TEXT(""), &model, &error));
  EXPECT_NULL_REFUSED(qft_model_load(TEXT("a\0b"), &model, &error));
  EXPECT_NULL_REFUSED(qft_model_load(TEXT("\xff\xfe"), &model, &error));
  EXPECT_NULL_REFUSED(qft_model_load(TEXT("/"), NULL, &error));
  EXPECT_CODE(QFT_ERROR_FILE_NOT_FOUND, qft_model_load(TEXT("/nowhere/model"), &model, &error));
  EXPECT(model == NULL);
  qft_model_destroy(NULL);
}

static void model_queries(void) {
  tiny t;
  int64_t count = 0;
  int64_t index = -1;
  size_t needed = 0;
  char json[2048];
  NEWER(qft_tensor_info) info;
  if (!tiny_open(&t, NULL)) return;
  EXPECT_OK(qft_model_get_tensor_count(t.model, &count, &error));
  EXPECT(count > 0);
  EXPECT_NULL_REFUSED(qft_model_get_tensor_count(NULL, &count, &error));
  EXPECT_NULL_REFUSED(qft_model_get_tensor_count(t.model, NULL, &error));

  memset(&info, 0xff, sizeof(info));
  info.known.struct_size = sizeof(qft_tensor_info);
  EXPECT_OK(qft_model_get_tensor_info(t.model, count - 1, &info.known, &error));
  EXPECT(info.known.rows > 0 && info.known.cols > 0 && info.known.name[0] != '\0');
  EXPECT_OK(
      qft_model_find_tensor(t.model, info.known.name, strlen(info.known.name), &index, &error));
  EXPECT(index == count - 1);
  EXPECT_NULL_REFUSED(qft_model_get_tensor_info(NULL, 0, &info.known, &error));
  EXPECT_NULL_REFUSED(qft_model_get_tensor_info(t.model, 0, NULL, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_model_get_tensor_info(t.model, -1, &info.known, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_model_get_tensor_info(t.model, count, &info.known, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_model_get_tensor_info(t.model, INT64_MAX, &info.known, &error));
  info.known.struct_size = 0;
  EXPECT_CODE(QFT_ERROR_STRUCT_SIZE, qft_model_get_tensor_info(t.model, 0, &info.known, &error));
  info.known.struct_size = UINT64_MAX;
  EXPECT_CODE(QFT_ERROR_STRUCT_SIZE, qft_model_get_tensor_info(t.model, 0, &info.known, &error));
  info.known.struct_size = sizeof(info);
  EXPECT_OK(qft_model_get_tensor_info(t.model, 0, &info.known, &error));
  EXPECT(info.known.struct_size == sizeof(info) && info.unknown[1] == 0);
  info.known.struct_size = 16; /* only the name fits */
  info.known.rows = -9;
  EXPECT_OK(qft_model_get_tensor_info(t.model, 0, &info.known, &error));
  EXPECT(info.known.rows == -9);

  EXPECT_NULL_REFUSED(qft_model_find_tensor(NULL, TEXT("x"), &index, &error));
  EXPECT_NULL_REFUSED(qft_model_find_tensor(t.model, NULL, 1, &index, &error));
  EXPECT_NULL_REFUSED(qft_model_find_tensor(t.model, TEXT("x"), NULL, &error));
  EXPECT_CODE(QFT_ERROR_NOT_FOUND, qft_model_find_tensor(t.model, TEXT("x"), &index, &error));
  EXPECT_CODE(QFT_ERROR_NOT_FOUND, qft_model_find_tensor(t.model, NULL, 0, &index, &error));
  EXPECT(index == count - 1);
  EXPECT_NULL_REFUSED(qft_model_config_json(NULL, json, sizeof(json), &needed, &error));
  EXPECT_NULL_REFUSED(qft_model_config_json(t.model, NULL, 1, &needed, &error));
  EXPECT_NULL_REFUSED(qft_model_config_json(t.model, json, sizeof(json), NULL, &error));
  EXPECT_OK(qft_model_config_json(t.model, json, sizeof(json), &needed, &error));
  EXPECT(needed == strlen(json) && strstr(json, "\"hidden_size\"") != NULL);
  tiny_close(&t);
}

static int g_user_destroyed;
static void count_destroy(void* user) {
  *(int*)user += 1;
}

static void session_open(void) {
  tiny t;
  qft_session* session = NULL;
  qft_session_options options;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  options.user = &g_user_destroyed;
  options.destroy_user = count_destroy;
  if (!tiny_open(&t, NULL)) return;
  EXPECT_NULL_REFUSED(qft_session_open(NULL, t.config, NULL, &session, &error));
  EXPECT_NULL_REFUSED(qft_session_open(t.model, NULL, NULL, &session, &error));
  EXPECT_NULL_REFUSED(qft_session_open(t.model, t.config, NULL, NULL, &error));
  EXPECT_NULL_REFUSED(
      qft_session_open((qft_model*)(void*)t.config, t.config, NULL, &session, &error));
  EXPECT_NULL_REFUSED(
      qft_session_open(t.model, (qft_config*)(void*)t.model, NULL, &session, &error));
  options.struct_size = 4;
  EXPECT_CODE(QFT_ERROR_STRUCT_SIZE,
              qft_session_open(t.model, t.config, &options, &session, &error));
  EXPECT(g_user_destroyed == 0);
  options.struct_size = sizeof(options);
  EXPECT_OK(qft_session_open(t.model, t.config, &options, &session, &error));
  EXPECT(g_user_destroyed == 0);
  qft_session_destroy(session);
  qft_session_destroy(session);
  EXPECT(g_user_destroyed == 1);
  session = NULL;

  EXPECT_OK(qft_config_add_group(t.config, TEXT("no.such.*"), 1.0, -1.0, 0, &error));
  EXPECT_CODE(QFT_ERROR_NOT_FOUND, qft_session_open(t.model, t.config, NULL, &session, &error));
  EXPECT(session == NULL);
  qft_session_destroy(NULL);

  /* The session outlives what it was opened from. */
  qft_model_destroy(t.model);
  qft_config_destroy(t.config);
  EXPECT_CODE(QFT_ERROR_STALE, qft_session_open(t.model, t.config, NULL, &session, &error));
  EXPECT_OK(qft_session_step(t.session, &t.options, &t.batch, 1, NULL, &error));
  tiny_close(&t);
}

static void unsupported_engine(void) {
  tiny t;
  qft_session* session = NULL;
  if (!tiny_open(&t, NULL)) return;
  EXPECT_OK(qft_config_set_string(t.config, TEXT("engine"), TEXT("cuda"), &error));
  EXPECT_CODE(QFT_ERROR_UNSUPPORTED, qft_session_open(t.model, t.config, NULL, &session, &error));
  tiny_close(&t);
}

static void session_nulls(void) {
  tiny t;
  float values[TINY_TOKENS * TINY_VOCABULARY];
  char text[64];
  size_t needed = 0;
  qft_eval_result evaluated;
  qft_session_metrics metrics;
  qft_device_report device;
  memset(&evaluated, 0, sizeof(evaluated));
  memset(&metrics, 0, sizeof(metrics));
  evaluated.struct_size = sizeof(evaluated);
  metrics.struct_size = sizeof(metrics);
  memset(&device, 0, sizeof(device));
  device.struct_size = sizeof(device);
  if (!tiny_open(&t, NULL)) return;
  EXPECT_NULL_REFUSED(qft_session_check_learning_rate(NULL, 1e-3, &error));
  EXPECT_NULL_REFUSED(qft_session_begin_step(NULL, &t.options, &error));
  EXPECT_NULL_REFUSED(qft_session_begin_step(t.session, NULL, &error));
  EXPECT_NULL_REFUSED(qft_session_accumulate(NULL, &t.batch, 1, &error));
  EXPECT_NULL_REFUSED(qft_session_accumulate(t.session, NULL, 1, &error));
  EXPECT_NULL_REFUSED(qft_session_end_step(NULL, NULL, &error));
  EXPECT_NULL_REFUSED(qft_session_abandon_step(NULL, &error));
  EXPECT_NULL_REFUSED(qft_session_step(NULL, &t.options, &t.batch, 1, NULL, &error));
  EXPECT_NULL_REFUSED(qft_session_step(t.session, NULL, &t.batch, 1, NULL, &error));
  EXPECT_NULL_REFUSED(qft_session_step(t.session, &t.options, NULL, 1, NULL, &error));
  EXPECT_NULL_REFUSED(qft_session_evaluate(NULL, &t.batch, 1, &evaluated, NULL, &error));
  EXPECT_NULL_REFUSED(qft_session_evaluate(t.session, NULL, 1, &evaluated, NULL, &error));
  EXPECT_NULL_REFUSED(qft_session_evaluate(t.session, &t.batch, 1, NULL, NULL, &error));
  EXPECT_NULL_REFUSED(qft_session_forward(NULL, &t.batch, QFT_OUTPUT_LOGITS, values,
                                          TINY_TOKENS * TINY_VOCABULARY, &error));
  EXPECT_NULL_REFUSED(qft_session_forward(t.session, NULL, QFT_OUTPUT_LOGITS, values,
                                          TINY_TOKENS * TINY_VOCABULARY, &error));
  EXPECT_NULL_REFUSED(qft_session_forward(t.session, &t.batch, QFT_OUTPUT_LOGITS, NULL,
                                          TINY_TOKENS * TINY_VOCABULARY, &error));
  EXPECT_NULL_REFUSED(
      qft_session_forward(t.session, &t.batch, 9, values, TINY_TOKENS * TINY_VOCABULARY, &error));
  EXPECT_CODE(QFT_ERROR_SHAPE, qft_session_forward(t.session, &t.batch, QFT_OUTPUT_LOGITS, values,
                                                   TINY_TOKENS * TINY_VOCABULARY - 1, &error));
  EXPECT_OK(qft_session_forward(t.session, &t.batch, QFT_OUTPUT_LOGITS, values,
                                TINY_TOKENS * TINY_VOCABULARY, &error));
  EXPECT_NULL_REFUSED(qft_session_get_metrics(NULL, &metrics, &error));
  EXPECT_NULL_REFUSED(qft_session_get_metrics(t.session, NULL, &error));
  EXPECT_NULL_REFUSED(qft_session_get_device(NULL, &device, &error));
  EXPECT_NULL_REFUSED(qft_session_get_device(t.session, NULL, &error));
  EXPECT_NULL_REFUSED(qft_session_plan_json(NULL, text, sizeof(text), &needed, &error));
  EXPECT_NULL_REFUSED(qft_session_plan_json(t.session, NULL, 4, &needed, &error));
  EXPECT_NULL_REFUSED(qft_session_plan_json(t.session, text, sizeof(text), NULL, &error));
  EXPECT_NULL_REFUSED(qft_session_state_hash(NULL, text, sizeof(text), &error));
  EXPECT_NULL_REFUSED(qft_session_state_hash(t.session, NULL, 33, &error));
  {
    qft_error* error = NULL;
    EXPECT(qft_session_state_hash(t.session, text, 32, &error) != QFT_OK);
    qft_error_destroy(error);
  }
  EXPECT_OK(qft_session_state_hash(t.session, text, 33, &error));
  EXPECT(strlen(text) == 32);
  tiny_close(&t);
}

static void order_of_calls(void) {
  tiny t;
  qft_step_result result;
  qft_eval_result evaluated;
  char before[33];
  char after[33];
  memset(&result, 0, sizeof(result));
  memset(&evaluated, 0, sizeof(evaluated));
  result.struct_size = sizeof(result);
  evaluated.struct_size = sizeof(evaluated);
  if (!tiny_open(&t, NULL)) return;
  EXPECT_CODE(QFT_ERROR_STATE, qft_session_accumulate(t.session, &t.batch, 1, &error));
  EXPECT_CODE(QFT_ERROR_STATE, qft_session_end_step(t.session, &result, &error));
  EXPECT_CODE(QFT_ERROR_STATE, qft_session_abandon_step(t.session, &error));
  EXPECT_OK(qft_session_state_hash(t.session, before, sizeof(before), &error));
  EXPECT_OK(qft_session_begin_step(t.session, &t.options, &error));
  EXPECT_CODE(QFT_ERROR_STATE, qft_session_begin_step(t.session, &t.options, &error));
  EXPECT_CODE(QFT_ERROR_STATE,
              qft_session_step(t.session, &t.options, &t.batch, 1, &result, &error));
  EXPECT_OK(qft_session_accumulate(t.session, &t.batch, 1, &error));
  EXPECT_OK(qft_session_abandon_step(t.session, &error));
  EXPECT_OK(qft_session_state_hash(t.session, after, sizeof(after), &error));
  EXPECT(strcmp(before, after) == 0);

  /* A refused evaluation leaves the open step as it is. */
  EXPECT_OK(qft_session_begin_step(t.session, &t.options, &error));
  EXPECT_OK(qft_session_accumulate(t.session, &t.batch, 1, &error));
  EXPECT_CODE(QFT_ERROR_STATE,
              qft_session_evaluate(t.session, &t.batch, 1, &evaluated, NULL, &error));
  EXPECT_OK(qft_session_end_step(t.session, &result, &error));
  EXPECT(result.step == 1 && result.tokens == TINY_TOKENS && result.skipped == 0);
  EXPECT(result.loss_weight == TINY_TOKENS - 1);
  EXPECT(result.codes_changed > 0);
  EXPECT_OK(qft_session_evaluate(t.session, &t.batch, 1, &evaluated, NULL, &error));
  EXPECT(evaluated.tokens == TINY_TOKENS && evaluated.loss > 0);
  tiny_close(&t);
}

static void step_structs(void) {
  tiny t;
  NEWER(qft_step_options) options;
  NEWER(qft_step_result) result;
  char before[33];
  char after[33];
  memset(&options, 0, sizeof(options));
  memset(&result, 0xff, sizeof(result));
  if (!tiny_open(&t, NULL)) return;
  options.known.learning_rate = 1e-3;
  options.known.struct_size = sizeof(options);
  result.known.struct_size = sizeof(result);
  EXPECT_OK(qft_session_step(t.session, &options.known, &t.batch, 1, &result.known, &error));
  EXPECT(result.known.step == 1 && result.unknown[0] == 0 && result.unknown[1] == 0);
  options.unknown[1] = 1;
  EXPECT_CODE(QFT_ERROR_STRUCT_SIZE,
              qft_session_step(t.session, &options.known, &t.batch, 1, NULL, &error));
  options.known.struct_size = 16; /* the learning rate and no more */
  EXPECT_OK(qft_session_step(t.session, &options.known, &t.batch, 1, NULL, &error));
  options.known.struct_size = 7;
  EXPECT_CODE(QFT_ERROR_STRUCT_SIZE,
              qft_session_step(t.session, &options.known, &t.batch, 1, NULL, &error));

  /* A result that can't be written is refused before anything has happened. */
  EXPECT_OK(qft_session_state_hash(t.session, before, sizeof(before), &error));
  result.known.struct_size = 0;
  EXPECT_CODE(QFT_ERROR_STRUCT_SIZE,
              qft_session_step(t.session, &t.options, &t.batch, 1, &result.known, &error));
  EXPECT_OK(qft_session_state_hash(t.session, after, sizeof(after), &error));
  EXPECT(strcmp(before, after) == 0);
  EXPECT_OK(qft_session_begin_step(t.session, &t.options, &error));
  EXPECT_OK(qft_session_abandon_step(t.session, &error));
  tiny_close(&t);
}

static void step_ranges(void) {
  tiny t;
  const double factor = 1.0;
  const double bad[] = {-1e-3, 2.0, NAN, INFINITY};
  if (!tiny_open(&t, NULL)) return;
  for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); ++i) {
    t.options.learning_rate = bad[i];
    EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_session_begin_step(t.session, &t.options, &error));
    EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_session_check_learning_rate(t.session, bad[i], &error));
  }
  t.options.learning_rate = 1e-3;
  t.options.loss_normalizer = -1;
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_session_begin_step(t.session, &t.options, &error));
  t.options.loss_normalizer = NAN;
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_session_begin_step(t.session, &t.options, &error));
  t.options.loss_normalizer = 0;
  t.options.group_count = 1;
  EXPECT_NULL_REFUSED(qft_session_begin_step(t.session, &t.options, &error));
  t.options.group_factors = &factor;
  EXPECT_CODE(QFT_ERROR_SHAPE, qft_session_begin_step(t.session, &t.options, &error));
  t.options.group_count = -1;
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_session_begin_step(t.session, &t.options, &error));
  tiny_close(&t);
}

static void plans(void) {
  tiny t;
  qft_plan* plan = NULL;
  qft_config* config = NULL;
  NEWER(qft_plan_options) options;
  const char* json = NULL;
  size_t length = 0;
  memset(&options, 0, sizeof(options));
  options.known.struct_size = sizeof(options);
  options.known.device = "h100-80gb";
  options.known.device_length = 9;
  if (!tiny_open(&t, NULL)) return;
  EXPECT(strstr(qft_plan_describe_devices(), "\"h100-80gb\"") != NULL);
  EXPECT_OK(qft_config_create(&config, &error));
  EXPECT_NULL_REFUSED(qft_plan_create(NULL, config, NULL, &plan, &error));
  EXPECT_NULL_REFUSED(qft_plan_create(t.model, NULL, NULL, &plan, &error));
  EXPECT_NULL_REFUSED(qft_plan_create(t.model, config, NULL, NULL, &error));
  EXPECT_NULL_REFUSED(qft_plan_create(t.model, config, &options.known, &plan, &error));
  EXPECT_OK(qft_config_set_text(config, TEXT("engine"), TEXT("cuda"), &error));
  options.unknown[0] = 1;
  EXPECT_CODE(QFT_ERROR_STRUCT_SIZE,
              qft_plan_create(t.model, config, &options.known, &plan, &error));
  options.unknown[0] = 0;
  options.known.device_length = 8;
  EXPECT_CODE(QFT_ERROR_NOT_FOUND, qft_plan_create(t.model, config, &options.known, &plan, &error));
  EXPECT(plan == NULL);
  options.known.device_length = 9;
  EXPECT_OK(qft_plan_create(t.model, config, &options.known, &plan, &error));
  EXPECT_NULL_REFUSED(qft_plan_get_json(NULL, &json, &length, &error));
  EXPECT_NULL_REFUSED(qft_plan_get_json(plan, NULL, &length, &error));
  EXPECT_NULL_REFUSED(qft_plan_get_json(plan, &json, NULL, &error));
  EXPECT_OK(qft_plan_get_json(plan, &json, &length, &error));
  EXPECT(strlen(json) == length && strstr(json, "\"fits\":true") != NULL);
  qft_plan_destroy(plan);
  qft_plan_destroy(plan);
  qft_plan_destroy(NULL);
  EXPECT_CODE(QFT_ERROR_STALE, qft_plan_get_json(plan, &json, &length, &error));
  qft_config_destroy(config);
  tiny_close(&t);
}

/* The error of a step with this batch, which must leave no step open. */
#define EXPECT_BATCH(code, change, undo)                                                       \
  do {                                                                                         \
    change;                                                                                    \
    EXPECT_CODE(code, qft_session_step(t.session, &t.options, &t.batch, 1, NULL, &error));     \
    EXPECT_CODE(code, qft_session_evaluate(t.session, &t.batch, 1, &evaluated, NULL, &error)); \
    undo;                                                                                      \
  } while (0)

static void batches(void) {
  tiny t;
  qft_batch many[3];
  qft_eval_result evaluated;
  int32_t targets[TINY_TOKENS] = {0};
  float weights[TINY_TOKENS] = {0};
  memset(&evaluated, 0, sizeof(evaluated));
  evaluated.struct_size = sizeof(evaluated);
  if (!tiny_open(&t, NULL)) return;
  EXPECT_BATCH(QFT_ERROR_OUT_OF_RANGE, t.batch.tokens = 0, t.batch.tokens = TINY_TOKENS);
  EXPECT_BATCH(QFT_ERROR_OUT_OF_RANGE, t.batch.tokens = -1, t.batch.tokens = TINY_TOKENS);
  EXPECT_BATCH(QFT_ERROR_OUT_OF_RANGE, t.batch.tokens = TINY_TOKENS + 1,
               t.batch.tokens = TINY_TOKENS);
  EXPECT_BATCH(QFT_ERROR_OUT_OF_RANGE, t.batch.tokens = INT64_MAX, t.batch.tokens = TINY_TOKENS);
  EXPECT_BATCH(QFT_ERROR_INVALID_ARGUMENT, t.batch.token_ids = NULL, t.batch.token_ids = t.tokens);
  EXPECT_BATCH(QFT_ERROR_OUT_OF_RANGE, t.tokens[5] = -1, t.tokens[5] = 5);
  EXPECT_BATCH(QFT_ERROR_OUT_OF_RANGE, t.tokens[5] = TINY_VOCABULARY, t.tokens[5] = 5);
  t.batch.targets = targets;
  EXPECT_BATCH(QFT_ERROR_OUT_OF_RANGE, targets[31] = -2, targets[31] = -1);
  EXPECT_BATCH(QFT_ERROR_OUT_OF_RANGE, targets[31] = TINY_VOCABULARY, targets[31] = -1);
  t.batch.loss_weights = weights;
  EXPECT_BATCH(QFT_ERROR_OUT_OF_RANGE, weights[0] = -1.0f, weights[0] = 0.0f);
  EXPECT_BATCH(QFT_ERROR_OUT_OF_RANGE, weights[0] = NAN, weights[0] = 0.0f);
  EXPECT_BATCH(QFT_ERROR_OUT_OF_RANGE, weights[0] = INFINITY, weights[0] = 0.0f);
  EXPECT_BATCH(QFT_ERROR_STRUCT_SIZE, t.batch.struct_size = 0,
               t.batch.struct_size = sizeof(t.batch));

  many[0] = many[1] = many[2] = t.batch;
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_session_step(t.session, &t.options, many, 3, NULL, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_session_step(t.session, &t.options, many, 0, NULL, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_session_step(t.session, &t.options, many, -1, NULL, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_session_evaluate(t.session, many, INT64_MAX, &evaluated, NULL, &error));
  many[1].struct_size = 16;
  EXPECT_CODE(QFT_ERROR_STRUCT_SIZE,
              qft_session_step(t.session, &t.options, many, 2, NULL, &error));
  many[1].struct_size = sizeof(many[1]);
  EXPECT_OK(qft_session_step(t.session, &t.options, many, 2, NULL, &error));
  tiny_close(&t);
}

int main(int argc, char** argv) {
  RUN(model_create);
  RUN(model_queries);
  RUN(session_open);
  RUN(unsupported_engine);
  RUN(session_nulls);
  RUN(plans);
  RUN(order_of_calls);
  RUN(step_structs);
  RUN(step_ranges);
  RUN(batches);
  FINISH();
}
