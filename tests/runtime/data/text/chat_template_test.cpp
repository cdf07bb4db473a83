#include "runtime/data/text/chat_template.h"

#include <gtest/gtest.h>

#include "chat_tokenizer.h"
#include "runtime/data/text/chat_family.h"
#include "runtime/data/text/document_encoder.h"

namespace qft {
namespace {

using nlohmann::json;

json Config(const json& chat_template) {
  return {
      {"bos_token", "<s>"}, {"eos_token", {{"content", "</s>"}}}, {"chat_template", chat_template}};
}

StatusOr<ChatTemplate> Find(const json& config, const std::string& name = "") {
  return ChatTemplate::Create(*MakeChatTokenizer("plain", config), name, "");
}

// The pool's conversation with the roles the template has, as the golden file's maker does it.
std::vector<ChatMessage> Messages(const json& conversation, const std::string& kind) {
  std::vector<ChatMessage> messages;
  for (const json& entry : conversation) {
    ChatMessage message{entry.at("role"), entry.at("content"), "", false};
    if (entry.contains("reasoning_content")) {
      message.reasoning = entry.at("reasoning_content");
      message.has_reasoning = true;
    }
    if (kind == "without system" && message.role == "system") continue;
    if (kind == "without tool" && message.role == "tool") message.role = "user";
    messages.push_back(message);
  }
  return messages;
}

void ExpectSameTokens(const Tokenizer& tokenizer, const RenderedChat& chat, const json& row,
                      size_t column) {
  EncodedDocument document;
  ASSERT_TRUE(EncodeChat(tokenizer, chat, &document).ok());
  const std::vector<int32_t> mask(document.learnt.begin(), document.learnt.end());
  EXPECT_EQ(Crc32(document.ids), row[column]) << chat.text;
  EXPECT_EQ(Crc32(mask), row[column + 1]) << chat.text;
}

// The text, with and without generation prompt, the ids and the loss mask are those of
// transformers.
TEST(ChatTemplate, EveryFamilyIsThatOfTransformers) {
  std::vector<std::shared_ptr<const Tokenizer>> tokenizers;
  for (const char* name : {"plain", "composing", "llama1", "llama2", "mistral1", "mistral3"}) {
    tokenizers.push_back(MakeChatTokenizer(name, Config("")));
  }
  EXPECT_EQ(ChatGolden().at("templates").size(), ChatFamilies().size());
  for (const auto& [name, entry] : ChatGolden().at("templates").items()) {
    SCOPED_TRACE(name);
    const auto chat_template = ChatTemplate::Create(*tokenizers.front(), name, "");
    ASSERT_TRUE(chat_template.ok()) << chat_template.status();
    const std::string kind = entry.at("kind");
    const bool is_free = kind == "free" || kind == "without tool";
    const json& pool = ChatGolden().at("conversations").at(is_free ? "free" : "alternating");
    ASSERT_EQ(pool.size(), 200U);
    for (size_t i = 0; i < pool.size(); ++i) {
      const std::vector<ChatMessage> messages = Messages(pool[i], kind);
      const json& row = entry.at("expected")[i];
      const auto chat = chat_template->Render(messages, false);
      ASSERT_TRUE(chat.ok()) << chat.status();
      EXPECT_EQ(Crc32(chat->text), row[0]) << chat->text;
      EXPECT_EQ(Crc32(chat_template->Render(messages, true)->text), row[1]) << chat->text;
      ASSERT_EQ(row.size(), 2 + 2 * tokenizers.size());
      for (size_t k = 0; k < tokenizers.size(); ++k) {
        SCOPED_TRACE(k);
        ExpectSameTokens(*tokenizers[k], *chat, row, 2 + 2 * k);
      }
    }
  }
}

constexpr char kChatMl[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ "
    "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' "
    "}}{% endif %}";

TEST(ChatTemplate, LayoutDoesNotMatterAndEverythingElseDoes) {
  EXPECT_STREQ(RecognizeChatTemplate(kChatMl), "chatml");
  EXPECT_STREQ(
      RecognizeChatTemplate(
          "{%- for message in messages -%}\n  {{- \"<|im_start|>\" + message.role + \"\n\" "
          "+message.content+ '<|im_end|>' + '\n' -}}\n{%- endfor -%}\n{#- a comment -#}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%endif%}\n"),
      "chatml");
  const std::string text = kChatMl;
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"message['content']", "message['content'] | trim"},
           {"<|im_end|>", "<|im_end|> "},
           {"{% endfor %}", "{% endfor %} "},
           {"assistant", "model"},
           {"messages %}", "messages[1:] %}"},
           {"{% if add_generation_prompt %}", "{% if not add_generation_prompt %}"}}) {
    std::string other = text;
    other.replace(other.find(from), from.size(), to);
    EXPECT_EQ(RecognizeChatTemplate(other), nullptr) << other;
  }
  for (size_t size = 0; size < text.size(); ++size) {
    EXPECT_EQ(RecognizeChatTemplate(text.substr(0, size)), nullptr) << size;
  }
  for (const char* odd :
       {"", "{", "{{", "{{ '", "{% ", "{#", "{{ a['", "{{ a['b' }}", "\xff{{\xff"}) {
    EXPECT_EQ(RecognizeChatTemplate(odd), nullptr) << odd;
  }
}

TEST(ChatTemplate, IsFoundInTheTokenizersFiles) {
  EXPECT_STREQ(Find(Config(kChatMl))->name(), "chatml");
  const json list = json::array(
      {{{"name", "tool_use"}, {"template", "x"}}, {{"name", "default"}, {"template", kChatMl}}});
  EXPECT_STREQ(Find(Config(list))->name(), "chatml");
  EXPECT_STREQ(Find(Config("unknown"), "llama-3")->name(), "llama-3");
  EXPECT_EQ(Find(Config(kChatMl))->EndOfTurn(), "<|im_end|>");
  EXPECT_EQ(Find(Config(""), "zephyr")->EndOfTurn(), "</s>");
}

TEST(ChatTemplate, SaysWhichOptionNamesOne) {
  const auto expect = [](const StatusOr<ChatTemplate>& found, ErrorCode code,
                         const std::string& part) {
    ASSERT_FALSE(found.ok());
    EXPECT_EQ(GetErrorInfo(found.status()).code, code);
    EXPECT_NE(found.status().message().find(part), std::string::npos) << found.status();
  };
  for (const auto& found : {Find(Config("{{ other }}")), Find(Config(nullptr)),
                            Find(json::object()), Find(Config(kChatMl), "chatmll")}) {
    expect(found, ErrorCode::kUnsupported, "--chat-template");
    expect(found, ErrorCode::kUnsupported, ChatTemplate::Names());
  }
  expect(Find(Config(3)), ErrorCode::kBadData, "chat_template");
  expect(Find(Config(json::array({"x"}))), ErrorCode::kBadData, "default");
  expect(Find({{"eos_token", "</s>"}}, "llama-2"), ErrorCode::kBadData, "bos_token");
}

TEST(ChatTemplate, RefusesWhatATemplateDoesNotHave) {
  const auto expect = [](const char* name, const std::vector<std::string>& roles,
                         const std::string& part) {
    std::vector<ChatMessage> messages;
    messages.reserve(roles.size());
    for (const std::string& role : roles) messages.push_back({role, "x", "", false});
    const auto chat = Find(Config(""), name)->Render(messages, false);
    ASSERT_FALSE(chat.ok()) << name;
    EXPECT_EQ(GetErrorInfo(chat.status()).code, ErrorCode::kBadData);
    EXPECT_NE(chat.status().message().find(part), std::string::npos) << chat.status();
  };
  expect("chatml", {}, "no message");
  expect("chatml", {"user", "bot"}, "messages[1]: the chat template chatml has no role 'bot'");
  expect("zephyr", {"user", "tool"}, "messages[1]");
  expect("mistral-v0", {"system", "user"}, "has no role 'system'; it has user, assistant");
  expect("llama-2", {"system"}, "besides the system prompt");
  expect("llama-2", {"assistant"}, "messages[0]");
  expect("llama-2", {"user", "user"}, "messages[1]: the role is 'user'");
  expect("mistral-v3", {"user", "system"}, "messages[1]");
}

TEST(ChatTemplate, TheDateIsAnOption) {
  const auto tokenizer = MakeChatTokenizer("plain", Config(""));
  const std::vector<ChatMessage> messages = {{"user", "x", "", false}};
  const auto chat =
      ChatTemplate::Create(*tokenizer, "llama-3.1", "1 May 2025")->Render(messages, false);
  EXPECT_NE(chat->text.find("Today Date: 1 May 2025\n\n<|eot_id|>"), std::string::npos);
}

}  // namespace
}  // namespace qft
