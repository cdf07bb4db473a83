#include "base/status.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace qft {
namespace {

TEST(Status, KeepsCodeAndNativeCode) {
  const Status status = MakeError(ErrorCode::kNoSpace, "full", 28);
  EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kNoSpace);
  EXPECT_EQ(GetErrorInfo(status).native_code, 28);
  EXPECT_EQ(status.message(), "full");
  EXPECT_EQ(GetErrorInfo(absl::OkStatus()).code, ErrorCode::kOk);
}

TEST(Status, MapsErrno) {
  EXPECT_EQ(GetErrorInfo(ErrnoError(ENOSPC, "write x")).code, ErrorCode::kNoSpace);
  EXPECT_EQ(GetErrorInfo(ErrnoError(ENOENT, "open x")).code, ErrorCode::kFileNotFound);
  EXPECT_EQ(GetErrorInfo(ErrnoError(EIO, "read x")).code, ErrorCode::kIo);
  EXPECT_EQ(GetErrorInfo(ErrnoError(EIO, "read x")).native_code, EIO);
  EXPECT_NE(ErrnoError(EIO, "read x").message().find("read x: "), std::string::npos);
}

TEST(Status, AnnotateKeepsTheCode) {
  const Status status = Annotate(MakeError(ErrorCode::kCorrupt, "bad", 3), "file f");
  EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kCorrupt);
  EXPECT_EQ(GetErrorInfo(status).native_code, 3);
  EXPECT_EQ(status.message(), "file f: bad");
  EXPECT_TRUE(Annotate(absl::OkStatus(), "x").ok());
}

}  // namespace
}  // namespace qft
