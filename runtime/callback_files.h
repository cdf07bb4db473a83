// A checkpoint's files in storage that is the caller's, behind callbacks, as file systems: one that
// is written to and one that is read from.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/file.h"

namespace qft {

// A callback's answer that is not 0 ends the call it was made in, with CANCELLED and the number in
// the message.
struct FileSink {
  // `size` bytes at `offset`, from 0 on without gaps.
  std::function<int32_t(const char* name, uint64_t offset, const void* data, size_t size)> write;
  // No more bytes come; the file is to be durable when it returns.
  std::function<int32_t(const char* name)> finish;
};

struct FileSource {
  std::function<int32_t(const char* name, uint64_t* size)> size;
  // All `size` bytes.
  std::function<int32_t(const char* name, uint64_t offset, void* data, size_t size)> read;
};

// Takes what creates files by the names of its own root, each under a temporary name that is
// renamed when it is whole: the sink only sees the last name, and finish in place of the rename.
// All else is UNSUPPORTED.
std::unique_ptr<FileSystem> MakeSinkFileSystem(FileSink sink);
// Files can be opened, and are read in pieces of their own size.
std::unique_ptr<FileSystem> MakeSourceFileSystem(FileSource source);

}  // namespace qft
