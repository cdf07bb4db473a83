#include "runtime/c_api/struct_size.h"

#include <gtest/gtest.h>

#include <array>

namespace qft {
namespace {

struct Options {
  uint64_t struct_size;
  int64_t first;
  int64_t second;
};

struct NewerOptions {
  Options known;
  int64_t third;
  int64_t fourth;
};

ErrorCode CodeOf(const Status& status) {
  return GetErrorInfo(status).code;
}

TEST(ReadStruct, ExtendsSmallerByZeros) {
  const Options in{sizeof(uint64_t) * 2, 5, 7};
  const auto read = ReadStruct("options", &in);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->first, 5);
  EXPECT_EQ(read->second, 0);
  EXPECT_EQ(read->struct_size, sizeof(Options));

  const Options bare{sizeof(uint64_t), 5, 7};
  EXPECT_EQ(ReadStruct("options", &bare)->first, 0);
}

TEST(ReadStruct, TakesLargerOnlyWithZeroTail) {
  NewerOptions in{{sizeof(NewerOptions), 5, 7}, 0, 0};
  const auto read = ReadStruct("options", &in.known);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->second, 7);
  in.fourth = int64_t{1} << 16;
  const auto refused = ReadStruct("options", &in.known);
  EXPECT_EQ(CodeOf(refused.status()), ErrorCode::kStructSize);
  EXPECT_NE(refused.status().message().find("byte 34"), absl::string_view::npos)
      << refused.status().message();
}

TEST(ReadStruct, RefusesNullAndAbsurdSizes) {
  EXPECT_EQ(CodeOf(ReadStruct<Options>("options", nullptr).status()), ErrorCode::kInvalidArgument);
  for (const uint64_t size :
       {uint64_t{0}, uint64_t{4}, uint64_t{17}, uint64_t{65544}, UINT64_MAX}) {
    const Options in{size, 0, 0};
    EXPECT_EQ(CodeOf(ReadStruct("options", &in).status()), ErrorCode::kStructSize) << size;
    Options out{size, 3, 3};
    EXPECT_EQ(CodeOf(CheckOutStruct("options", &out)), ErrorCode::kStructSize) << size;
    EXPECT_EQ(CodeOf(WriteStruct("options", &out, Options{0, 1, 2})), ErrorCode::kStructSize);
    EXPECT_EQ(out.first, 3);
  }
}

TEST(ReadStructs, StepsByTheCallersSize) {
  std::array<NewerOptions, 2> in{
      {{{sizeof(NewerOptions), 1, 2}, 0, 0}, {{sizeof(NewerOptions), 3, 4}, 0, 0}}};
  const auto read = ReadStructs("options", &in[0].known, 2, 8);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ((*read)[0].second, 2);
  EXPECT_EQ((*read)[1].first, 3);
  EXPECT_EQ(StructAt(&in[0].known, 1), &in[1].known);

  in[1].known.struct_size = sizeof(Options);
  EXPECT_EQ(CodeOf(ReadStructs("options", &in[0].known, 2, 8).status()), ErrorCode::kStructSize);
  EXPECT_EQ(CodeOf(ReadStructs("options", &in[0].known, -1, 8).status()), ErrorCode::kOutOfRange);
  EXPECT_EQ(CodeOf(ReadStructs("options", &in[0].known, 9, 8).status()), ErrorCode::kOutOfRange);
  EXPECT_EQ(CodeOf(ReadStructs<Options>("options", nullptr, 1, 8).status()),
            ErrorCode::kInvalidArgument);
  EXPECT_TRUE(ReadStructs<Options>("options", nullptr, 0, 8)->empty());
}

TEST(WriteStruct, FillsWhatTheCallerHasRoomFor) {
  Options small{sizeof(uint64_t) * 2, -1, -1};
  ASSERT_TRUE(WriteStruct("result", &small, Options{0, 5, 7}).ok());
  EXPECT_EQ(small.struct_size, sizeof(uint64_t) * 2);
  EXPECT_EQ(small.first, 5);
  EXPECT_EQ(small.second, -1);

  NewerOptions large{{sizeof(NewerOptions), -1, -1}, -1, -1};
  ASSERT_TRUE(WriteStruct("result", &large.known, Options{0, 5, 7}).ok());
  EXPECT_EQ(large.known.struct_size, sizeof(NewerOptions));
  EXPECT_EQ(large.known.second, 7);
  EXPECT_EQ(large.third, 0);
  EXPECT_EQ(large.fourth, 0);
  EXPECT_EQ(CodeOf(WriteStruct<Options>("result", nullptr, Options{})),
            ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace qft
