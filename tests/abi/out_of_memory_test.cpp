// Errors are reported even when there is no memory left for an error object.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>
#include <string>

#include "runtime/c_api/boundary.h"

namespace {
thread_local bool g_no_memory = false;
}  // namespace

void* operator new(size_t size) {
  void* memory = g_no_memory ? nullptr : std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace qft {
namespace {

TEST(OutOfMemory, StillGivesAnErrorObject) {
  Status full = MakeError(ErrorCode::kNoSpace, "disk full", 28);
  qft_error* error = nullptr;
  g_no_memory = true;
  const qft_status status = Guard(&error, [&] { return full; });
  const qft_status thrown =
      Guard(nullptr, []() -> Status { return BadData(std::string(99, 'x')); });
  g_no_memory = false;
  EXPECT_EQ(thrown, QFT_ERROR_OUT_OF_MEMORY);
  ASSERT_NE(error, nullptr);
  EXPECT_EQ(qft_error_code(error), status);
  EXPECT_STREQ(qft_error_message(error), "out of memory while making this error");
  EXPECT_NE(qft_error_category(error), nullptr);
  EXPECT_EQ(qft_error_native_code(error), 0);
  qft_error_destroy(error);
  qft_error_destroy(error);
  EXPECT_EQ(qft_error_code(error), status);
}

TEST(OutOfMemory, CreatedErrorsKeepTheirCode) {
  for (const qft_status code :
       {QFT_ERROR_INVALID_ARGUMENT, QFT_ERROR_BAD_DATA, QFT_ERROR_POISONED}) {
    qft_error* error = nullptr;
    g_no_memory = true;
    EXPECT_EQ(qft_error_create(code, "lost", 4, 0, &error), code);
    EXPECT_EQ(qft_error_code(error), code);
    g_no_memory = false;
    qft_error_destroy(error);
  }
}

}  // namespace
}  // namespace qft
