// Files of a run: JSON lines that survive a crash, and small files that are whole or absent.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace qft::cli {

// The whole of a text file; "-" is standard input. `limit`: most bytes taken.
std::string ReadText(const std::string& path, size_t limit);
// The limit for a model's config.json.
constexpr size_t kMaxConfigBytes = 1 << 20;
// A JSON file of at most a megabyte.
nlohmann::json ReadJson(const std::filesystem::path& path);
// JSON text; bytes that are not UTF-8 become U+FFFD. indent < 0: one line.
std::string Dump(const nlohmann::json& value, int indent);
// Written beside `path` and renamed over it.
void WriteFile(const std::filesystem::path& path, const std::string& content);

// A file descriptor that closes itself.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// Appends one whole line with one write per record: what was appended outlives the program. A line
// that a crash cut short is taken away when the file is opened again.
class JsonLines {
 public:
  explicit JsonLines(const std::filesystem::path& path);
  void Append(const nlohmann::json& record);

 private:
  std::string path_;
  Descriptor file_;
};

// A failed system call: "<what>: <why>".
[[noreturn]] void FailSystem(const std::string& what);
// All of size bytes at offset, or a Failure.
void WriteAt(int fd, const void* data, size_t size, int64_t offset, const std::string& what);
void ReadAt(int fd, void* data, size_t size, int64_t offset, const std::string& what);

}  // namespace qft::cli
