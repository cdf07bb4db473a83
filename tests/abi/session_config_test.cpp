#include "runtime/session_config.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

namespace qft {
namespace {

using Json = nlohmann::json;

ErrorCode CodeOf(const Status& status) {
  return GetErrorInfo(status).code;
}

TEST(SessionConfig, DescriptionDefaultsAndJsonAgree) {
  const Json description = Json::parse(DescribeSessionConfig());
  const Json defaults = Json::parse(SessionConfig().ToJson());
  std::set<std::string> keys;
  for (const Json& entry : description) {
    const std::string key = entry.at("key");
    EXPECT_TRUE(keys.insert(key).second) << key;
    EXPECT_EQ(entry.at("default"), defaults.at(key)) << key;
    EXPECT_FALSE(entry.at("meaning").get<std::string>().empty()) << key;
    EXPECT_EQ(entry.size(), 5u) << key;
  }
  EXPECT_EQ(keys, (std::set<std::string>{"engine",
                                         "threads",
                                         "arithmetic",
                                         "states",
                                         "gradients",
                                         "accumulation",
                                         "recompute",
                                         "mode",
                                         "rounding",
                                         "beta1",
                                         "beta2",
                                         "weight_decay",
                                         "clip_norm",
                                         "seed",
                                         "micro_batch_tokens",
                                         "micro_batches",
                                         "memory_limit",
                                         "critical_features",
                                         "residual_bits",
                                         "preset",
                                         "device",
                                         "snapshot",
                                         "momentum",
                                         "boundaries",
                                         "nvme_folders",
                                         "nvme_backend",
                                         "staging",
                                         "nvme_staging",
                                         "host_memory_limit"}));
  EXPECT_EQ(defaults.size(), keys.size() + 1);
  EXPECT_EQ(defaults.at("groups"), Json::array());
}

// Every key takes the ends of its range and every choice, and nothing beyond; a refused value
// changes nothing.
TEST(SessionConfig, EveryKeyKeepsItsRange) {
  for (const Json& entry : Json::parse(DescribeSessionConfig())) {
    const std::string key = entry.at("key");
    const std::string type = entry.at("type");
    const Json& range = entry.at("range");
    SessionConfig config;
    const auto value = [&] { return Json::parse(config.ToJson()).at(key); };
    if (type == "string" && !range.contains("choices")) {
      EXPECT_TRUE(config.SetString(key, "/a:/b").ok());
      EXPECT_EQ(value(), "/a:/b");
      EXPECT_TRUE(config.SetText(key, "").ok());
      EXPECT_EQ(value(), "");
      EXPECT_EQ(CodeOf(config.SetInt(key, 1)), ErrorCode::kInvalidArgument);
    } else if (type == "string") {
      for (const std::string choice : range.at("choices")) {
        EXPECT_TRUE(config.SetString(key, choice).ok());
        EXPECT_EQ(value(), choice);
        EXPECT_EQ(CodeOf(config.SetString(key, choice + "x")), ErrorCode::kOutOfRange);
        EXPECT_EQ(value(), choice);
      }
      EXPECT_EQ(CodeOf(config.SetInt(key, 1)), ErrorCode::kInvalidArgument);
      EXPECT_EQ(CodeOf(config.SetFloat(key, 1)), ErrorCode::kInvalidArgument);
    } else if (type == "int") {
      const int64_t minimum = range.at("minimum");
      const int64_t maximum = range.at("maximum");
      EXPECT_TRUE(config.SetInt(key, minimum).ok());
      EXPECT_EQ(CodeOf(config.SetInt(key, minimum - 1)), ErrorCode::kOutOfRange);
      EXPECT_EQ(value(), minimum);
      EXPECT_TRUE(config.SetInt(key, maximum).ok());
      if (maximum < std::numeric_limits<int64_t>::max()) {
        EXPECT_EQ(CodeOf(config.SetInt(key, maximum + 1)), ErrorCode::kOutOfRange);
      }
      EXPECT_EQ(value(), maximum);
      EXPECT_EQ(CodeOf(config.SetString(key, "1")), ErrorCode::kInvalidArgument);
      EXPECT_EQ(CodeOf(config.SetFloat(key, 1)), ErrorCode::kInvalidArgument);
    } else {
      ASSERT_EQ(type, "float");
      const double minimum = range.at("minimum");
      const bool open = range.contains("below");
      const double end = range.at(open ? "below" : "maximum");
      EXPECT_TRUE(config.SetFloat(key, minimum).ok());
      EXPECT_EQ(CodeOf(config.SetFloat(key, -1e-300)), ErrorCode::kOutOfRange);
      EXPECT_EQ(CodeOf(config.SetFloat(key, std::nan(""))), ErrorCode::kOutOfRange);
      EXPECT_EQ(CodeOf(config.SetFloat(key, INFINITY)), ErrorCode::kOutOfRange);
      EXPECT_EQ(value(), minimum);
      EXPECT_EQ(config.SetFloat(key, end).ok(), !open);
      EXPECT_TRUE(config.SetFloat(key, std::nextafter(end, 0.0)).ok());
      EXPECT_EQ(CodeOf(config.SetInt(key, 0)), ErrorCode::kInvalidArgument);
      EXPECT_EQ(CodeOf(config.SetString(key, "0")), ErrorCode::kInvalidArgument);
    }
  }
}

TEST(SessionConfig, APresetSetsWhatItStandsForAndLaterSettingsWin) {
  SessionConfig config;
  ASSERT_TRUE(config.SetString("preset", "paper").ok());
  EXPECT_EQ(config.arithmetic, Arithmetic::kFloat);
  EXPECT_EQ(config.rounding, Rounding::kNearest);
  EXPECT_EQ(config.residual_bits, 0);
  ASSERT_TRUE(config.SetString("arithmetic", "integer").ok());
  EXPECT_EQ(config.arithmetic, Arithmetic::kInteger);
  ASSERT_TRUE(config.SetString("preset", "default").ok());
  EXPECT_EQ(config.ToJson(), SessionConfig().ToJson());
}

TEST(SessionConfig, UnknownKeys) {
  SessionConfig config;
  for (const std::string key : {"", "Engine", "engine ", "groups", "learning_rate"}) {
    EXPECT_EQ(CodeOf(config.SetString(key, "cpu")), ErrorCode::kUnknownKey);
    EXPECT_EQ(CodeOf(config.SetInt(key, 1)), ErrorCode::kUnknownKey);
    EXPECT_EQ(CodeOf(config.SetFloat(key, 0.5)), ErrorCode::kUnknownKey);
    EXPECT_EQ(CodeOf(config.SetText(key, "1")), ErrorCode::kUnknownKey);
  }
}

TEST(SessionConfig, SetTextParsesByType) {
  SessionConfig config;
  EXPECT_TRUE(config.SetText("arithmetic", "float").ok());
  EXPECT_EQ(config.arithmetic, Arithmetic::kFloat);
  EXPECT_TRUE(config.SetText("rounding", "nearest").ok());
  EXPECT_EQ(config.rounding, Rounding::kNearest);
  EXPECT_TRUE(config.SetText("gradients", "fused").ok());
  EXPECT_EQ(config.gradients, GradientMode::kFused);
  EXPECT_TRUE(config.SetText("threads", "12").ok());
  EXPECT_EQ(config.threads, 12);
  EXPECT_TRUE(config.SetText("beta1", "5e-1").ok());
  EXPECT_EQ(config.beta1, 0.5);
  EXPECT_TRUE(config.SetText("seed", "9223372036854775807").ok());
  for (const char* bad : {"", " 1", "1 ", "1x", "0x10", "1.5", "one"}) {
    EXPECT_EQ(CodeOf(config.SetText("threads", bad)), ErrorCode::kInvalidArgument) << bad;
  }
  EXPECT_EQ(CodeOf(config.SetText("seed", "9223372036854775808")), ErrorCode::kOutOfRange);
  EXPECT_EQ(CodeOf(config.SetText("beta1", "nan")), ErrorCode::kOutOfRange);
  EXPECT_EQ(CodeOf(config.SetText("beta1", "0.5.")), ErrorCode::kInvalidArgument);
  EXPECT_EQ(config.threads, 12);
}

TEST(SessionConfig, Groups) {
  SessionConfig config;
  EXPECT_TRUE(config.AddGroup({"*norm*", 0.0, -1.0, true}).ok());
  EXPECT_TRUE(config.AddGroup({"lm_head.weight", 0.5, 0.25, false}).ok());
  EXPECT_EQ(CodeOf(config.AddGroup({"", 1.0, -1.0, false})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(config.AddGroup({"x", -0.1, -1.0, false})), ErrorCode::kOutOfRange);
  EXPECT_EQ(CodeOf(config.AddGroup({"x", INFINITY, -1.0, false})), ErrorCode::kOutOfRange);
  EXPECT_EQ(CodeOf(config.AddGroup({"x", std::nan(""), -1.0, false})), ErrorCode::kOutOfRange);
  EXPECT_EQ(CodeOf(config.AddGroup({"x", 1.0, 1.5, false})), ErrorCode::kOutOfRange);
  EXPECT_EQ(CodeOf(config.AddGroup({"x", 1.0, std::nan(""), false})), ErrorCode::kOutOfRange);
  EXPECT_EQ(Json::parse(config.ToJson()).at("groups"), Json::parse(R"([
    {"pattern": "*norm*", "learning_rate_factor": 0.0, "weight_decay": null, "frozen": true},
    {"pattern": "lm_head.weight", "learning_rate_factor": 0.5, "weight_decay": 0.25,
     "frozen": false}])"));
}

TEST(GlobMatch, Table) {
  struct Case {
    const char* pattern;
    const char* name;
    bool matches;
  };
  const Case cases[] = {
      {"", "", true},
      {"", "a", false},
      {"*", "", true},
      {"*", "abc", true},
      {"**", "abc", true},
      {"?", "", false},
      {"?", "a", true},
      {"?", "ab", false},
      {"a*c", "ac", true},
      {"a*c", "abbbc", true},
      {"a*c", "abcd", false},
      {"*a*b*", "xxaxxbxx", true},
      {"*a*b*", "xxbxxa", false},
      {"a?c*", "abc", true},
      {"*.weight", "x.weight", true},
      {"*.weight", "x.weights", false},
      {"model.layers.?.mlp.*", "model.layers.3.mlp.up", true},
      {"model.layers.?.mlp.*", "model.layers.13.mlp.up", false},
      {"abc", "abc", true},
      {"abc", "abcd", false},
      {"abcd", "abc", false},
      {"*ab", "aab", true},
      {"*aab", "aaaab", true},
      {"[a]", "a", false},
      {"*?", "", false},
      {"*?", "a", true},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(GlobMatch(c.pattern, c.name), c.matches) << c.pattern << " | " << c.name;
  }
}

TEST(GlobMatch, NeverTakesExponentialTime) {
  std::string pattern;
  for (int i = 0; i < 100; ++i) pattern += "a*";
  pattern += "b";
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(GlobMatch(pattern, std::string(10000, 'a')));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

}  // namespace
}  // namespace qft
