/* Misuse of tensor, decoder and checkpoint functions; destroyed, foreign and inherited handles; use
 * by several threads at once. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tiny.h"

#define EMBEDDING_VALUES (TINY_VOCABULARY * 16)

static qft_tensor_view embedding_view(void* data, int32_t dtype) {
  qft_tensor_view view;
  memset(&view, 0, sizeof(view));
  view.struct_size = sizeof(view);
  view.data = data;
  view.dtype = dtype;
  view.dimensions = 2;
  view.shape[0] = TINY_VOCABULARY;
  view.shape[1] = 16;
  return view;
}

#define EXPECT_VIEW(code, change)                                                                  \
  do {                                                                                             \
    qft_tensor_view view = embedding_view(values, QFT_DTYPE_F32);                                  \
    change;                                                                                        \
    EXPECT_CODE(code, qft_tensor_read(t.session, index, QFT_TENSOR_WEIGHT, &view, NULL, &error));  \
    EXPECT_CODE(code, qft_tensor_write(t.session, index, QFT_TENSOR_WEIGHT, &view, NULL, &error)); \
  } while (0)

static void tensors(void) {
  tiny t;
  float values[EMBEDDING_VALUES];
  int64_t index = -1;
  qft_tensor_view good = embedding_view(values, QFT_DTYPE_F32);
  qft_stream stream;
  memset(&stream, 0, sizeof(stream));
  stream.struct_size = sizeof(stream);
  if (!tiny_open(&t, NULL)) return;
  EXPECT_OK(qft_model_find_tensor(t.model, TEXT("model.embed_tokens.weight"), &index, &error));
  EXPECT_OK(qft_tensor_read(t.session, index, QFT_TENSOR_WEIGHT, &good, NULL, &error));
  EXPECT_OK(qft_tensor_write(t.session, index, QFT_TENSOR_WEIGHT, &good, &stream, &error));
  EXPECT_NULL_REFUSED(qft_tensor_read(NULL, index, QFT_TENSOR_WEIGHT, &good, NULL, &error));
  EXPECT_NULL_REFUSED(qft_tensor_read(t.session, index, QFT_TENSOR_WEIGHT, NULL, NULL, &error));
  EXPECT_NULL_REFUSED(qft_tensor_write(NULL, index, QFT_TENSOR_WEIGHT, &good, NULL, &error));
  EXPECT_NULL_REFUSED(qft_tensor_write(t.session, index, QFT_TENSOR_WEIGHT, NULL, NULL, &error));
  EXPECT_NULL_REFUSED(qft_tensor_read(t.session, index, 17, &good, NULL, &error));
  EXPECT_NULL_REFUSED(qft_tensor_write(t.session, index, -1, &good, NULL, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_tensor_read(t.session, -1, QFT_TENSOR_WEIGHT, &good, NULL, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_tensor_write(t.session, 1000, QFT_TENSOR_WEIGHT, &good, NULL, &error));
  EXPECT_VIEW(QFT_ERROR_INVALID_ARGUMENT, view.data = NULL);
  EXPECT_VIEW(QFT_ERROR_SHAPE, view.shape[0] = TINY_VOCABULARY - 1);
  EXPECT_VIEW(QFT_ERROR_SHAPE, view.shape[1] = INT64_MAX);
  EXPECT_VIEW(QFT_ERROR_SHAPE, view.dimensions = 3);
  EXPECT_VIEW(QFT_ERROR_SHAPE, view.dimensions = 0);
  EXPECT_VIEW(QFT_ERROR_SHAPE, view.shape[0] = -64; view.shape[1] = -16);
  EXPECT_VIEW(QFT_ERROR_UNSUPPORTED, view.strides[0] = 17; view.strides[1] = 1);
  EXPECT_VIEW(QFT_ERROR_UNSUPPORTED, view.device = QFT_DEVICE_CUDA);
  EXPECT_VIEW(QFT_ERROR_UNSUPPORTED, view.dtype = QFT_DTYPE_I32);
  EXPECT_VIEW(QFT_ERROR_UNSUPPORTED, view.dtype = 99);
  EXPECT_VIEW(QFT_ERROR_STRUCT_SIZE, view.struct_size = 3);
  stream.kind = QFT_STREAM_LEGACY;
  EXPECT_CODE(QFT_ERROR_UNSUPPORTED,
              qft_tensor_read(t.session, index, QFT_TENSOR_WEIGHT, &good, &stream, &error));
  stream.struct_size = 1;
  EXPECT_CODE(QFT_ERROR_STRUCT_SIZE,
              qft_tensor_read(t.session, index, QFT_TENSOR_WEIGHT, &good, &stream, &error));
  EXPECT_CODE(QFT_ERROR_STATE,
              qft_tensor_read(t.session, index, QFT_TENSOR_GRADIENT, &good, NULL, &error));
  values[3] = NAN;
  EXPECT_CODE(QFT_ERROR_BAD_DATA,
              qft_tensor_write(t.session, index, QFT_TENSOR_WEIGHT, &good, NULL, &error));
  EXPECT_CODE(QFT_ERROR_BAD_DATA,
              qft_tensor_write(t.session, index, QFT_TENSOR_MOMENTUM, &good, NULL, &error));
  tiny_close(&t);
}

static void decoders(void) {
  tiny t;
  qft_decoder* decoder = NULL;
  float logits[TINY_VOCABULARY];
  int32_t token = 5;
  if (!tiny_open(&t, NULL)) return;
  EXPECT_NULL_REFUSED(qft_decoder_open(NULL, 8, &decoder, &error));
  EXPECT_NULL_REFUSED(qft_decoder_open(t.session, 8, NULL, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_decoder_open(t.session, 0, &decoder, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_decoder_open(t.session, -1, &decoder, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_decoder_open(t.session, INT64_MAX, &decoder, &error));
  EXPECT_OK(qft_decoder_open(t.session, 2, &decoder, &error));
  EXPECT_NULL_REFUSED(qft_decoder_feed(NULL, &token, 1, logits, TINY_VOCABULARY, &error));
  EXPECT_NULL_REFUSED(qft_decoder_feed(decoder, NULL, 1, logits, TINY_VOCABULARY, &error));
  EXPECT_NULL_REFUSED(qft_decoder_reset(NULL, &error));
  EXPECT_CODE(QFT_ERROR_SHAPE,
              qft_decoder_feed(decoder, &token, 1, logits, TINY_VOCABULARY - 1, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_decoder_feed(decoder, &token, 0, logits, TINY_VOCABULARY, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_decoder_feed(decoder, &token, INT64_MAX, logits, TINY_VOCABULARY, &error));
  token = TINY_VOCABULARY;
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_decoder_feed(decoder, &token, 1, logits, TINY_VOCABULARY, &error));
  token = 5;
  EXPECT_OK(qft_decoder_feed(decoder, &token, 1, logits, TINY_VOCABULARY, &error));
  EXPECT_OK(qft_decoder_feed(decoder, &token, 1, NULL, 0, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_decoder_feed(decoder, &token, 1, NULL, 0, &error));
  EXPECT_OK(qft_decoder_reset(decoder, &error));
  EXPECT_OK(qft_decoder_feed(decoder, &token, 1, NULL, 0, &error));
  EXPECT_OK(qft_session_begin_step(t.session, &t.options, &error));
  EXPECT_CODE(QFT_ERROR_STATE, qft_decoder_feed(decoder, &token, 1, NULL, 0, &error));
  EXPECT_OK(qft_session_abandon_step(t.session, &error));
  qft_session_destroy(t.session);
  EXPECT_CODE(QFT_ERROR_STALE, qft_decoder_feed(decoder, &token, 1, NULL, 0, &error));
  qft_decoder_destroy(decoder);
  qft_decoder_destroy(decoder);
  qft_decoder_destroy(NULL);
  EXPECT_CODE(QFT_ERROR_STALE, qft_decoder_reset(decoder, &error));
  tiny_close(&t);
}

static void checkpoint_nulls(tiny* t, const char* folder, size_t length) {
  qft_save* save = NULL;
  qft_checkpoint* checkpoint = NULL;
  EXPECT_NULL_REFUSED(qft_save_prepare(NULL, folder, length, NULL, 0, &save, &error));
  EXPECT_NULL_REFUSED(qft_save_prepare(t->session, NULL, 3, NULL, 0, &save, &error));
  EXPECT_NULL_REFUSED(qft_save_prepare(t->session, folder, 0, NULL, 0, &save, &error));
  EXPECT_NULL_REFUSED(qft_save_prepare(t->session, folder, length, NULL, 1, &save, &error));
  EXPECT_NULL_REFUSED(qft_save_prepare(t->session, folder, length, NULL, 0, NULL, &error));
  EXPECT_NULL_REFUSED(qft_save_commit(NULL, &error));
  EXPECT_NULL_REFUSED(qft_session_save(NULL, folder, length, NULL, 0, 1, &error));
  EXPECT_NULL_REFUSED(qft_session_save(t->session, NULL, 3, NULL, 0, 1, &error));
  EXPECT_NULL_REFUSED(qft_session_save(t->session, folder, length, NULL, 1, 1, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_session_save(t->session, folder, length, NULL, 0, -1, &error));
  EXPECT_NULL_REFUSED(qft_checkpoint_open(NULL, 3, &checkpoint, NULL, &error));
  EXPECT_NULL_REFUSED(qft_checkpoint_open(folder, length, NULL, NULL, &error));
  EXPECT_CODE(QFT_ERROR_NOT_FOUND, qft_checkpoint_open(folder, length, &checkpoint, NULL, &error));
  qft_save_destroy(NULL);
  qft_checkpoint_destroy(NULL);
}

static void checkpoint_queries(tiny* t, qft_checkpoint* checkpoint) {
  const void* blob = NULL;
  const char* manifest = NULL;
  size_t length = 0;
  int64_t step = -1;
  EXPECT_NULL_REFUSED(qft_checkpoint_get_step(NULL, &step, &error));
  EXPECT_NULL_REFUSED(qft_checkpoint_get_step(checkpoint, NULL, &error));
  EXPECT_NULL_REFUSED(qft_checkpoint_get_blob(NULL, &blob, &length, &error));
  EXPECT_NULL_REFUSED(qft_checkpoint_get_blob(checkpoint, NULL, &length, &error));
  EXPECT_NULL_REFUSED(qft_checkpoint_get_blob(checkpoint, &blob, NULL, &error));
  EXPECT_NULL_REFUSED(qft_checkpoint_get_manifest(NULL, &manifest, &length, &error));
  EXPECT_NULL_REFUSED(qft_checkpoint_get_manifest(checkpoint, NULL, &length, &error));
  EXPECT_NULL_REFUSED(qft_checkpoint_get_manifest(checkpoint, &manifest, NULL, &error));
  EXPECT_OK(qft_checkpoint_get_blob(checkpoint, &blob, &length, &error));
  EXPECT(length == 3 && memcmp(blob, "a\0b", 3) == 0);
  EXPECT_OK(qft_checkpoint_get_manifest(checkpoint, &manifest, &length, &error));
  EXPECT(manifest != NULL && length == strlen(manifest));
  EXPECT_OK(qft_checkpoint_get_step(checkpoint, &step, &error));
  EXPECT(step == 0);
  EXPECT_NULL_REFUSED(qft_session_restore(NULL, checkpoint, &error));
  EXPECT_NULL_REFUSED(qft_session_restore(t->session, NULL, &error));
  EXPECT_NULL_REFUSED(
      qft_session_restore(t->session, (const qft_checkpoint*)(void*)t->model, &error));
  EXPECT_OK(qft_session_begin_step(t->session, &t->options, &error));
  EXPECT_CODE(QFT_ERROR_STATE, qft_session_restore(t->session, checkpoint, &error));
  EXPECT_OK(qft_session_abandon_step(t->session, &error));
  EXPECT_OK(qft_session_restore(t->session, checkpoint, &error));
}

static void checkpoints(void) {
  tiny t;
  qft_save* save = NULL;
  qft_checkpoint* checkpoint = NULL;
  const char* warning = NULL;
  char folder[] = "/tmp/qft_misuse_XXXXXX";
  char command[64];
  if (!tiny_open(&t, NULL)) return;
  EXPECT(mkdtemp(folder) != NULL);
  const size_t length = strlen(folder);
  checkpoint_nulls(&t, folder, length);

  EXPECT_OK(qft_session_begin_step(t.session, &t.options, &error));
  EXPECT_CODE(QFT_ERROR_STATE, qft_save_prepare(t.session, folder, length, NULL, 0, &save, &error));
  EXPECT_OK(qft_session_abandon_step(t.session, &error));
  EXPECT_OK(qft_save_prepare(t.session, folder, length, NULL, 0, &save, &error));
  qft_save_destroy(save); /* without a commit nothing stays */
  EXPECT_CODE(QFT_ERROR_STALE, qft_save_commit(save, &error));
  EXPECT_CODE(QFT_ERROR_NOT_FOUND, qft_checkpoint_open(folder, length, &checkpoint, NULL, &error));
  EXPECT_OK(qft_save_prepare(t.session, folder, length, "a\0b", 3, &save, &error));
  EXPECT_OK(qft_save_commit(save, &error));
  EXPECT_CODE(QFT_ERROR_STATE, qft_save_commit(save, &error));
  qft_save_destroy(save);
  qft_save_destroy(save);

  EXPECT_OK(qft_checkpoint_open(folder, length, &checkpoint, &warning, &error));
  EXPECT(warning != NULL && warning[0] == '\0');
  checkpoint_queries(&t, checkpoint);
  qft_checkpoint_destroy(checkpoint);
  qft_checkpoint_destroy(checkpoint);
  EXPECT_CODE(QFT_ERROR_STALE, qft_session_restore(t.session, checkpoint, &error));
  snprintf(command, sizeof(command), "rm -r %s", folder);
  EXPECT(system(command) == 0);
  tiny_close(&t);
}

static void prunes(const char* folder, size_t length) {
  qft_checkpoint_report* report = NULL;
  const char* json = NULL;
  size_t json_length = 0;
  qft_prune_options options;
  memset(&options, 0, sizeof(options));
  options.struct_size = sizeof(options);
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_checkpoint_prune(folder, length, &options, &report, &error));
  options.keep = 1;
  options.keep_every = -1;
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_checkpoint_prune(folder, length, &options, &report, &error));
  options.keep_every = INT64_MAX;
  options.dry_run = 1;
  EXPECT_NULL_REFUSED(qft_checkpoint_prune(NULL, 3, &options, &report, &error));
  EXPECT_NULL_REFUSED(qft_checkpoint_prune(folder, 0, &options, &report, &error));
  EXPECT_NULL_REFUSED(qft_checkpoint_prune(folder, length, NULL, &report, &error));
  EXPECT_CODE(QFT_ERROR_NOT_FOUND,
              qft_checkpoint_prune(TEXT("/tmp/no such folder"), &options, &report, &error));
  EXPECT(report == NULL);
  EXPECT_OK(qft_checkpoint_prune(folder, length, &options, NULL, &error));
  EXPECT_OK(qft_checkpoint_prune(folder, length, &options, &report, &error));
  EXPECT_OK(qft_checkpoint_report_get_json(report, &json, &json_length, &error));
  EXPECT(strstr(json, "\"dry_run\":true,\"freed_bytes\":0,\"removed\":[]") != NULL);
  EXPECT(strstr(json, "\"name\":\"step_0\"") != NULL);
  qft_checkpoint_report_destroy(report);
  options.struct_size = 3;
  EXPECT_CODE(QFT_ERROR_STRUCT_SIZE, qft_checkpoint_prune(folder, length, &options, NULL, &error));
}

static void checkpoint_reports(void) {
  tiny t;
  qft_checkpoint_report* report = NULL;
  const char* json = NULL;
  size_t json_length = 0;
  char folder[] = "/tmp/qft_misuse_XXXXXX";
  char command[64];
  if (!tiny_open(&t, NULL)) return;
  EXPECT(mkdtemp(folder) != NULL);
  const size_t length = strlen(folder);
  EXPECT_OK(qft_session_save(t.session, folder, length, NULL, 0, 1, &error));
  EXPECT_NULL_REFUSED(
      qft_checkpoint_report_create(NULL, 3, QFT_CHECKPOINT_CHECK_SIZES, &report, &error));
  EXPECT_NULL_REFUSED(
      qft_checkpoint_report_create(folder, 0, QFT_CHECKPOINT_CHECK_SIZES, &report, &error));
  EXPECT_NULL_REFUSED(
      qft_checkpoint_report_create(folder, length, QFT_CHECKPOINT_CHECK_SIZES, NULL, &error));
  EXPECT_NULL_REFUSED(qft_checkpoint_report_create(folder, length, 2, &report, &error));
  EXPECT_NULL_REFUSED(qft_checkpoint_report_create(folder, length, -1, &report, &error));
  EXPECT_CODE(QFT_ERROR_NOT_FOUND,
              qft_checkpoint_report_create(TEXT("/tmp/no such folder"), QFT_CHECKPOINT_CHECK_SIZES,
                                           &report, &error));
  EXPECT(report == NULL);
  EXPECT_OK(
      qft_checkpoint_report_create(folder, length, QFT_CHECKPOINT_CHECK_HASHES, &report, &error));
  EXPECT_NULL_REFUSED(qft_checkpoint_report_get_json(NULL, &json, &json_length, &error));
  EXPECT_NULL_REFUSED(qft_checkpoint_report_get_json(report, NULL, &json_length, &error));
  EXPECT_NULL_REFUSED(qft_checkpoint_report_get_json(report, &json, NULL, &error));
  EXPECT_OK(qft_checkpoint_report_get_json(report, &json, &json_length, &error));
  EXPECT(json_length == strlen(json) && strstr(json, "\"whole\":true") != NULL);
  prunes(folder, length);
  qft_checkpoint_report_destroy(report);
  qft_checkpoint_report_destroy(report);
  qft_checkpoint_report_destroy(NULL);
  EXPECT_CODE(QFT_ERROR_STALE, qft_checkpoint_report_get_json(report, &json, &json_length, &error));
  snprintf(command, sizeof(command), "rm -r %s", folder);
  EXPECT(system(command) == 0);
  tiny_close(&t);
}

static void destroyed_and_foreign_handles(void) {
  tiny t;
  qft_session_metrics metrics;
  int64_t count = 0;
  int local = 0;
  memset(&metrics, 0, sizeof(metrics));
  metrics.struct_size = sizeof(metrics);
  if (!tiny_open(&t, NULL)) return;
  qft_session* foreign[] = {(qft_session*)(void*)t.model, (qft_session*)(void*)t.config};
  for (size_t i = 0; i < 2; ++i) {
    qft_session_destroy(foreign[i]); /* does nothing: the kinds differ */
    EXPECT_NULL_REFUSED(qft_session_get_metrics(foreign[i], &metrics, &error));
    EXPECT_NULL_REFUSED(qft_session_step(foreign[i], &t.options, &t.batch, 1, NULL, &error));
    EXPECT_NULL_REFUSED(
        qft_session_step_async(foreign[i], &t.options, &t.batch, 1, NULL, NULL, &error));
  }
  EXPECT_CODE(QFT_ERROR_STALE, qft_session_abandon_step((qft_session*)(void*)&local, &error));
  EXPECT_OK(qft_model_get_tensor_count(t.model, &count, &error));
  EXPECT_OK(qft_session_get_metrics(t.session, &metrics, &error));
  EXPECT(metrics.total_bytes > 0);
  qft_event* event = NULL;
  EXPECT_CODE(QFT_ERROR_UNSUPPORTED,
              qft_session_step_async(t.session, &t.options, &t.batch, 1, NULL, &event, &error));
  EXPECT(event == NULL);
  EXPECT_NULL_REFUSED(
      qft_session_step_async(t.session, &t.options, &t.batch, 1, NULL, NULL, &error));

  tiny_close(&t);
  tiny_close(&t);
  EXPECT_CODE(QFT_ERROR_STALE, qft_model_get_tensor_count(t.model, &count, &error));
  EXPECT_CODE(QFT_ERROR_STALE, qft_session_get_metrics(t.session, &metrics, &error));
  EXPECT_CODE(QFT_ERROR_STALE, qft_session_begin_step(t.session, &t.options, &error));
  EXPECT_CODE(QFT_ERROR_STALE, qft_session_step(t.session, &t.options, &t.batch, 1, NULL, &error));
  EXPECT_CODE(QFT_ERROR_STALE, qft_session_check_learning_rate(t.session, 1e-3, &error));
}

static void forked_child(void) {
  tiny t;
  int64_t count = 0;
  int status = -1;
  if (!tiny_open(&t, NULL)) return;
  EXPECT_OK(qft_session_step(t.session, &t.options, &t.batch, 1, NULL, &error));
  fflush(NULL);
  const pid_t child = fork();
  if (child == 0) {
    g_failures = 0;
    alarm(60);
    EXPECT_CODE(QFT_ERROR_FORKED, qft_model_get_tensor_count(t.model, &count, &error));
    EXPECT_CODE(QFT_ERROR_FORKED,
                qft_session_step(t.session, &t.options, &t.batch, 1, NULL, &error));
    tiny_close(&t);
    EXPECT_CODE(QFT_ERROR_FORKED, qft_session_abandon_step(t.session, &error));
#ifndef __SANITIZE_THREAD__ /* under which a forked child can start no threads */
    tiny own;
    if (tiny_open(&own, NULL)) {
      EXPECT_OK(qft_session_step(own.session, &own.options, &own.batch, 1, NULL, &error));
      tiny_close(&own);
    }
#endif
    _exit(g_failures == 0 ? 0 : 1);
  }
  EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_OK(qft_session_step(t.session, &t.options, &t.batch, 1, NULL, &error));
  tiny_close(&t);
}

typedef struct {
  tiny* t;
  int* stop; /* atomic */
  int ok;
  int busy;
  int other;
} worker;

static void* evaluate_often(void* argument) {
  worker* w = argument;
  qft_eval_result result;
  memset(&result, 0, sizeof(result));
  result.struct_size = sizeof(result);
  for (int i = 0; i < 20000 && !__atomic_load_n(w->stop, __ATOMIC_RELAXED); ++i) {
    const qft_status status =
        qft_session_evaluate(w->t->session, &w->t->batch, 1, &result, NULL, NULL);
    if (status == QFT_OK) {
      ++w->ok;
    } else if (status == QFT_ERROR_BUSY) {
      ++w->busy;
      __atomic_store_n(w->stop, 1, __ATOMIC_RELAXED);
    } else {
      ++w->other;
    }
  }
  return NULL;
}

static void two_threads(void) {
  tiny t;
  int stop = 0;
  pthread_t threads[2];
  qft_session_metrics metrics;
  memset(&metrics, 0, sizeof(metrics));
  metrics.struct_size = sizeof(metrics);
  if (!tiny_open(&t, NULL)) return;
  worker workers[2] = {{&t, &stop, 0, 0, 0}, {&t, &stop, 0, 0, 0}};
  for (int i = 0; i < 2; ++i) {
    EXPECT(pthread_create(&threads[i], NULL, evaluate_often, &workers[i]) == 0);
  }
  for (int i = 0; i < 1000; ++i) { /* metrics may be asked at any time */
    if (qft_session_get_metrics(t.session, &metrics, NULL) != QFT_OK) {
      EXPECT(0);
      break;
    }
  }
  for (int i = 0; i < 2; ++i) pthread_join(threads[i], NULL);
  EXPECT(workers[0].busy + workers[1].busy > 0);
  EXPECT(workers[0].ok + workers[1].ok > 0);
  EXPECT(workers[0].other + workers[1].other == 0);
  EXPECT_OK(qft_session_step(t.session, &t.options, &t.batch, 1, NULL, &error));
  tiny_close(&t);
}

static void* destroy_session(void* argument) {
  qft_session_destroy(((tiny*)argument)->session);
  return NULL;
}

/* Destroying during use lets the call under way end, and is seen by the next one. */
static void destroyed_while_in_use(void) {
  for (int round = 0; round < 20; ++round) {
    tiny t;
    pthread_t thread;
    qft_status status = QFT_OK;
    if (!tiny_open(&t, NULL)) return;
    EXPECT(pthread_create(&thread, NULL, destroy_session, &t) == 0);
    while (status == QFT_OK) {
      status = qft_session_step(t.session, &t.options, &t.batch, 1, NULL, NULL);
    }
    EXPECT(status == QFT_ERROR_STALE);
    pthread_join(thread, NULL);
    tiny_close(&t);
  }
}

int main(int argc, char** argv) {
  RUN(tensors);
  RUN(decoders);
  RUN(checkpoints);
  RUN(checkpoint_reports);
  RUN(destroyed_and_foreign_handles);
  RUN(forked_child);
  RUN(two_threads);
  RUN(destroyed_while_in_use);
  FINISH();
}
