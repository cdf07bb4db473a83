// Runs a program as a person would, and makes what it needs: a tiny model and data.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace qft::cli_test {

struct Result {
  int exit_code = -1;  // 128 + signal when it was killed
  std::string out;
  std::string error;
};

// A program that runs beside the test. Its output is read when it has ended.
class Running {
 public:
  Running(const std::string& program, const std::vector<std::string>& arguments,
          const std::string& input = "");
  ~Running();
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  pid_t pid() const { return pid_; }
  void Send(int signal) const;
  Result Wait();

 private:
  pid_t pid_ = -1;
  std::filesystem::path folder_;
};

Result RunProgram(const std::string& program, const std::vector<std::string>& arguments);
// The command line under test. input: what it reads from standard input.
Result Qft(const std::vector<std::string>& arguments, const std::string& input = "");

std::string ReadAll(const std::filesystem::path& path);
void WriteAll(const std::filesystem::path& path, const std::string& text);
// Every line of a metrics.jsonl; a line that is not JSON fails the test.
std::vector<nlohmann::json> ReadLines(const std::filesystem::path& path);
std::vector<nlohmann::json> OfType(const std::vector<nlohmann::json>& lines,
                                   const std::string& type);

// A folder with random weights and the tests' tokenizer of single bytes.
void MakeModel(const std::filesystem::path& folder);
// Questions and answers that a tiny model can learn.
void MakeData(const std::filesystem::path& file);

}  // namespace qft::cli_test
