// Folders and memory for tests of a store, once for each backend.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "offload/request_queue.h"
#include "offload/store.h"

namespace qft {

// Aligned as transfers ask.
class Pages {
 public:
  explicit Pages(int64_t bytes, unsigned seed = 0)
      : bytes_(bytes),
        data_(static_cast<std::byte*>(
            ::operator new (static_cast<size_t>(bytes), std::align_val_t{kStoreAlignment}))) {
    std::minstd_rand random(seed + 1);
    for (int64_t i = 0; i < bytes; ++i) data_[i] = static_cast<std::byte>(random());
  }
  ~Pages() { ::operator delete (data_, std::align_val_t{kStoreAlignment}); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  int64_t bytes_;
  std::byte* data_;
};

inline ErrorCode CodeOf(const Status& status) {
  return GetErrorInfo(status).code;
}

class StoreTest : public ::testing::TestWithParam<StoreBackend> {
 protected:
  static constexpr int64_t kBlock = 64 << 10;

  // `parent` is where the folders of disks are made.
  explicit StoreTest(std::string parent = "/tmp") : folder_(std::move(parent)) {}

  void SetUp() override {
    folder_ += "/qft_store_test_XXXXXX";
    ASSERT_NE(mkdtemp(folder_.data()), nullptr);
    StoreOptions options = Options(1);
    const auto store = Store::Open(options);
    if (CodeOf(store.status()) == ErrorCode::kUnsupported) GTEST_SKIP() << store.status();
  }
  void TearDown() override { ASSERT_TRUE(RemoveTree(PosixFileSystem(), folder_).ok()); }

  StoreOptions Options(int folders) const {
    StoreOptions options;
    for (int i = 0; i < folders; ++i) {
      options.folders.push_back(JoinPath(folder_, "disk" + std::to_string(i)));
      EXPECT_TRUE(MakeDirectories(PosixFileSystem(), options.folders.back()).ok());
    }
    options.bytes = 64 * kBlock;
    options.block_bytes = kBlock;
    options.depth = 8;
    options.backend = GetParam();
    return options;
  }

  std::string folder_;
};

inline std::string BackendName(const ::testing::TestParamInfo<StoreBackend>& info) {
  return info.param == StoreBackend::kIoUring ? "io_uring" : "threads";
}

}  // namespace qft
