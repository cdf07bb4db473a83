#include "runtime/c_api/boundary.h"

#include <gtest/gtest.h>

#include <cstring>
#include <stdexcept>
#include <string>

namespace qft {
namespace {

using namespace std::string_literals;

TEST(Guard, ConvertsStatusesAndExceptions) {
  qft_error* error = nullptr;
  EXPECT_EQ(Guard(&error, [] { return absl::OkStatus(); }), QFT_OK);
  EXPECT_EQ(error, nullptr);

  EXPECT_EQ(Guard(&error, [] { return MakeError(ErrorCode::kNoSpace, "disk full", 28); }),
            QFT_ERROR_NO_SPACE);
  EXPECT_EQ(qft_error_code(error), QFT_ERROR_NO_SPACE);
  EXPECT_STREQ(qft_error_message(error), "disk full");
  EXPECT_STREQ(qft_error_category(error), "io");
  EXPECT_EQ(qft_error_native_code(error), 28);
  EXPECT_EQ(qft_error_rank(error), 0);
  qft_error_destroy(error);
  EXPECT_EQ(qft_error_code(error), QFT_ERROR_STALE);
  EXPECT_STREQ(qft_error_message(error), "");

  EXPECT_EQ(Guard(&error, []() -> Status { throw std::bad_alloc(); }), QFT_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(qft_error_code(error), QFT_ERROR_OUT_OF_MEMORY);
  qft_error_destroy(error);
  EXPECT_EQ(Guard(&error, []() -> Status { throw std::runtime_error("ouch"); }),
            QFT_ERROR_INTERNAL);
  EXPECT_STREQ(qft_error_message(error), "ouch");
  qft_error_destroy(error);
  EXPECT_EQ(Guard(&error, []() -> Status { throw 7; }), QFT_ERROR_INTERNAL);
  qft_error_destroy(error);

  EXPECT_EQ(Guard(nullptr, [] { return BadData("no"); }), QFT_ERROR_BAD_DATA);
  EXPECT_EQ(Guard(nullptr, []() -> Status { throw 7; }), QFT_ERROR_INTERNAL);
  EXPECT_EQ(Guard(nullptr, []() -> Status { throw std::bad_alloc(); }), QFT_ERROR_OUT_OF_MEMORY);
}

TEST(Error, MessagesAreOneLineOfUtf8) {
  qft_error* error = nullptr;
  const std::string message = "a\nb\0c\xff\xc3\xa9\xe2\x82"s;
  EXPECT_EQ(qft_error_create(QFT_ERROR_IO, message.data(), message.size(), 0, &error),
            QFT_ERROR_IO);
  EXPECT_STREQ(qft_error_message(error), "a b c?\xc3\xa9??");
  qft_error_destroy(error);
}

TEST(ReadBytes, NullOnlyWithoutLength) {
  EXPECT_EQ(*ReadBytes("blob", nullptr, 0), "");
  EXPECT_EQ(ReadBytes("blob", nullptr, 1).status().message(), "blob is NULL");
  EXPECT_FALSE(ReadBytes("blob", "x", SIZE_MAX).ok());
  EXPECT_EQ(*ReadBytes("blob", "xyz", 2), "xy");
}

TEST(ReadUtf8, RefusesWhatIsNotUtf8) {
  const std::string good = "a\0\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf"s;
  EXPECT_EQ(*ReadUtf8("key", good.data(), good.size()), good);
  for (const char* bad : {"\x80", "\xc0\xaf", "\xc1\x81", "\xe0\x80\x80", "\xed\xa0\x80",
                          "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3",
                          "\xe2\x82", "\xf0\x9f\x98", "\xff", "\xc3(", "\xe2\x28\xa1"}) {
    const std::string text = "ok"s + bad;
    const auto read = ReadUtf8("key", text.data(), text.size());
    EXPECT_EQ(read.status().message(), "key is not UTF-8 at byte 2") << text;
  }
}

TEST(ReadPath, RefusesEmptyAndNul) {
  EXPECT_EQ(*ReadPath("path", "a/b", 3), "a/b");
  EXPECT_FALSE(ReadPath("path", "", 0).ok());
  EXPECT_FALSE(ReadPath("path", "a\0b", 3).ok());
}

TEST(CopyOut, CutsBetweenCharactersAndTerminates) {
  char buffer[16];
  size_t needed = 0;
  ASSERT_TRUE(CopyOut("hello", nullptr, 0, &needed).ok());
  EXPECT_EQ(needed, 5u);
  ASSERT_TRUE(CopyOut("hello", buffer, 6, &needed).ok());
  EXPECT_STREQ(buffer, "hello");
  std::memset(buffer, '#', sizeof(buffer));
  ASSERT_TRUE(CopyOut("hello", buffer, 3, &needed).ok());
  EXPECT_STREQ(buffer, "he");
  EXPECT_EQ(buffer[3], '#');
  EXPECT_EQ(needed, 5u);
  ASSERT_TRUE(CopyOut("hello", buffer, 1, &needed).ok());
  EXPECT_STREQ(buffer, "");

  const std::string wide = "a\xe2\x82\xac\xc3\xa9";
  const char* expected[] = {
      "", "a", "a", "a", "a\xe2\x82\xac", "a\xe2\x82\xac", "a\xe2\x82\xac\xc3\xa9"};
  for (size_t capacity = 1; capacity <= 7; ++capacity) {
    ASSERT_TRUE(CopyOut(wide, buffer, capacity, &needed).ok());
    EXPECT_STREQ(buffer, expected[capacity - 1]) << capacity;
  }
  EXPECT_FALSE(CopyOut("x", nullptr, 4, &needed).ok());
  EXPECT_FALSE(CopyOut("x", buffer, 4, nullptr).ok());
}

TEST(CopyOutArray, CopiesWhatFits) {
  const int32_t values[] = {1, 2, 3};
  int32_t buffer[3] = {9, 9, 9};
  size_t needed = 0;
  ASSERT_TRUE(CopyOutArray<int32_t>(values, 3, nullptr, 0, &needed).ok());
  EXPECT_EQ(needed, 3u);
  ASSERT_TRUE(CopyOutArray(values, 3, buffer, 2, &needed).ok());
  EXPECT_EQ(buffer[1], 2);
  EXPECT_EQ(buffer[2], 9);
  EXPECT_FALSE(CopyOutArray<int32_t>(values, 3, nullptr, 2, &needed).ok());
}

}  // namespace
}  // namespace qft
