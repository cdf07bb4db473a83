#include "tests/cli/program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "include/qft_c.h"
#include "include/qft_data.h"

namespace qft::cli_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr char kModelConfig[] = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 257,
  "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "head_dim": 8, "hidden_act": "silu", "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0, "max_position_embeddings": 256, "tie_word_embeddings": true,
  "bos_token_id": 256, "eos_token_id": 256})";

[[noreturn]] void Exec(const std::string& program, const std::vector<std::string>& arguments,
                       const fs::path& folder) {
  const int out = open((folder / "out").c_str(), O_WRONLY | O_CREAT, 0600);
  const int error = open((folder / "error").c_str(), O_WRONLY | O_CREAT, 0600);
  const int in = open((folder / "in").c_str(), O_RDONLY);
  dup2(in, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(error, STDERR_FILENO);
  std::vector<char*> raw = {const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) raw.push_back(const_cast<char*>(argument.c_str()));
  raw.push_back(nullptr);
  execv(program.c_str(), raw.data());
  _exit(127);
}

void Check(qft_status status, qft_error* error) {
  ASSERT_EQ(status, QFT_OK) << qft_error_message(error);
}

}  // namespace

Running::Running(const std::string& program, const std::vector<std::string>& arguments,
                 const std::string& input) {
  std::string name = (fs::temp_directory_path() / "qft_cli_output.XXXXXX").string();
  EXPECT_NE(mkdtemp(name.data()), nullptr);
  folder_ = name;
  WriteAll(folder_ / "in", input);
  pid_ = fork();
  if (pid_ == 0) Exec(program, arguments, folder_);
}

Running::~Running() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  fs::remove_all(folder_);
}

void Running::Send(int signal) const {
  kill(pid_, signal);
}

Result Running::Wait() {
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return {code, ReadAll(folder_ / "out"), ReadAll(folder_ / "error")};
}

Result RunProgram(const std::string& program, const std::vector<std::string>& arguments) {
  return Running(program, arguments).Wait();
}

Result Qft(const std::vector<std::string>& arguments, const std::string& input) {
  return Running(QFT_PROGRAM, arguments, input).Wait();
}

std::string ReadAll(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

void WriteAll(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::vector<json> ReadLines(const fs::path& path) {
  std::vector<json> records;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    records.push_back(json::parse(line, nullptr, false));
    EXPECT_FALSE(records.back().is_discarded()) << line;
  }
  return records;
}

std::vector<json> OfType(const std::vector<json>& lines, const std::string& type) {
  std::vector<json> records;
  for (const json& line : lines) {
    if (line.at("type") == type) records.push_back(line);
  }
  return records;
}

void MakeModel(const fs::path& folder) {
  const std::string tokenizer_path = QFT_TOKENIZER;
  const std::string name = folder.string();
  const std::string config_json = kModelConfig;
  qft_error* error = nullptr;
  qft_tokenizer* tokenizer = nullptr;
  qft_model* model = nullptr;
  qft_config* config = nullptr;
  qft_session* session = nullptr;
  Check(qft_tokenizer_load(tokenizer_path.data(), tokenizer_path.size(), &tokenizer, &error),
        error);
  Check(qft_model_create_random(config_json.data(), config_json.size(), 7, &model, &error), error);
  Check(qft_config_create(&config, &error), error);
  Check(qft_session_open(model, config, nullptr, &session, &error), error);
  Check(qft_export(session, model, tokenizer, name.data(), name.size(), &error), error);
  qft_session_destroy(session);
  qft_config_destroy(config);
  qft_model_destroy(model);
  qft_tokenizer_destroy(tokenizer);
}

void MakeData(const fs::path& file) {
  std::string text;
  for (int i = 0; i < 300; ++i) {
    const std::string word(static_cast<size_t>(1 + i % 7), static_cast<char>('a' + i % 26));
    const json record = {{"prompt", "repeat " + word + " " + std::to_string(i) + ":"},
                         {"completion", " " + word + word}};
    text += record.dump() + "\n";
  }
  WriteAll(file, text);
}

}  // namespace qft::cli_test
