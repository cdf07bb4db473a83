// What the fuzzers share. Each file *_fuzz.cpp defines one LLVMFuzzerTestOneInput, which takes any
// bytes for one kind of untrusted file. docs/fuzzing.md says how they are run.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "runtime/data/tensor_source.h"
#include "tests/runtime/data/memory_file_system.h"

namespace qft {

// Ends the program with a message unless `holds`: a finding.
inline void Require(bool holds, const char* what) {
  if (holds) return;
  std::cerr << "does not hold: " << what << "\n";
  std::abort();
}

// Whether what was done with the file succeeded. A refusal must be one of the file: it says what is
// wrong, and no invariant of the library's own is broken.
inline bool Accepted(const Status& status) {
  if (status.ok()) return true;
  Require(!status.message().empty(), "an error has a message");
  const ErrorCode code = GetErrorInfo(status).code;
  if (code == ErrorCode::kInternal) std::cerr << status << "\n";
  Require(code != ErrorCode::kInternal, "a file's fault is not an internal error");
  return false;
}

inline MemoryFileSystem FileSystemWith(const std::string& path, const uint8_t* data, size_t size) {
  MemoryFileSystem fs;
  fs.files[path].assign(reinterpret_cast<const char*>(data), size);
  return fs;
}

// Reads all values. What was opened is inside its file, so that only values may be refused.
inline void ReadTensors(const TensorSource& source) {
  for (const std::string& name : source.Names()) {
    const TensorInfo& info = *source.Find(name);
    std::vector<float> values(static_cast<size_t>(info.Rows() * info.Cols()));
    const Status read = source.ReadRows(name, 0, info.Rows(), values.data());
    Accepted(read);
    Require(GetErrorInfo(read).code != ErrorCode::kCorrupt, "tensors lie inside their file");
  }
}

}  // namespace qft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
