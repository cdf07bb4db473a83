/* Misuse of libqft_data: NULL, struct sizes, ranges, and handles of one library in the other. */
#include <math.h>

#include "qft_data.h"
#include "tiny.h"

static void load_and_open(void) {
  tiny t;
  qft_tokenizer* tokenizer = NULL;
  qft_dataset* dataset = NULL;
  if (!tiny_open(&t, NULL)) return;
  const qft_tokenizer* foreign = (const qft_tokenizer*)(void*)t.model;
  EXPECT_NULL_REFUSED(qft_tokenizer_load(NULL, 3, &tokenizer, &error));
  EXPECT_NULL_REFUSED(qft_tokenizer_load(TEXT(""), &tokenizer, &error));
  EXPECT_NULL_REFUSED(qft_tokenizer_load(TEXT("a\0b"), &tokenizer, &error));
  EXPECT_NULL_REFUSED(qft_tokenizer_load(TEXT("/"), NULL, &error));
  EXPECT_CODE(QFT_ERROR_FILE_NOT_FOUND,
              qft_tokenizer_load(TEXT("/nowhere/tokenizer.json"), &tokenizer, &error));
  EXPECT(tokenizer == NULL);
  EXPECT_NULL_REFUSED(qft_dataset_open(TEXT("/nowhere"), NULL, NULL, &dataset, &error));
  EXPECT_NULL_REFUSED(qft_dataset_open(TEXT("/nowhere"), foreign, NULL, &dataset, &error));
  EXPECT(dataset == NULL);
  qft_tokenizer_destroy(NULL);
  qft_dataset_destroy(NULL);
  qft_tokenizer_destroy((qft_tokenizer*)(void*)t.model);
  qft_dataset_destroy((qft_dataset*)(void*)t.session);
  EXPECT_OK(qft_session_step(t.session, &t.options, &t.batch, 1, NULL, &error));
  tiny_close(&t);
}

static void nulls(void) {
  int32_t id = 0;
  int64_t size = 0;
  size_t needed = 0;
  double value = 0;
  qft_dataset_info info;
  qft_batch batch;
  qft_document document;
  memset(&document, 0, sizeof(document));
  document.struct_size = sizeof(document);
  memset(&info, 0, sizeof(info));
  memset(&batch, 0, sizeof(batch));
  info.struct_size = sizeof(info);
  batch.struct_size = sizeof(batch);
  EXPECT_NULL_REFUSED(qft_tokenizer_encode(NULL, TEXT("a"), 0, &id, 1, &needed, &error));
  EXPECT_NULL_REFUSED(qft_tokenizer_decode(NULL, &id, 1, 0, NULL, 0, &needed, &error));
  EXPECT_NULL_REFUSED(qft_tokenizer_get_prefix(NULL, &id, 1, &needed, &error));
  EXPECT_NULL_REFUSED(qft_tokenizer_get_suffix(NULL, &id, 1, &needed, &error));
  EXPECT_NULL_REFUSED(qft_tokenizer_get_size(NULL, &size, &error));
  EXPECT_NULL_REFUSED(qft_tokenizer_find(NULL, TEXT("a"), &id, &error));
  EXPECT_NULL_REFUSED(qft_tokenizer_get_end(NULL, &id, &error));
  EXPECT_NULL_REFUSED(qft_dataset_get_info(NULL, &info, &error));
  EXPECT_NULL_REFUSED(qft_dataset_next(NULL, &batch, 1, &error));
  EXPECT_NULL_REFUSED(qft_dataset_get_held_out(NULL, 0, &batch, &error));
  EXPECT_NULL_REFUSED(qft_dataset_open_files(NULL, 1, NULL, NULL, NULL, &error));
  EXPECT_NULL_REFUSED(qft_dataset_get_document(NULL, 0, &document, &error));
  EXPECT_NULL_REFUSED(qft_dataset_get_skipped(NULL, 0, NULL, 0, &needed, &error));
  EXPECT_NULL_REFUSED(qft_chat_render(NULL, NULL, 0, NULL, NULL, 0, &needed, &error));
  EXPECT_NULL_REFUSED(qft_chat_get_end(NULL, NULL, &id, &error));
  EXPECT_NULL_REFUSED(qft_dataset_get_epoch(NULL, &value, &error));
  EXPECT_NULL_REFUSED(qft_dataset_get_cursor(NULL, NULL, 0, &needed, &error));
  EXPECT_NULL_REFUSED(qft_dataset_set_cursor(NULL, &id, 1, &error));
  EXPECT_NULL_REFUSED(qft_schedule_get(NULL, 0, &value, &error));
  EXPECT_NULL_REFUSED(
      qft_generate(NULL, NULL, TEXT("a"), NULL, NULL, NULL, NULL, 0, &needed, &error));
  EXPECT_NULL_REFUSED(qft_export(NULL, NULL, NULL, TEXT("/tmp/x"), &error));
}

static qft_schedule linear_schedule(void) {
  qft_schedule schedule;
  memset(&schedule, 0, sizeof(schedule));
  schedule.struct_size = sizeof(schedule);
  schedule.kind = QFT_SCHEDULE_LINEAR;
  schedule.peak = 1e-3;
  schedule.steps = 10;
  return schedule;
}

#define EXPECT_SCHEDULE(code, change)                                 \
  do {                                                                \
    qft_schedule schedule = linear_schedule();                        \
    change;                                                           \
    EXPECT_CODE(code, qft_schedule_get(&schedule, 0, &rate, &error)); \
  } while (0)

static void schedules(void) {
  const qft_schedule good = linear_schedule();
  double rate = -1;
  EXPECT_OK(qft_schedule_get(&good, 0, &rate, &error));
  EXPECT(rate > 0 && rate <= 1e-3);
  EXPECT_NULL_REFUSED(qft_schedule_get(&good, 0, NULL, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_schedule_get(&good, -1, &rate, &error));
  EXPECT_SCHEDULE(QFT_ERROR_OUT_OF_RANGE, schedule.peak = 0);
  EXPECT_SCHEDULE(QFT_ERROR_OUT_OF_RANGE, schedule.peak = NAN);
  EXPECT_SCHEDULE(QFT_ERROR_OUT_OF_RANGE, schedule.minimum_share = 1.5);
  EXPECT_SCHEDULE(QFT_ERROR_OUT_OF_RANGE, schedule.minimum_share = NAN);
  EXPECT_SCHEDULE(QFT_ERROR_OUT_OF_RANGE, schedule.kind = 77);
  EXPECT_SCHEDULE(QFT_ERROR_OUT_OF_RANGE, schedule.warmup_steps = -1);
  EXPECT_SCHEDULE(QFT_ERROR_OUT_OF_RANGE, schedule.steps = -1);
  EXPECT_SCHEDULE(QFT_ERROR_STRUCT_SIZE, schedule.struct_size = 2);
}

int main(int argc, char** argv) {
  RUN(load_and_open);
  RUN(nulls);
  RUN(schedules);
  FINISH();
}
