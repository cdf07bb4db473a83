#include "base/file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

namespace qft {
namespace {

class FileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/qft_file_test_XXXXXX";
    ASSERT_NE(mkdtemp(pattern), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { ASSERT_TRUE(RemoveTree(fs_, folder_).ok()); }
  std::string Path(const std::string& name) const { return JoinPath(folder_, name); }

  FileSystem& fs_ = PosixFileSystem();
  std::string folder_;
};

TEST_F(FileTest, WritesAndReadsBack) {
  ASSERT_TRUE(WriteFileDurably(fs_, Path("a"), "hello").ok());
  EXPECT_EQ(*ReadWholeFile(fs_, Path("a"), 100), "hello");
  ASSERT_TRUE(WriteFileDurably(fs_, Path("a"), "").ok());
  EXPECT_EQ(*ReadWholeFile(fs_, Path("a"), 100), "");
  EXPECT_EQ(fs_.List(folder_)->size(), 1u);
}

TEST_F(FileTest, ReadPastTheEndIsCorrupt) {
  ASSERT_TRUE(WriteFileDurably(fs_, Path("a"), "hello").ok());
  auto file = fs_.Open(Path("a"), OpenMode::kRead);
  ASSERT_TRUE(file.ok());
  char buffer[8];
  EXPECT_EQ(GetErrorInfo((*file)->Pread(buffer, 8, 0)).code, ErrorCode::kCorrupt);
  EXPECT_EQ(GetErrorInfo(ReadWholeFile(fs_, Path("a"), 4).status()).code, ErrorCode::kBadData);
}

TEST_F(FileTest, MissingFilesAndFolders) {
  EXPECT_EQ(GetErrorInfo(fs_.Open(Path("x"), OpenMode::kRead).status()).code,
            ErrorCode::kFileNotFound);
  EXPECT_EQ(GetErrorInfo(fs_.List(Path("x")).status()).code, ErrorCode::kFileNotFound);
  EXPECT_FALSE(*fs_.Exists(Path("x")));
  EXPECT_FALSE(fs_.Open(folder_, OpenMode::kRead).ok());
}

TEST_F(FileTest, MakesAndRemovesTrees) {
  ASSERT_TRUE(MakeDirectories(fs_, Path("a/b//c/")).ok());
  ASSERT_TRUE(MakeDirectories(fs_, Path("a/b/c")).ok());
  ASSERT_TRUE(WriteFileDurably(fs_, Path("a/b/file"), "x").ok());
  EXPECT_FALSE(MakeDirectories(fs_, Path("a/b/file")).ok());
  ASSERT_TRUE(RemoveTree(fs_, Path("a")).ok());
  EXPECT_FALSE(*fs_.Exists(Path("a")));
  EXPECT_TRUE(RemoveTree(fs_, Path("a")).ok());
}

TEST_F(FileTest, RemoveTreeLeavesTheTargetOfALink) {
  ASSERT_TRUE(fs_.MakeDirectory(Path("kept")).ok());
  ASSERT_TRUE(WriteFileDurably(fs_, Path("kept/file"), "x").ok());
  ASSERT_TRUE(fs_.MakeDirectory(Path("gone")).ok());
  ASSERT_EQ(symlink(Path("kept").c_str(), Path("gone/link").c_str()), 0);
  ASSERT_TRUE(RemoveTree(fs_, Path("gone")).ok());
  EXPECT_TRUE(*fs_.Exists(Path("kept/file")));
}

TEST_F(FileTest, ExchangeSwapsFolders) {
  ASSERT_TRUE(MakeDirectories(fs_, Path("a")).ok());
  ASSERT_TRUE(MakeDirectories(fs_, Path("b")).ok());
  ASSERT_TRUE(WriteFileDurably(fs_, Path("a/in_a"), "x").ok());
  ASSERT_TRUE(fs_.Exchange(Path("a"), Path("b")).ok());
  EXPECT_TRUE(*fs_.Exists(Path("b/in_a")));
  EXPECT_FALSE(fs_.Exchange(Path("a"), Path("nothing")).ok());
}

TEST(Path, Parts) {
  EXPECT_EQ(ParentPath("a/b"), "a");
  EXPECT_EQ(ParentPath("a"), ".");
  EXPECT_EQ(ParentPath("/a"), "/");
  EXPECT_EQ(ParentPath("/"), "/");
  EXPECT_EQ(ParentPath("a/b/"), "a");
  EXPECT_EQ(JoinPath("a/", "b"), "a/b");
  EXPECT_EQ(JoinPath("a", "b"), "a/b");
}

}  // namespace
}  // namespace qft
