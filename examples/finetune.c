/* Fine-tunes a model through the C interface: load, train, evaluate, save, export.
 *
 *   finetune MODEL DATA OUTPUT [STEPS]
 *
 * MODEL   a Hugging Face folder or a GGUF file
 * DATA    JSON lines, each {"text": ...} or {"prompt": ..., "completion": ...}
 * OUTPUT  a new folder: OUTPUT/checkpoints and OUTPUT/export are written
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qft_c.h"
#include "qft_data.h"

enum { kBatchTokens = 512 };
static const double kLearningRate = 2e-5;

/* Everything the program holds, so that one place can give it back. NULL handles are fine to
 * destroy. */
typedef struct Run {
  qft_config* config;
  qft_model* model;
  qft_tokenizer* tokenizer;
  qft_dataset* dataset;
  qft_session* session;
} Run;

/* Reports a failed call, if it failed, and frees its error. Non-zero: it failed. */
static int Failed(const char* what, qft_status status, qft_error* error) {
  if (status == QFT_OK) return 0;
  fprintf(stderr, "%s: %s (%s)\n", what, qft_error_message(error), qft_status_name(status));
  qft_error_destroy(error);
  return 1;
}

static int OpenData(Run* run, const char* model_path, const char* data_path) {
  qft_error* error = NULL;
  qft_dataset_options options = {0};
  qft_status status = qft_tokenizer_load(model_path, strlen(model_path), &run->tokenizer, &error);
  if (Failed("tokenizer", status, error)) return 1;
  options.struct_size = sizeof(options);
  options.batch_tokens = kBatchTokens;
  options.held_out_share = 0.1;
  status = qft_dataset_open(data_path, strlen(data_path), run->tokenizer, &options, &run->dataset,
                            &error);
  return Failed("data", status, error);
}

static int OpenSession(Run* run, const char* model_path) {
  static const char kKey[] = "micro_batch_tokens";
  qft_error* error = NULL;
  qft_status status = qft_model_load(model_path, strlen(model_path), &run->model, &error);
  if (Failed("model", status, error)) return 1;
  status = qft_config_create(&run->config, &error);
  if (Failed("configuration", status, error)) return 1;
  status = qft_config_set_int(run->config, kKey, strlen(kKey), kBatchTokens, &error);
  if (Failed("configuration", status, error)) return 1;
  status = qft_session_open(run->model, run->config, NULL, &run->session, &error);
  return Failed("session", status, error);
}

/* Prints the loss over the held-out batches. */
static int Evaluate(Run* run, const char* when) {
  qft_error* error = NULL;
  qft_dataset_info info = {0};
  double loss_sum = 0;
  double weight_sum = 0;
  int64_t i;
  qft_status status;
  info.struct_size = sizeof(info);
  status = qft_dataset_get_info(run->dataset, &info, &error);
  if (Failed("data", status, error)) return 1;
  for (i = 0; i < info.batches_held_out; ++i) {
    qft_batch batch = {0};
    qft_eval_result result = {0};
    batch.struct_size = sizeof(batch);
    result.struct_size = sizeof(result);
    status = qft_dataset_get_held_out(run->dataset, i, &batch, &error);
    if (Failed("held-out data", status, error)) return 1;
    status = qft_session_evaluate(run->session, &batch, 1, &result, NULL, &error);
    if (Failed("evaluation", status, error)) return 1;
    loss_sum += result.loss * result.loss_weight;
    weight_sum += result.loss_weight;
  }
  if (weight_sum > 0) printf("held-out loss %s: %.4f\n", when, loss_sum / weight_sum);
  return 0;
}

static int Train(Run* run, int64_t steps) {
  qft_error* error = NULL;
  qft_schedule schedule = {0};
  int64_t step;
  schedule.struct_size = sizeof(schedule);
  schedule.kind = QFT_SCHEDULE_COSINE;
  schedule.peak = kLearningRate;
  schedule.minimum_share = 0.1;
  schedule.steps = steps;
  for (step = 0; step < steps; ++step) {
    qft_batch batch = {0};
    qft_step_options options = {0};
    qft_step_result result = {0};
    qft_status status;
    batch.struct_size = sizeof(batch);
    options.struct_size = sizeof(options);
    result.struct_size = sizeof(result);
    status = qft_schedule_get(&schedule, step, &options.learning_rate, &error);
    if (Failed("schedule", status, error)) return 1;
    status = qft_dataset_next(run->dataset, &batch, 1, &error);
    if (Failed("data", status, error)) return 1;
    status = qft_session_step(run->session, &options, &batch, 1, &result, &error);
    if (Failed("step", status, error)) return 1;
    printf("step %lld: loss %.4f, %lld of %lld codes changed\n", (long long)result.step,
           result.loss, (long long)result.codes_changed, (long long)result.codes_total);
  }
  return 0;
}

/* OUTPUT/name into path. Non-zero: too long. */
static int Join(char* path, size_t capacity, const char* folder, const char* name) {
  const int length = snprintf(path, capacity, "%s/%s", folder, name);
  return length < 0 || (size_t)length >= capacity;
}

static int SaveAndExport(Run* run, const char* output) {
  char path[4096];
  qft_error* error = NULL;
  qft_status status;
  if (Join(path, sizeof(path), output, "checkpoints")) return 1;
  status = qft_session_save(run->session, path, strlen(path), NULL, 0, 1, &error);
  if (Failed("checkpoint", status, error)) return 1;
  if (Join(path, sizeof(path), output, "export")) return 1;
  status = qft_export(run->session, run->model, run->tokenizer, path, strlen(path), &error);
  return Failed("export", status, error);
}

int main(int argc, char** argv) {
  Run run = {NULL, NULL, NULL, NULL, NULL};
  qft_error* error = NULL;
  qft_status status;
  int64_t steps;
  int failed;
  if (argc < 4 || argc > 5) {
    fprintf(stderr, "usage: %s MODEL DATA OUTPUT [STEPS]\n", argv[0]);
    return 2;
  }
  steps = argc == 5 ? strtoll(argv[4], NULL, 10) : 20;
  status = qft_check_abi(QFT_ABI_VERSION, &error);
  if (Failed("library", status, error)) return 1;
  failed = OpenData(&run, argv[1], argv[2]) || OpenSession(&run, argv[1]) ||
           Evaluate(&run, "before") || Train(&run, steps) || Evaluate(&run, "after") ||
           SaveAndExport(&run, argv[3]);
  qft_session_destroy(run.session);
  qft_dataset_destroy(run.dataset);
  qft_tokenizer_destroy(run.tokenizer);
  qft_model_destroy(run.model);
  qft_config_destroy(run.config);
  return failed;
}
