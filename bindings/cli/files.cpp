#include "bindings/cli/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>

#include "bindings/cli/failure.h"

namespace qft::cli {
namespace {

using nlohmann::json;

constexpr size_t kJsonLimit = 1 << 20;

std::string ReadStream(std::istream& stream, const std::string& name, size_t limit) {
  std::string text(limit + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad()) throw Failure(name + ": could not be read");
  text.resize(static_cast<size_t>(stream.gcount()));
  if (text.size() > limit)
    throw Failure(name + ": longer than " + std::to_string(limit) + " bytes");
  return text;
}

int64_t SizeOf(int fd, const std::string& path) {
  struct stat info = {};
  if (fstat(fd, &info) != 0) FailSystem(path);
  return info.st_size;
}

// The length up to and with the last newline.
int64_t WholeLines(int fd, const std::string& path) {
  constexpr int64_t kBlock = 4096;
  char block[kBlock];
  int64_t end = SizeOf(fd, path);
  while (end > 0) {
    const int64_t size = std::min(kBlock, end);
    ReadAt(fd, block, static_cast<size_t>(size), end - size, path);
    for (int64_t i = size; i > 0; --i) {
      if (block[i - 1] == '\n') return end - size + i;
    }
    end -= size;
  }
  return 0;
}

}  // namespace

void FailSystem(const std::string& what) {
  throw Failure(what + ": " + strerror(errno));
}

void WriteAt(int fd, const void* data, size_t size, int64_t offset, const std::string& what) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = pwrite(fd, bytes, size, offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) FailSystem(what);
    bytes += written;
    size -= static_cast<size_t>(written);
    offset += written;
  }
}

void ReadAt(int fd, void* data, size_t size, int64_t offset, const std::string& what) {
  char* bytes = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t read = pread(fd, bytes, size, offset);
    if (read < 0 && errno == EINTR) continue;
    if (read < 0) FailSystem(what);
    if (read == 0) throw Failure(what + ": shorter than expected");
    bytes += read;
    size -= static_cast<size_t>(read);
    offset += read;
  }
}

std::string ReadText(const std::string& path, size_t limit) {
  if (path == "-") return ReadStream(std::cin, "standard input", limit);
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path)) {
    throw Failure(path + ": no such file, or not readable");
  }
  return ReadStream(file, path, limit);
}

json ReadJson(const std::filesystem::path& path) {
  const std::string text = ReadText(path.string(), kJsonLimit);
  json value = json::parse(text, nullptr, false);
  if (value.is_discarded()) throw Failure(path.string() + ": not valid JSON");
  return value;
}

std::string Dump(const json& value, int indent) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

void WriteFile(const std::filesystem::path& path, const std::string& content) {
  const std::string name = path.string();
  const std::string temporary = name + ".tmp";
  {
    const Descriptor file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (file.get() < 0) FailSystem(temporary);
    WriteAt(file.get(), content.data(), content.size(), 0, temporary);
    if (fsync(file.get()) != 0) FailSystem(temporary);
  }
  if (rename(temporary.c_str(), name.c_str()) != 0) FailSystem(name);
}

Descriptor::~Descriptor() {
  if (fd_ >= 0) close(fd_);
}

JsonLines::JsonLines(const std::filesystem::path& path)
    : path_(path.string()),
      file_(open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  if (file_.get() < 0) FailSystem(path_);
  if (ftruncate(file_.get(), WholeLines(file_.get(), path_)) != 0) FailSystem(path_);
}

void JsonLines::Append(const json& record) {
  const std::string line = Dump(record, -1) + "\n";
  size_t done = 0;
  while (done < line.size()) {
    const ssize_t written = write(file_.get(), line.data() + done, line.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) FailSystem(path_);
    done += static_cast<size_t>(written);
  }
}

}  // namespace qft::cli
