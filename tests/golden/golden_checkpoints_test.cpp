// Checkpoints of every format version load, on every engine, to the bits that were saved.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/golden/golden_checkpoints.h"

namespace qft {
namespace {

const std::filesystem::path kVersion2 = std::filesystem::path(QFT_GOLDEN) / "checkpoint_v2";

// Opens, compares step and blob, restores.
void Load(const std::string& path, TestSession& session) {
  qft_checkpoint* checkpoint = nullptr;
  const char* warning = nullptr;
  Must([&](qft_error** e) {
    return qft_checkpoint_open(path.data(), path.size(), &checkpoint, &warning, e);
  });
  const void* blob = nullptr;
  size_t length = 0;
  Must([&](qft_error** e) { return qft_checkpoint_get_blob(checkpoint, &blob, &length, e); });
  EXPECT_EQ(std::string(static_cast<const char*>(blob), length), kGoldenBlob);
  EXPECT_STREQ(warning, "");
  Must([&](qft_error** e) { return qft_session_restore(session.handle(), checkpoint, e); });
  qft_checkpoint_destroy(checkpoint);
}

TEST(GoldenCheckpoints, LoadForEver) {
  std::ifstream file(kVersion2 / "hashes.json");
  const nlohmann::json hashes = nlohmann::json::parse(file);
  EXPECT_EQ(hashes.size(), GoldenCheckpoints().size());
  for (const GoldenCheckpoint& golden : GoldenCheckpoints()) {
    SCOPED_TRACE(golden.name);
    const TestModel model(golden.shape, 8);
    TestSession session(model, golden.settings, golden.groups);
    const std::string hash = hashes.at(golden.name);
    EXPECT_NE(session.Hash(), hash);
    Load((kVersion2 / golden.name).string(), session);
    EXPECT_EQ(session.Hash(), hash);
    EXPECT_EQ(session.Metrics().step, kGoldenStep);
    // What was loaded trains.
    const qft_step_result step =
        session.Step({RandomBatch(golden.shape.vocabulary, {30}, 9)}, 2e-3);
    EXPECT_EQ(step.step, kGoldenStep + 1);
    EXPECT_EQ(step.skipped, 0);
  }
}

}  // namespace
}  // namespace qft
