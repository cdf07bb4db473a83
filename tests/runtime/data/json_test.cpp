#include "runtime/data/json.h"

#include <gtest/gtest.h>

namespace qft {
namespace {

std::string Nested(int depth) {
  return std::string(depth, '[') + std::string(depth, ']');
}

TEST(Json, ParsesValues) {
  const auto value = ParseJson(R"({"a": [1, -2, 3.5, "x\"}", null], "b": {"a": true}})", "text");
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ((*value)["a"][3], "x\"}");
  EXPECT_EQ((*value)["b"]["a"], true);
}

TEST(Json, RefusesWhatIsNoJson) {
  for (const char* text :
       {"", " ", "{", "}", "{\"a\"}", "[1,]", "nul", "\"\xff\"", "{} {}", "01"}) {
    const auto value = ParseJson(text, "the file");
    ASSERT_FALSE(value.ok()) << text;
    EXPECT_EQ(GetErrorInfo(value.status()).code, ErrorCode::kCorrupt) << text;
    EXPECT_NE(value.status().message().find("the file"), absl::string_view::npos);
  }
}

TEST(Json, RefusesAZeroByteEvenAfterAValue) {
  EXPECT_TRUE(ParseJson("{}", "text").ok());
  EXPECT_FALSE(ParseJson(std::string_view("{}\0x", 4), "text").ok());
}

TEST(Json, LimitsNesting) {
  EXPECT_TRUE(ParseJson(Nested(kMaxJsonDepth), "text").ok());
  EXPECT_FALSE(ParseJson(Nested(kMaxJsonDepth + 1), "text").ok());
  EXPECT_FALSE(ParseJson(std::string(8'000'000, '['), "text").ok());
  EXPECT_TRUE(ParseJson("\"" + std::string(1000, '[') + "\\\"[\"", "text").ok());
}

TEST(Json, RefusesDuplicateKeysOfOneObjectOnly) {
  EXPECT_TRUE(ParseJson(R"({"a": {"a": 1}, "b": [{"a": 1}, {"a": 1}]})", "text").ok());
  const auto top = ParseJson(R"({"key": 1, "b": {}, "key": 1})", "text");
  ASSERT_FALSE(top.ok());
  EXPECT_NE(top.status().message().find("key"), absl::string_view::npos);
  EXPECT_FALSE(ParseJson(R"([{"b": {"a": [], "a": 1}}])", "text").ok());
}

}  // namespace
}  // namespace qft
