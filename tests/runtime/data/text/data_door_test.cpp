// The exported functions of libqft_data over a small random model.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "golden.h"
#include "include/qft_data.h"

namespace {

constexpr char kConfig[] = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 2048,
  "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
  "num_key_value_heads": 1, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true})";

template <typename T>
T Sized() {
  T value{};
  value.struct_size = sizeof(T);
  return value;
}

std::string MessageOf(qft_error** error) {
  std::string message = *error != nullptr ? qft_error_message(*error) : "no error object";
  qft_error_destroy(*error);
  *error = nullptr;
  return message;
}

#define EXPECT_CODE(code, call) EXPECT_EQ(code, call) << MessageOf(&error)

class DataDoor : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "qft_door_" + std::to_string(getpid());
    std::filesystem::create_directory(folder_);
    Write("tokenizer.json", qft::ReadTestFile("tokenizer_small.json"));
    Write("tokenizer_config.json", R"({"eos_token": "<|im_end|>"})");
    Write("data.jsonl", R"({"text": "one two three"})"
                        "\n"
                        R"({"prompt": "a", "completion": "b"})"
                        "\n"
                        R"({"text": "four five six seven"})"
                        "\n");
    EXPECT_CODE(QFT_OK, qft_tokenizer_load(folder_.data(), folder_.size(), &tokenizer_, &error));
  }
  void TearDown() override {
    qft_session_destroy(session_);
    qft_model_destroy(model_);
    qft_tokenizer_destroy(tokenizer_);
    std::filesystem::remove_all(folder_);
  }

  void Write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << content;
  }
  void OpenSession() {
    qft_config* config = nullptr;
    EXPECT_CODE(QFT_OK, qft_config_create(&config, &error));
    EXPECT_CODE(QFT_OK, qft_config_set_int(config, "micro_batch_tokens", 18, 64, &error));
    EXPECT_CODE(QFT_OK, qft_model_create_random(kConfig, sizeof(kConfig) - 1, 5, &model_, &error));
    EXPECT_CODE(QFT_OK, qft_session_open(model_, config, nullptr, &session_, &error));
    qft_config_destroy(config);
  }

  std::string folder_;
  qft_tokenizer* tokenizer_ = nullptr;
  qft_model* model_ = nullptr;
  qft_session* session_ = nullptr;
  qft_error* error = nullptr;
};

TEST_F(DataDoor, TokenizerThereAndBack) {
  const std::string text = "hello <|im_end|> 123";
  size_t needed = 0;
  EXPECT_CODE(QFT_OK, qft_tokenizer_encode(tokenizer_, text.data(), text.size(), 1, nullptr, 0,
                                           &needed, &error));
  std::vector<int32_t> ids(needed);
  EXPECT_CODE(QFT_OK, qft_tokenizer_encode(tokenizer_, text.data(), text.size(), 1, ids.data(),
                                           ids.size(), &needed, &error));
  std::vector<char> buffer(100);
  EXPECT_CODE(QFT_OK, qft_tokenizer_decode(tokenizer_, ids.data(), ids.size(), 0, buffer.data(),
                                           buffer.size(), &needed, &error));
  EXPECT_EQ(std::string(buffer.data()), text);
  EXPECT_EQ(needed, text.size());
  int64_t size = 0;
  EXPECT_CODE(QFT_OK, qft_tokenizer_get_size(tokenizer_, &size, &error));
  EXPECT_EQ(size, 2001);
  int32_t id = -1;
  EXPECT_CODE(QFT_OK, qft_tokenizer_find(tokenizer_, "<tool>", 6, &id, &error));
  EXPECT_EQ(id, 2000);
  EXPECT_CODE(QFT_ERROR_NOT_FOUND, qft_tokenizer_find(tokenizer_, "<t>", 3, &id, &error));
  EXPECT_CODE(QFT_OK, qft_tokenizer_get_end(tokenizer_, &id, &error));
  EXPECT_EQ(id, 2);
  const int32_t outside = 5000;
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_tokenizer_decode(tokenizer_, &outside, 1, 0, nullptr, 0, &needed, &error));
}

TEST_F(DataDoor, BatchesOfADataSet) {
  const std::string path = folder_ + "/data.jsonl";
  qft_dataset_options options = Sized<qft_dataset_options>();
  options.batch_tokens = 64;
  qft_dataset* dataset = nullptr;
  EXPECT_CODE(QFT_OK,
              qft_dataset_open(path.data(), path.size(), tokenizer_, &options, &dataset, &error));
  qft_dataset_info info = Sized<qft_dataset_info>();
  EXPECT_CODE(QFT_OK, qft_dataset_get_info(dataset, &info, &error));
  EXPECT_EQ(info.documents, 3);
  EXPECT_EQ(info.batches, 1);
  std::vector<qft_batch> batches(2, Sized<qft_batch>());
  EXPECT_CODE(QFT_OK, qft_dataset_next(dataset, batches.data(), 2, &error));
  for (const qft_batch& batch : batches) {
    EXPECT_EQ(batch.tokens, info.tokens);
    EXPECT_EQ(batch.document_ids[batch.tokens - 1], 2);
    EXPECT_EQ(batch.token_ids[batch.tokens - 1], 2);
    EXPECT_EQ(batch.targets[batch.tokens - 1], -1);
  }
  double epoch = 0;
  EXPECT_CODE(QFT_OK, qft_dataset_get_epoch(dataset, &epoch, &error));
  EXPECT_EQ(epoch, 2.0);
  std::vector<char> cursor(200);
  size_t needed = 0;
  EXPECT_CODE(QFT_OK,
              qft_dataset_get_cursor(dataset, cursor.data(), cursor.size(), &needed, &error));
  EXPECT_CODE(QFT_OK, qft_dataset_set_cursor(dataset, cursor.data(), needed, &error));
  EXPECT_CODE(QFT_ERROR_BAD_DATA, qft_dataset_set_cursor(dataset, cursor.data(), 5, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_dataset_get_held_out(dataset, 0, batches.data(), &error));
  batches[1].struct_size = 8;
  EXPECT_CODE(QFT_ERROR_STRUCT_SIZE, qft_dataset_next(dataset, batches.data(), 2, &error));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_dataset_next(dataset, batches.data(), -1, &error));
  EXPECT_CODE(QFT_OK, qft_dataset_get_epoch(dataset, &epoch, &error));
  EXPECT_EQ(epoch, 2.0);
  qft_dataset_destroy(dataset);
  EXPECT_CODE(QFT_ERROR_STALE, qft_dataset_get_epoch(dataset, &epoch, &error));
}

TEST_F(DataDoor, DocumentsOfSeveralFiles) {
  Write("bad.jsonl", "nonsense\n{\"text\": \"eight nine\"}\n");
  const std::string paths[] = {folder_ + "/data.jsonl", folder_ + "/bad.jsonl"};
  std::vector<qft_dataset_file> files(2, Sized<qft_dataset_file>());
  for (size_t i = 0; i < 2; ++i) {
    files[i].path = paths[i].data();
    files[i].path_length = paths[i].size();
    files[i].weight = 1;
  }
  qft_dataset_options options = Sized<qft_dataset_options>();
  options.batch_tokens = 64;
  qft_dataset* dataset = nullptr;
  const auto open = [&](int64_t count) {
    return qft_dataset_open_files(files.data(), count, tokenizer_, &options, &dataset, &error);
  };
  EXPECT_CODE(QFT_ERROR_BAD_DATA, open(2));
  EXPECT_CODE(QFT_ERROR_INVALID_ARGUMENT, open(0));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, open(-1));
  options.form = "nosuch";
  options.form_length = 6;
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, open(2));
  options.form_length = 0;
  options.chat_template = "nosuch";
  options.chat_template_length = 6;
  EXPECT_CODE(QFT_ERROR_UNSUPPORTED, open(2));
  options.chat_template_length = 0;
  options.memory_limit = -1;
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, open(2));
  options.memory_limit = 1;
  options.skip_bad = 1;
  EXPECT_CODE(QFT_OK, open(2));
  qft_dataset_info info = Sized<qft_dataset_info>();
  EXPECT_CODE(QFT_OK, qft_dataset_get_info(dataset, &info, &error));
  EXPECT_EQ(info.records_skipped, 1);
  EXPECT_EQ(info.documents, 4);
  size_t needed = 0;
  std::vector<char> reason(1000);
  EXPECT_CODE(QFT_OK,
              qft_dataset_get_skipped(dataset, 0, reason.data(), reason.size(), &needed, &error));
  EXPECT_EQ(std::string(reason.data()).find(paths[1] + ":1: "), 0U) << reason.data();
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_dataset_get_skipped(dataset, 1, reason.data(), reason.size(), &needed, &error));
  qft_document document = Sized<qft_document>();
  EXPECT_CODE(QFT_OK, qft_dataset_get_document(dataset, 1, &document, &error));
  EXPECT_EQ(document.number, 2);
  EXPECT_EQ(document.file, 0);
  EXPECT_EQ(document.learnt[0], 0);
  EXPECT_EQ(document.learnt[document.tokens - 1], 1);
  EXPECT_CODE(QFT_OK, qft_dataset_get_document(dataset, 3, &document, &error));
  EXPECT_EQ(document.number, 2);
  EXPECT_EQ(document.file, 1);
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_dataset_get_document(dataset, 4, &document, &error));
  qft_dataset_destroy(dataset);
}

TEST_F(DataDoor, ConversationsAsPrompts) {
  qft_chat_options options = Sized<qft_chat_options>();
  options.chat_template = "qwen2";
  options.chat_template_length = 5;
  std::vector<qft_chat_message> messages(1, Sized<qft_chat_message>());
  messages[0].role = "user";
  messages[0].role_length = 4;
  messages[0].content = "hi";
  messages[0].content_length = 2;
  std::vector<char> text(500);
  size_t needed = 0;
  const auto render = [&](int64_t count) {
    return qft_chat_render(tokenizer_, messages.data(), count, &options, text.data(), text.size(),
                           &needed, &error);
  };
  EXPECT_CODE(QFT_OK, render(1));
  EXPECT_STREQ(text.data(),
               "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nhi"
               "<|im_end|>\n<|im_start|>assistant\n");
  int32_t end = -1;
  EXPECT_CODE(QFT_OK, qft_chat_get_end(tokenizer_, &options, &end, &error));
  EXPECT_EQ(end, 2);
  EXPECT_CODE(QFT_ERROR_BAD_DATA, render(0));
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, render(-1));
  messages[0].content = "\xff";
  messages[0].content_length = 1;
  EXPECT_CODE(QFT_ERROR_INVALID_ARGUMENT, render(1));
  options.chat_template_length = 0;
  EXPECT_CODE(QFT_ERROR_UNSUPPORTED, qft_chat_get_end(tokenizer_, &options, &end, &error));
  options.chat_template = "llama-3";
  options.chat_template_length = 7;
  EXPECT_CODE(QFT_ERROR_BAD_DATA, qft_chat_get_end(tokenizer_, &options, &end, &error));
}

TEST_F(DataDoor, Schedule) {
  qft_schedule schedule = Sized<qft_schedule>();
  schedule.kind = QFT_SCHEDULE_LINEAR;
  schedule.peak = 8;
  schedule.steps = 5;
  double rate = 0;
  EXPECT_CODE(QFT_OK, qft_schedule_get(&schedule, 1, &rate, &error));
  EXPECT_EQ(rate, 6);
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_schedule_get(&schedule, 5, &rate, &error));
  schedule.kind = 9;
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE, qft_schedule_get(&schedule, 1, &rate, &error));
}

TEST_F(DataDoor, GeneratesTheSameInPiecesAndWhole) {
  OpenSession();
  const std::string prompt = "once upon";
  qft_generate_options options = Sized<qft_generate_options>();
  options.maximum_tokens = 40;
  options.temperature = 1;
  options.seed = 3;
  std::string pieces;
  const qft_text_callback collect = [](void* user, const char* text, size_t length) -> int32_t {
    static_cast<std::string*>(user)->append(text, length);
    return 0;
  };
  std::vector<char> buffer(4000);
  size_t needed = 0;
  EXPECT_CODE(QFT_OK,
              qft_generate(session_, tokenizer_, prompt.data(), prompt.size(), &options, collect,
                           &pieces, buffer.data(), buffer.size(), &needed, &error));
  EXPECT_EQ(pieces, buffer.data());
  EXPECT_EQ(pieces.size(), needed);
  EXPECT_GT(needed, 20u);
  options.seed = 4;
  std::vector<char> other(4000);
  EXPECT_CODE(QFT_OK, qft_generate(session_, tokenizer_, prompt.data(), prompt.size(), &options,
                                   nullptr, nullptr, other.data(), other.size(), &needed, &error));
  EXPECT_STRNE(other.data(), buffer.data());
  const qft_text_callback stop = [](void*, const char*, size_t) -> int32_t { return 1; };
  EXPECT_CODE(QFT_ERROR_CANCELLED,
              qft_generate(session_, tokenizer_, prompt.data(), prompt.size(), &options, stop,
                           nullptr, nullptr, 0, &needed, &error));
  EXPECT_CODE(QFT_ERROR_INVALID_ARGUMENT,
              qft_generate(session_, tokenizer_, nullptr, 0, &options, nullptr, nullptr, nullptr, 0,
                           &needed, &error));
  // The first token of the answer is one that stops.
  options.temperature = 0;
  const auto answer_length = [&] {
    EXPECT_CODE(QFT_OK,
                qft_generate(session_, tokenizer_, prompt.data(), prompt.size(), &options, nullptr,
                             nullptr, buffer.data(), buffer.size(), &needed, &error));
    return needed;
  };
  EXPECT_GT(answer_length(), 0U);
  std::vector<int32_t> all_ids(2001);
  for (size_t i = 0; i < all_ids.size(); ++i) all_ids[i] = static_cast<int32_t>(i);
  options.stop_ids = all_ids.data();
  options.stop_count = 2001;
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_generate(session_, tokenizer_, prompt.data(), prompt.size(), &options, nullptr,
                           nullptr, nullptr, 0, &needed, &error));
  size_t stopped = 0;
  for (const int32_t* begin : {all_ids.data(), all_ids.data() + 1000}) {
    options.stop_ids = begin;
    options.stop_count = begin == all_ids.data() ? 1000 : 1001;
    stopped += answer_length() == 0 ? 1 : 0;
  }
  EXPECT_GE(stopped, 1U);
  options.stop_ids = nullptr;
  options.stop_count = 1;
  EXPECT_CODE(QFT_ERROR_INVALID_ARGUMENT,
              qft_generate(session_, tokenizer_, prompt.data(), prompt.size(), &options, nullptr,
                           nullptr, nullptr, 0, &needed, &error));
  options.stop_count = 0;
  options.top_p = 2;
  EXPECT_CODE(QFT_ERROR_OUT_OF_RANGE,
              qft_generate(session_, tokenizer_, prompt.data(), prompt.size(), &options, nullptr,
                           nullptr, nullptr, 0, &needed, &error));
}

TEST_F(DataDoor, ExportIsReadBack) {
  OpenSession();
  const std::string out = folder_ + "/deep/out/";
  EXPECT_CODE(QFT_OK, qft_export(session_, model_, tokenizer_, out.data(), out.size(), &error));
  EXPECT_CODE(QFT_ERROR_STATE,
              qft_export(session_, model_, tokenizer_, out.data(), out.size(), &error));
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/deep/out.partial"));
  qft_model* again = nullptr;
  EXPECT_CODE(QFT_OK, qft_model_load(out.data(), out.size(), &again, &error));
  int64_t count = 0;
  int64_t expected = -1;
  EXPECT_CODE(QFT_OK, qft_model_get_tensor_count(again, &count, &error));
  EXPECT_CODE(QFT_OK, qft_model_get_tensor_count(model_, &expected, &error));
  EXPECT_EQ(count, expected);
  qft_model_destroy(again);
  qft_tokenizer* tokenizer = nullptr;
  EXPECT_CODE(QFT_OK, qft_tokenizer_load(out.data(), out.size(), &tokenizer, &error));
  qft_tokenizer_destroy(tokenizer);
}

}  // namespace
