/* A small test harness in C99, so that the interface is tested as C callers meet it. */
#ifndef QFT_TESTS_ABI_HARNESS_H
#define QFT_TESTS_ABI_HARNESS_H

#include <stdio.h>
#include <string.h>

#include "qft_c.h"

static int g_failures = 0;
static int g_checks = 0;

#define EXPECT(condition)                                             \
  do {                                                                \
    ++g_checks;                                                       \
    if (!(condition)) {                                               \
      ++g_failures;                                                   \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
    }                                                                 \
  } while (0)

/* `call` must use the variable `error`; a failure must come with an error object that agrees, a
 * success with none. */
#define EXPECT_CODE(expected, call)                                   \
  do {                                                                \
    qft_error* error = NULL;                                          \
    const qft_status status_ = (call);                                \
    expect_code(__FILE__, __LINE__, #call, expected, status_, error); \
  } while (0)

#define EXPECT_OK(call) EXPECT_CODE(QFT_OK, call)
#define EXPECT_NULL_REFUSED(call) EXPECT_CODE(QFT_ERROR_INVALID_ARGUMENT, call)

/* Ends the test where going on makes no sense. */
#define REQUIRE_OK(call)               \
  do {                                 \
    const int before_ = g_failures;    \
    EXPECT_OK(call);                   \
    if (g_failures != before_) return; \
  } while (0)

static void expect_code(const char* file, int line, const char* call, qft_status expected,
                        qft_status status, qft_error* error) {
  int agrees = status == expected;
  ++g_checks;
  if (status == QFT_OK) {
    agrees = agrees && error == NULL;
  } else {
    agrees = agrees && error != NULL && qft_error_code(error) == status &&
             qft_error_message(error)[0] != '\0';
  }
  if (!agrees) {
    ++g_failures;
    fprintf(stderr, "%s:%d: %s\n  expected %s, got %s: %s\n", file, line, call,
            qft_status_name(expected), qft_status_name(status),
            error != NULL ? qft_error_message(error) : "no error object");
  }
  qft_error_destroy(error);
}

/* Runs a test alone, or all if the program has no argument. */
#define RUN(name)                                                            \
  do {                                                                       \
    if (argc < 2 || strcmp(argv[1], #name) == 0) {                           \
      const int before_ = g_failures;                                        \
      name();                                                                \
      printf("%s %s\n", g_failures == before_ ? "ok    " : "FAILED", #name); \
      fflush(stdout);                                                        \
    }                                                                        \
  } while (0)

#define FINISH()                                              \
  do {                                                        \
    printf("%d checks, %d failures\n", g_checks, g_failures); \
    return g_failures == 0 && g_checks > 0 ? 0 : 1;           \
  } while (0)

#define TEXT(literal) literal, (sizeof(literal) - 1)

#endif
