// A session that is saved and checkpoints that are loaded again.
#pragma once

#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>

#include "runtime/checkpoint.h"
#include "tests/runtime/session/tiny_session.h"

namespace qft {

inline std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

inline ErrorCode CodeOf(const Status& status) {
  return GetErrorInfo(status).code;
}

inline bool Exists(const std::string& path) {
  return std::filesystem::exists(path);
}

class CheckpointTest : public FolderTest {
 protected:
  CheckpointTest() : model_(TinyModel()), session_(OpenTiny(model_)) {}

  // Trains to the given step and saves there.
  void SaveAt(int64_t step, const std::string& blob = {}) {
    while (session_->step() < step) StepTiny(*session_, static_cast<int>(session_->step()));
    ASSERT_EQ(SaveTo(*session_, fs_, folder_, blob), absl::OkStatus());
    hashes_[step] = HashOf(*session_);
  }
  // Opens, restores into a new session and compares to what was saved at that step.
  void ExpectRestores(int64_t step, const std::string& warning_part = {}) {
    const auto checkpoint = OpenCheckpoint(fs_, folder_);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_EQ(checkpoint->step, step);
    if (warning_part.empty()) {
      EXPECT_EQ(checkpoint->warning, "");
    } else {
      EXPECT_NE(checkpoint->warning.find(warning_part), std::string::npos) << checkpoint->warning;
    }
    const auto fresh = OpenTiny(model_);
    ASSERT_EQ(RestoreCheckpoint(*fresh, fs_, *checkpoint), absl::OkStatus());
    EXPECT_EQ(HashOf(*fresh), hashes_.at(step));
    EXPECT_EQ(fresh->step(), step);
  }

  FileSystem& fs_ = PosixFileSystem();
  std::shared_ptr<const Model> model_;
  std::unique_ptr<Session> session_;
  std::map<int64_t, std::string> hashes_;
};

}  // namespace qft
