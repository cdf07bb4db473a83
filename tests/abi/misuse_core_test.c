/* Misuse of version, error, config and event functions. */
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

static void versions(void) {
  EXPECT(qft_abi_version() == QFT_ABI_VERSION);
  EXPECT(strcmp(qft_version_string(), "0.1.0") == 0);
  EXPECT(strstr(qft_build_info(), "\"version\":\"0.1.0\"") != NULL);
  EXPECT(strstr(qft_build_info(), "\"engines\":[\"cpu\"") != NULL);

  EXPECT_OK(qft_check_abi(QFT_ABI_VERSION, &error));
  EXPECT_OK(qft_check_abi(QFT_ABI_VERSION + 7, &error)); /* another patch level */
  EXPECT_CODE(QFT_ERROR_UNSUPPORTED, qft_check_abi(2000, &error));
  EXPECT_CODE(QFT_ERROR_UNSUPPORTED, qft_check_abi(0, &error));
  EXPECT_CODE(QFT_ERROR_UNSUPPORTED, qft_check_abi(1001000, &error));

  qft_error* error = NULL;
  EXPECT(qft_check_abi(3004, &error) == QFT_ERROR_UNSUPPORTED);
  EXPECT(strstr(qft_error_message(error), "0.3.4") != NULL);
  EXPECT(strstr(qft_error_message(error), "0.1.0") != NULL);
  EXPECT(strstr(qft_error_message(error), "/") != NULL); /* the path of the library */
  qft_error_destroy(error);
  EXPECT(qft_check_abi(3004, NULL) == QFT_ERROR_UNSUPPORTED);
}

static void errors(void) {
  EXPECT(strcmp(qft_status_name(QFT_OK), "QFT_OK") == 0);
  EXPECT(strcmp(qft_status_name(QFT_ERROR_SHAPE), "QFT_ERROR_SHAPE") == 0);
  EXPECT(strcmp(qft_status_name(QFT_ERROR_POISONED), "QFT_ERROR_POISONED") == 0);
  EXPECT(strcmp(qft_status_name(-1), "QFT_ERROR_UNKNOWN") == 0);
  EXPECT(strcmp(qft_status_name(1999), "QFT_ERROR_UNKNOWN") == 0);

  qft_error* made = NULL;
  EXPECT(qft_error_create(QFT_ERROR_IO, "disk gone and more", 9, 5, &made) == QFT_ERROR_IO);
  EXPECT(qft_error_code(made) == QFT_ERROR_IO);
  EXPECT(strcmp(qft_error_message(made), "disk gone") == 0);
  EXPECT(strcmp(qft_error_category(made), "io") == 0);
  EXPECT(qft_error_native_code(made) == 5);
  EXPECT(qft_error_rank(made) == 0);
  qft_error_destroy(made);
  qft_error_destroy(made);
  EXPECT(qft_error_code(made) == QFT_ERROR_STALE);
  EXPECT(strcmp(qft_error_message(made), "") == 0);
  EXPECT(strcmp(qft_error_category(made), "state") == 0);
  EXPECT(qft_error_native_code(made) == 0);

  EXPECT(qft_error_create(QFT_ERROR_IO, "x", 1, 0, NULL) == QFT_ERROR_INVALID_ARGUMENT);
  EXPECT_NULL_REFUSED(qft_error_create(QFT_ERROR_IO, NULL, 1, 0, &error));
  EXPECT_NULL_REFUSED(qft_error_create(QFT_OK, "x", 1, 0, &error));
  EXPECT_NULL_REFUSED(qft_error_create(-5, "x", 1, 0, &error));
  EXPECT_NULL_REFUSED(qft_error_create(8000, "x", 1, 0, &error));
  EXPECT(qft_error_create(QFT_ERROR_IO, NULL, 0, 0, &made) == QFT_ERROR_IO);
  EXPECT(strcmp(qft_error_message(made), "") == 0);
  qft_error_destroy(made);

  EXPECT(qft_error_code(NULL) == QFT_ERROR_STALE);
  EXPECT(strcmp(qft_error_message(NULL), "") == 0);
  EXPECT(qft_error_native_code(NULL) == 0);
  EXPECT(qft_error_rank(NULL) == 0);
  qft_error_destroy(NULL);
}

static void config_nulls(void) {
  qft_config* config = NULL;
  size_t needed = 0;
  char buffer[8];
  EXPECT_NULL_REFUSED(qft_config_create(NULL, &error));
  EXPECT(qft_config_create(NULL, NULL) == QFT_ERROR_INVALID_ARGUMENT);
  REQUIRE_OK(qft_config_create(&config, &error));
  qft_config_destroy(NULL);

  EXPECT_NULL_REFUSED(qft_config_set_string(NULL, TEXT("engine"), TEXT("cpu"), &error));
  EXPECT_NULL_REFUSED(qft_config_set_string(config, NULL, 6, TEXT("cpu"), &error));
  EXPECT_NULL_REFUSED(qft_config_set_string(config, TEXT("engine"), NULL, 3, &error));
  EXPECT_NULL_REFUSED(qft_config_set_int(NULL, TEXT("seed"), 1, &error));
  EXPECT_NULL_REFUSED(qft_config_set_int(config, NULL, 4, 1, &error));
  EXPECT_NULL_REFUSED(qft_config_set_float(NULL, TEXT("beta1"), 0.5, &error));
  EXPECT_NULL_REFUSED(qft_config_set_float(config, NULL, 5, 0.5, &error));
  EXPECT_NULL_REFUSED(qft_config_set_text(NULL, TEXT("seed"), TEXT("1"), &error));
  EXPECT_NULL_REFUSED(qft_config_set_text(config, NULL, 4, TEXT("1"), &error));
  EXPECT_NULL_REFUSED(qft_config_set_text(config, TEXT("seed"), NULL, 1, &error));
  EXPECT_NULL_REFUSED(qft_config_add_group(NULL, TEXT("*"), 1.0, -1.0, 0, &error));
  EXPECT_NULL_REFUSED(qft_config_add_group(config, NULL, 1, 1.0, -1.0, 0, &error));
  EXPECT_NULL_REFUSED(qft_config_to_json(NULL, buffer, sizeof(buffer), &needed, &error));
  EXPECT_NULL_REFUSED(qft_config_to_json(config, NULL, 8, &needed, &error));
  EXPECT_NULL_REFUSED(qft_config_to_json(config, buffer, sizeof(buffer), NULL, &error));
  qft_config_destroy(config);
}

static void config_keys_and_ranges(void) {
  qft_config* config = NULL;
  REQUIRE_OK(qft_config_create(&config, &error));
  EXPECT_CODE(QFT_ERROR_UNKNOWN_KEY,
              qft_config_set_string(config, TEXT("motor"), TEXT("cpu"), &error));
  EXPECT_CODE(QFT_ERROR_UNKNOWN_KEY, qft_config_set_int(config, TEXT(""), 1, &error));
  EXPECT_CODE(QFT_ERROR_UNKNOWN_KEY, qft_config_set_int(config, NULL, 0, 1, &error));
  EXPECT_CODE(QFT_ERROR_UNKNOWN_KEY, qft_config_set_int(config, TEXT("seed\0"), 1, &error));
  EXPECT_CODE(QFT_ERROR_UNKNOWN_KEY, qft_config_set_float(config, TEXT("beta3"), 0.5, &error));
  EXPECT_CODE(QFT_ERROR_UNKNOWN_KEY, qft_config_set_text(config, TEXT("x"), TEXT("1"), &error));
  EXPECT_NULL_REFUSED(qft_config_set_int(config, TEXT("engine"), 1, &error));
  EXPECT_NULL_REFUSED(qft_config_set_int(config, TEXT("beta1"), 0, &error));
  EXPECT_NULL_REFUSED(qft_config_set_string(config, TEXT("seed"), TEXT("1"), &error));
  EXPECT_NULL_REFUSED(qft_config_set_float(config, TEXT("seed"), 1.0, &error));
  EXPECT_NULL_REFUSED(qft_config_set_text(config, TEXT("seed"), TEXT("one"), &error));
  EXPECT_NULL_REFUSED(qft_config_set_text(config, TEXT("engine"), TEXT("\xff"), &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_config_set_string(config, TEXT("engine"), TEXT("tpu"), &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_config_set_string(config, TEXT("engine"), NULL, 0, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_config_set_int(config, TEXT("threads"), -1, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_config_set_int(config, TEXT("threads"), 1025, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_config_set_float(config, TEXT("beta1"), 1.0, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_config_set_text(config, TEXT("beta1"), TEXT("nan"), &error));
  EXPECT_NULL_REFUSED(qft_config_add_group(config, TEXT(""), 1.0, -1.0, 0, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_config_add_group(config, TEXT("*"), -1.0, 0.0, 0, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_config_add_group(config, TEXT("*"), 1.0, 2.0, 0, &error));

  EXPECT_OK(qft_config_set_string(config, TEXT("rounding"), TEXT("nearest"), &error));
  EXPECT_OK(qft_config_set_int(config, TEXT("threads"), 3, &error));
  EXPECT_OK(qft_config_set_float(config, TEXT("beta1"), 0.5, &error));
  EXPECT_OK(qft_config_set_text(config, TEXT("seed"), TEXT("42"), &error));
  EXPECT_OK(qft_config_add_group(config, TEXT("*norm*"), 0.5, -1.0, 1, &error));
  char json[4096];
  size_t needed = 0;
  EXPECT_OK(qft_config_to_json(config, json, sizeof(json), &needed, &error));
  EXPECT(needed == strlen(json));
  EXPECT(strstr(json, "\"rounding\":\"nearest\"") != NULL);
  EXPECT(strstr(json, "\"threads\":3") != NULL);
  EXPECT(strstr(json, "\"beta1\":0.5") != NULL);
  EXPECT(strstr(json, "\"seed\":42") != NULL);
  EXPECT(strstr(json, "\"pattern\":\"*norm*\"") != NULL);
  size_t again = 0;
  EXPECT_OK(qft_config_to_json(config, NULL, 0, &again, &error));
  EXPECT(again == needed);
  char small[5] = "####";
  EXPECT_OK(qft_config_to_json(config, small, sizeof(small), &again, &error));
  EXPECT(again == needed && strlen(small) == 4 && memcmp(small, json, 4) == 0);
  EXPECT(strstr(qft_config_describe(), "\"key\":\"threads\"") != NULL);
  EXPECT(qft_config_describe() == qft_config_describe());
  qft_config_destroy(config);
}

static void config_handles(void) {
  qft_config* config = NULL;
  char buffer[16];
  size_t needed = 0;
  int local = 0;
  qft_error* other = NULL;
  REQUIRE_OK(qft_config_create(&config, &error));
  qft_error_create(QFT_ERROR_IO, "x", 1, 0, &other);
  EXPECT_NULL_REFUSED(qft_config_set_int((qft_config*)(void*)other, TEXT("seed"), 1, &error));
  EXPECT(qft_error_code((qft_error*)(void*)config) == QFT_ERROR_STALE);
  qft_config_destroy((qft_config*)(void*)other);
  qft_error_destroy((qft_error*)(void*)config);
  EXPECT(qft_error_code(other) == QFT_ERROR_IO);
  EXPECT_OK(qft_config_set_int(config, TEXT("seed"), 1, &error));
  EXPECT_CODE(QFT_ERROR_STALE,
              qft_config_set_int((qft_config*)(void*)&local, TEXT("seed"), 1, &error));
  qft_config_destroy((qft_config*)(void*)&local);
  qft_error_destroy(other);

  qft_config_destroy(config);
  qft_config_destroy(config);
  EXPECT_CODE(QFT_ERROR_STALE, qft_config_set_int(config, TEXT("seed"), 1, &error));
  EXPECT_CODE(QFT_ERROR_STALE, qft_config_to_json(config, buffer, sizeof(buffer), &needed, &error));
  EXPECT(qft_config_to_json(config, buffer, sizeof(buffer), &needed, NULL) == QFT_ERROR_STALE);
}

static void config_in_a_forked_child(void) {
  qft_config* config = NULL;
  qft_error* before = NULL;
  int status = -1;
  REQUIRE_OK(qft_config_create(&config, &error));
  qft_error_create(QFT_ERROR_IO, "x", 1, 0, &before);
  fflush(NULL);
  const pid_t child = fork();
  if (child == 0) {
    g_failures = 0;
    EXPECT_CODE(QFT_ERROR_FORKED, qft_config_set_int(config, TEXT("seed"), 1, &error));
    EXPECT(qft_error_code(before) == QFT_ERROR_FORKED);
    EXPECT(strcmp(qft_error_message(before), "") == 0);
    qft_error_destroy(before);
    qft_config_destroy(config);
    EXPECT_CODE(QFT_ERROR_FORKED, qft_config_set_int(config, TEXT("seed"), 1, &error));
    qft_config* own = NULL;
    EXPECT_OK(qft_config_create(&own, &error));
    EXPECT_OK(qft_config_set_int(own, TEXT("seed"), 1, &error));
    qft_config_destroy(own);
    EXPECT_CODE(QFT_ERROR_STALE, qft_config_set_int(own, TEXT("seed"), 1, &error));
    _exit(g_failures == 0 ? 0 : 1);
  }
  EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_OK(qft_config_set_int(config, TEXT("seed"), 1, &error));
  EXPECT(qft_error_code(before) == QFT_ERROR_IO);
  qft_error_destroy(before);
  qft_config_destroy(config);
}

static void events(void) {
  int32_t done = 0;
  int local = 0;
  qft_event* made_up = (qft_event*)(void*)&local;
  EXPECT_NULL_REFUSED(qft_event_poll(NULL, &done, &error));
  EXPECT_NULL_REFUSED(qft_event_poll(made_up, NULL, &error));
  EXPECT_NULL_REFUSED(qft_event_wait(NULL, 1, &error));
  EXPECT_NULL_REFUSED(qft_event_cancel(NULL, &error));
  EXPECT_CODE(QFT_ERROR_STALE, qft_event_poll(made_up, &done, &error));
  EXPECT_CODE(QFT_ERROR_STALE, qft_event_wait(made_up, 1, &error));
  EXPECT_CODE(QFT_ERROR_STALE, qft_event_cancel(made_up, &error));
  EXPECT_NULL_REFUSED(qft_session_step_async(NULL, NULL, NULL, 0, NULL, NULL, &error));
  qft_event_destroy(NULL);
  qft_event_destroy(made_up);
}

int main(int argc, char** argv) {
  RUN(versions);
  RUN(errors);
  RUN(config_nulls);
  RUN(config_keys_and_ranges);
  RUN(config_handles);
  RUN(config_in_a_forked_child);
  RUN(events);
  FINISH();
}
