/* Misuse of saves in the background, of their events, and of a caller's own storage. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tiny.h"

#define LONG_MS 60000

static char g_folder[] = "/tmp/qft_misuse_XXXXXX";
#define FOLDER g_folder, strlen(g_folder)

static void begin_misused(void) {
  tiny t;
  qft_event* event = NULL;
  if (!tiny_open(&t, "snapshot=host")) return;
  EXPECT_NULL_REFUSED(qft_session_save_begin(NULL, FOLDER, NULL, 0, 1, &event, &error));
  EXPECT_NULL_REFUSED(qft_session_save_begin(t.session, NULL, 3, NULL, 0, 1, &event, &error));
  EXPECT_NULL_REFUSED(qft_session_save_begin(t.session, "", 0, NULL, 0, 1, &event, &error));
  EXPECT_NULL_REFUSED(qft_session_save_begin(t.session, FOLDER, NULL, 1, 1, &event, &error));
  EXPECT_NULL_REFUSED(qft_session_save_begin(t.session, FOLDER, NULL, 0, 1, NULL, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_session_save_begin(t.session, FOLDER, NULL, 0, -1, &event, &error));
  EXPECT_OK(qft_session_begin_step(t.session, &t.options, &error));
  EXPECT_CODE(QFT_ERROR_STATE,
              qft_session_save_begin(t.session, FOLDER, NULL, 0, 1, &event, &error));
  EXPECT_OK(qft_session_abandon_step(t.session, &error));
  EXPECT(event == NULL);
  tiny_close(&t);
  EXPECT_CODE(QFT_ERROR_STALE,
              qft_session_save_begin(t.session, FOLDER, NULL, 0, 1, &event, &error));
}

static void events(void) {
  tiny t;
  qft_event* event = NULL;
  int32_t done = -1;
  if (!tiny_open(&t, "snapshot=host")) return;
  REQUIRE_OK(qft_session_save_begin(t.session, FOLDER, "a\0b", 3, 1, &event, &error));
  EXPECT_NULL_REFUSED(qft_event_poll(NULL, &done, &error));
  EXPECT_NULL_REFUSED(qft_event_poll(event, NULL, &error));
  EXPECT_NULL_REFUSED(qft_event_poll((const qft_event*)(void*)t.session, &done, &error));
  EXPECT_NULL_REFUSED(qft_event_wait(NULL, 1, &error));
  EXPECT_NULL_REFUSED(qft_event_cancel(NULL, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_event_wait(event, -1, &error));
  EXPECT_OK(qft_event_poll(event, &done, &error));
  EXPECT(done == 0 || done == 1);
  EXPECT_OK(qft_session_step(t.session, &t.options, &t.batch, 1, NULL, &error));
  EXPECT_OK(qft_event_wait(event, INT64_MAX, &error));
  EXPECT_OK(qft_event_wait(event, 0, &error));
  EXPECT_OK(qft_event_poll(event, &done, &error));
  EXPECT(done == 1);
  EXPECT_OK(qft_event_cancel(event, &error)); /* what is done stays */
  EXPECT_OK(qft_event_wait(event, 0, &error));
  qft_event_destroy(event);
  qft_event_destroy(event);
  qft_event_destroy(NULL);
  EXPECT_CODE(QFT_ERROR_STALE, qft_event_wait(event, 0, &error));
  EXPECT_CODE(QFT_ERROR_STALE, qft_event_cancel(event, &error));
  tiny_close(&t);
}

/* While a save is under way there is no other. When it is over is the disk's to say. */
static void second_save(void) {
  tiny t;
  qft_event* first = NULL;
  qft_event* second = NULL;
  qft_save* save = NULL;
  int busy = 0;
  if (!tiny_open(&t, "snapshot=host")) return;
  for (int round = 0; round < 50 && busy == 0; ++round) {
    REQUIRE_OK(qft_session_save_begin(t.session, FOLDER, NULL, 0, 1, &first, &error));
    const qft_status status = qft_session_save_begin(t.session, FOLDER, NULL, 0, 1, &second, NULL);
    EXPECT(status == QFT_OK || status == QFT_ERROR_BUSY);
    if (status == QFT_OK) EXPECT_OK(qft_event_wait(second, LONG_MS, &error));
    busy += status == QFT_ERROR_BUSY;
    EXPECT_OK(qft_event_wait(first, LONG_MS, &error));
    qft_event_destroy(first);
    qft_event_destroy(second);
  }
  EXPECT(busy > 0);
  EXPECT_OK(qft_session_save(t.session, FOLDER, NULL, 0, 1, &error));
  EXPECT_OK(qft_save_prepare(t.session, FOLDER, NULL, 0, &save, &error));
  qft_save_destroy(save);
  tiny_close(&t);
}

/* Without memory for a snapshot the work is done at once, and with it its errors are told. */
static void without_snapshot(void) {
  tiny t;
  qft_event* event = NULL;
  int32_t done = 0;
  if (!tiny_open(&t, NULL)) return;
  EXPECT_OK(qft_session_save_begin(t.session, FOLDER, NULL, 0, 1, &event, &error));
  EXPECT_OK(qft_event_poll(event, &done, &error));
  EXPECT(done == 1);
  EXPECT_OK(qft_event_wait(event, 0, &error));
  qft_event_destroy(event);
  EXPECT_CODE(QFT_ERROR_FILE_NOT_FOUND,
              qft_session_save_begin(t.session, TEXT("/proc/none"), NULL, 0, 1, &event, &error));
  tiny_close(&t);
}

/* An error of the thread that writes is the event's, and the next save is as if it had not been. */
static void failing_save(void) {
  tiny t;
  qft_event* event = NULL;
  if (!tiny_open(&t, "snapshot=host")) return;
  REQUIRE_OK(qft_session_save_begin(t.session, TEXT("/proc/none"), NULL, 0, 1, &event, &error));
  EXPECT_CODE(QFT_ERROR_FILE_NOT_FOUND, qft_event_wait(event, LONG_MS, &error));
  EXPECT_CODE(QFT_ERROR_FILE_NOT_FOUND, qft_event_wait(event, LONG_MS, &error));
  qft_event_destroy(event);
  REQUIRE_OK(qft_session_save_begin(t.session, FOLDER, NULL, 0, 1, &event, &error));
  EXPECT_OK(qft_event_wait(event, LONG_MS, &error));
  qft_event_destroy(event);
  tiny_close(&t);
}

/* The event outlives session and work; nobody waits for ever. */
static void session_destroyed_first(void) {
  for (int round = 0; round < 20; ++round) {
    tiny t;
    qft_event* event = NULL;
    if (!tiny_open(&t, "snapshot=host")) return;
    REQUIRE_OK(qft_session_save_begin(t.session, FOLDER, NULL, 0, 1, &event, &error));
    if (round % 2 == 0)
      EXPECT_OK(qft_session_step(t.session, &t.options, &t.batch, 1, NULL, &error));
    tiny_close(&t);
    const qft_status status = qft_event_wait(event, 0, NULL);
    EXPECT(status == QFT_OK || status == QFT_ERROR_CANCELLED);
    qft_event_destroy(event);
  }
}

static void event_destroyed_first(void) {
  tiny t;
  qft_event* event = NULL;
  qft_event* next = NULL;
  qft_status status = QFT_ERROR_BUSY;
  const struct timespec pause = {0, 10000000};
  if (!tiny_open(&t, "snapshot=host")) return;
  REQUIRE_OK(qft_session_save_begin(t.session, FOLDER, NULL, 0, 1, &event, &error));
  qft_event_destroy(event);
  EXPECT_CODE(QFT_ERROR_STALE, qft_event_wait(event, 0, &error));
  for (int i = 0; i < 6000 && status == QFT_ERROR_BUSY; ++i) {
    status = qft_session_save_begin(t.session, FOLDER, NULL, 0, 1, &next, NULL);
    nanosleep(&pause, NULL);
  }
  EXPECT(status == QFT_OK);
  EXPECT_OK(qft_event_wait(next, LONG_MS, &error));
  qft_event_destroy(next);
  tiny_close(&t);
}

static void* cancel_event(void* event) {
  return qft_event_cancel(event, NULL) == QFT_OK ? event : NULL;
}

/* One thread waits while another cancels. */
static void cancelled_while_waiting(void) {
  tiny t;
  if (!tiny_open(&t, "snapshot=host")) return;
  for (int round = 0; round < 10; ++round) {
    qft_event* event = NULL;
    pthread_t thread;
    void* answered = NULL;
    REQUIRE_OK(qft_session_save_begin(t.session, FOLDER, NULL, 0, 1, &event, &error));
    EXPECT(pthread_create(&thread, NULL, cancel_event, event) == 0);
    const qft_status status = qft_event_wait(event, LONG_MS, NULL);
    EXPECT(status == QFT_OK || status == QFT_ERROR_CANCELLED);
    pthread_join(thread, &answered);
    EXPECT(answered == event);
    qft_event_destroy(event);
    EXPECT_OK(qft_session_step(t.session, &t.options, &t.batch, 1, NULL, &error));
  }
  tiny_close(&t);
}

/* Storage for the two files of a checkpoint. */
typedef struct {
  char* data[2];
  uint64_t size[2];
  int finished[2];
  int calls;
  int refuse_at;
  int destroyed;
  int wrong;            /* what a callback found; it may run beside the test */
  qft_session* session; /* a callback uses it, which it must not */
} storage;

static int index_of(const char* name) {
  return strcmp(name, "manifest.json") == 0 ? 1 : 0;
}

static int32_t sink_write(void* user, const char* name, uint64_t offset, const void* data,
                          size_t size) {
  storage* s = user;
  const int i = index_of(name);
  if (++s->calls == s->refuse_at) return 17;
  if (s->session != NULL) {
    s->wrong += qft_session_abandon_step(s->session, NULL) != QFT_ERROR_REENTRANT;
  }
  s->wrong += offset != s->size[i];
  char* grown = realloc(s->data[i], s->size[i] + size + 1);
  if (grown == NULL) return 18;
  memcpy(grown + s->size[i], data, size);
  s->data[i] = grown;
  s->size[i] += size;
  return 0;
}

static int32_t sink_finish(void* user, const char* name) {
  storage* s = user;
  if (++s->calls == s->refuse_at) return -5;
  s->finished[index_of(name)] = 1;
  return 0;
}

static int32_t source_size(void* user, const char* name, uint64_t* size) {
  storage* s = user;
  if (++s->calls == s->refuse_at) return 17;
  *size = s->size[index_of(name)];
  return 0;
}

static int32_t source_read(void* user, const char* name, uint64_t offset, void* data, size_t size) {
  storage* s = user;
  if (++s->calls == s->refuse_at) return 17;
  memcpy(data, s->data[index_of(name)] + offset, size);
  return 0;
}

static void source_destroy(void* user) {
  ++((storage*)user)->destroyed;
}

static qft_checkpoint_sink sink_of(storage* s) {
  qft_checkpoint_sink sink;
  memset(&sink, 0, sizeof(sink));
  sink.struct_size = sizeof(sink);
  sink.user = s;
  sink.write = sink_write;
  sink.finish = sink_finish;
  return sink;
}

static qft_checkpoint_source source_of(storage* s) {
  qft_checkpoint_source source;
  memset(&source, 0, sizeof(source));
  source.struct_size = sizeof(source);
  source.user = s;
  source.size = source_size;
  source.read = source_read;
  source.destroy_user = source_destroy;
  return source;
}

static void free_storage(storage* s) {
  for (int i = 0; i < 2; ++i) free(s->data[i]);
}

#define EXPECT_SINK(code, change)                                                                  \
  do {                                                                                             \
    qft_checkpoint_sink sink = sink_of(s);                                                         \
    change;                                                                                        \
    EXPECT_CODE(code, qft_session_save_to_sink(t->session, &sink, NULL, 0, &error));               \
    EXPECT_CODE(code, qft_session_save_to_sink_begin(t->session, &sink, NULL, 0, &event, &error)); \
  } while (0)

#define EXPECT_SOURCE(code, change)                                              \
  do {                                                                           \
    qft_checkpoint_source source = source_of(s);                                 \
    change;                                                                      \
    EXPECT_CODE(code, qft_checkpoint_open_source(&source, &checkpoint, &error)); \
  } while (0)

static void misused_storage(tiny* t, storage* s) {
  qft_checkpoint_sink good = sink_of(s);
  qft_checkpoint_source source = source_of(s);
  qft_checkpoint* checkpoint = NULL;
  qft_event* event = NULL;
  EXPECT_NULL_REFUSED(qft_session_save_to_sink(NULL, &good, NULL, 0, &error));
  EXPECT_NULL_REFUSED(qft_session_save_to_sink(t->session, NULL, NULL, 0, &error));
  EXPECT_NULL_REFUSED(qft_session_save_to_sink(t->session, &good, NULL, 1, &error));
  EXPECT_SINK(QFT_ERROR_INVALID_ARGUMENT, sink.write = NULL);
  EXPECT_SINK(QFT_ERROR_INVALID_ARGUMENT, sink.finish = NULL);
  EXPECT_SINK(QFT_ERROR_STRUCT_SIZE, sink.struct_size = 3);
  EXPECT_SINK(QFT_ERROR_INVALID_ARGUMENT, sink.struct_size = 16);
  EXPECT_NULL_REFUSED(qft_session_save_to_sink_begin(NULL, &good, NULL, 0, &event, &error));
  EXPECT_NULL_REFUSED(qft_session_save_to_sink_begin(t->session, NULL, NULL, 0, &event, &error));
  EXPECT_NULL_REFUSED(qft_session_save_to_sink_begin(t->session, &good, NULL, 1, &event, &error));
  EXPECT_NULL_REFUSED(qft_session_save_to_sink_begin(t->session, &good, NULL, 0, NULL, &error));
  EXPECT(s->calls == 0 && event == NULL);
  EXPECT_NULL_REFUSED(qft_checkpoint_open_source(NULL, &checkpoint, &error));
  EXPECT_SOURCE(QFT_ERROR_STRUCT_SIZE, source.struct_size = 7);
  EXPECT(s->destroyed == 0);
  EXPECT_NULL_REFUSED(qft_checkpoint_open_source(&source, NULL, &error));
  EXPECT_SOURCE(QFT_ERROR_INVALID_ARGUMENT, source.read = NULL);
  EXPECT_SOURCE(QFT_ERROR_INVALID_ARGUMENT, source.size = NULL);
  EXPECT(s->destroyed == 3);
  EXPECT(s->calls == 0 && checkpoint == NULL);
}

static void own_storage(void) {
  tiny t;
  storage s;
  storage refusing;
  char before[33];
  char after[33];
  qft_checkpoint* checkpoint = NULL;
  memset(&s, 0, sizeof(s));
  memset(&refusing, 0, sizeof(refusing));
  if (!tiny_open(&t, NULL)) return;
  misused_storage(&t, &s);
  qft_checkpoint_sink sink = sink_of(&s);
  qft_checkpoint_source source = source_of(&s);
  s.session = t.session;
  s.destroyed = 0;
  EXPECT_OK(qft_session_step(t.session, &t.options, &t.batch, 1, NULL, &error));
  EXPECT_OK(qft_session_state_hash(t.session, before, sizeof(before), &error));
  EXPECT_OK(qft_session_save_to_sink(t.session, &sink, "blob", 4, &error));
  EXPECT(s.finished[0] == 1 && s.finished[1] == 1 && s.wrong == 0);

  EXPECT_OK(qft_session_step(t.session, &t.options, &t.batch, 1, NULL, &error));
  EXPECT_OK(qft_checkpoint_open_source(&source, &checkpoint, &error));
  EXPECT_OK(qft_session_restore(t.session, checkpoint, &error));
  EXPECT_OK(qft_session_state_hash(t.session, after, sizeof(after), &error));
  EXPECT(memcmp(before, after, 33) == 0);
  EXPECT(s.destroyed == 0);
  qft_checkpoint_destroy(checkpoint);
  EXPECT(s.destroyed == 1);

  refusing.refuse_at = 2;
  sink.user = &refusing;
  qft_error* error = NULL;
  EXPECT(qft_session_save_to_sink(t.session, &sink, NULL, 0, &error) == QFT_ERROR_CANCELLED);
  EXPECT(qft_error_native_code(error) == 17);
  EXPECT(strstr(qft_error_message(error), "17") != NULL);
  qft_error_destroy(error);
  s.calls = 0;
  s.refuse_at = 1;
  EXPECT_CODE(QFT_ERROR_CANCELLED, qft_checkpoint_open_source(&source, &checkpoint, &error));
  EXPECT(s.destroyed == 2);
  s.refuse_at = 0;
  s.data[0][s.size[0] - 1] ^= 1;
  EXPECT_CODE(QFT_ERROR_CORRUPT, qft_checkpoint_open_source(&source, &checkpoint, &error));
  free_storage(&s);
  free_storage(&refusing);
  tiny_close(&t);
}

/* With a snapshot and without: the states are those of the call, though a step follows. */
static void own_storage_in_the_background(void) {
  static const char* const settings[] = {"snapshot=host", "snapshot=none"};
  for (int i = 0; i < 2; ++i) {
    tiny t;
    storage s;
    char before[33];
    char after[33];
    qft_event* event = NULL;
    qft_checkpoint* checkpoint = NULL;
    memset(&s, 0, sizeof(s));
    if (!tiny_open(&t, settings[i])) return;
    const qft_checkpoint_sink sink = sink_of(&s);
    const qft_checkpoint_source source = source_of(&s);
    EXPECT_OK(qft_session_step(t.session, &t.options, &t.batch, 1, NULL, &error));
    EXPECT_OK(qft_session_state_hash(t.session, before, sizeof(before), &error));
    REQUIRE_OK(qft_session_save_to_sink_begin(t.session, &sink, "blob", 4, &event, &error));
    EXPECT_OK(qft_session_step(t.session, &t.options, &t.batch, 1, NULL, &error));
    EXPECT_OK(qft_event_wait(event, LONG_MS, &error));
    qft_event_destroy(event);
    EXPECT(s.finished[0] == 1 && s.finished[1] == 1 && s.wrong == 0);
    EXPECT_OK(qft_checkpoint_open_source(&source, &checkpoint, &error));
    EXPECT_OK(qft_session_restore(t.session, checkpoint, &error));
    EXPECT_OK(qft_session_state_hash(t.session, after, sizeof(after), &error));
    EXPECT(memcmp(before, after, 33) == 0);
    qft_checkpoint_destroy(checkpoint);
    free_storage(&s);
    tiny_close(&t);
  }
}

/* Beside training the refusal is the event's; without a snapshot the call's own. */
static void refusing_storage(void) {
  tiny t;
  storage s;
  qft_event* event = NULL;
  qft_error* refusal = NULL;
  memset(&s, 0, sizeof(s));
  s.refuse_at = 2;
  const qft_checkpoint_sink sink = sink_of(&s);
  if (!tiny_open(&t, "snapshot=host")) return;
  REQUIRE_OK(qft_session_save_to_sink_begin(t.session, &sink, NULL, 0, &event, &error));
  EXPECT(qft_event_wait(event, LONG_MS, &refusal) == QFT_ERROR_CANCELLED);
  EXPECT(qft_error_native_code(refusal) == 17);
  EXPECT(s.calls == 2);
  qft_error_destroy(refusal);
  qft_event_destroy(event);
  tiny_close(&t);
  if (!tiny_open(&t, NULL)) return;
  s.calls = 0;
  s.refuse_at = 1;
  EXPECT_CODE(QFT_ERROR_CANCELLED,
              qft_session_save_to_sink_begin(t.session, &sink, NULL, 0, &event, &error));
  free_storage(&s);
  tiny_close(&t);
}

static int32_t destroy_in_write(void* user, const char* name, uint64_t offset, const void* data,
                                size_t size) {
  storage* s = user;
  (void)name, (void)offset, (void)data, (void)size;
  qft_session_destroy(s->session);
  s->wrong += qft_session_abandon_step(s->session, NULL) != QFT_ERROR_STALE;
  ++s->calls;
  return 0;
}

/* A callback destroys the session whose states it is given. */
static void session_destroyed_by_the_sink(void) {
  for (int round = 0; round < 20; ++round) {
    tiny t;
    storage s;
    qft_event* event = NULL;
    memset(&s, 0, sizeof(s));
    if (!tiny_open(&t, "snapshot=host")) return;
    s.session = t.session;
    qft_checkpoint_sink sink = sink_of(&s);
    sink.write = destroy_in_write;
    REQUIRE_OK(qft_session_save_to_sink_begin(t.session, &sink, NULL, 0, &event, &error));
    if (round % 2 == 0) tiny_close(&t);
    EXPECT_CODE(QFT_ERROR_CANCELLED, qft_event_wait(event, LONG_MS, &error));
    EXPECT(s.calls > 0 && s.wrong == 0);
    qft_event_destroy(event);
    if (round % 2 != 0) tiny_close(&t);
  }
}

int main(int argc, char** argv) {
  char command[64];
  if (mkdtemp(g_folder) == NULL) return 1;
  RUN(begin_misused);
  RUN(events);
  RUN(second_save);
  RUN(without_snapshot);
  RUN(failing_save);
  RUN(session_destroyed_first);
  RUN(event_destroyed_first);
  RUN(cancelled_while_waiting);
  RUN(own_storage);
  RUN(own_storage_in_the_background);
  RUN(refusing_storage);
  RUN(session_destroyed_by_the_sink);
  snprintf(command, sizeof(command), "rm -r %s", g_folder);
  EXPECT(system(command) == 0);
  FINISH();
}
