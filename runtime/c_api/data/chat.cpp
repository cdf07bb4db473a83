#include <vector>

#include "runtime/c_api/data/objects.h"
#include "runtime/c_api/struct_size.h"
#include "runtime/data/text/chat_template.h"

using qft::ChatTemplate;
using qft::Shared;
using qft::Status;
using qft::StatusOr;
using qft::TokenizerObject;

namespace {

constexpr int64_t kMostMessages = 65536;

StatusOr<ChatTemplate> TemplateOf(const qft::Tokenizer& tokenizer,
                                  const qft_chat_options* options) {
  QFT_ASSIGN_OR_RETURN(const qft_chat_options in, qft::ReadStruct("options", options));
  QFT_ASSIGN_OR_RETURN(const std::string_view name,
                       qft::ReadUtf8("chat_template", in.chat_template, in.chat_template_length));
  QFT_ASSIGN_OR_RETURN(const std::string_view date,
                       qft::ReadUtf8("chat_date", in.chat_date, in.chat_date_length));
  return ChatTemplate::Create(tokenizer, std::string(name), std::string(date));
}

StatusOr<std::vector<qft::ChatMessage>> MessagesOf(const qft_chat_message* messages,
                                                   int64_t count) {
  QFT_ASSIGN_OR_RETURN(const auto in, qft::ReadStructs("messages", messages, count, kMostMessages));
  std::vector<qft::ChatMessage> result;
  for (const qft_chat_message& message : in) {
    qft::ChatMessage read;
    QFT_ASSIGN_OR_RETURN(read.role,
                         qft::ReadUtf8("messages[].role", message.role, message.role_length));
    QFT_ASSIGN_OR_RETURN(
        read.content, qft::ReadUtf8("messages[].content", message.content, message.content_length));
    result.push_back(std::move(read));
  }
  return result;
}

}  // namespace

extern "C" {

qft_status qft_chat_render(const qft_tokenizer* tokenizer, const qft_chat_message* messages,
                           int64_t count, const qft_chat_options* options, char* buffer,
                           size_t capacity, size_t* needed, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<TokenizerObject>::Lock(tokenizer));
    QFT_ASSIGN_OR_RETURN(const ChatTemplate chat_template, TemplateOf(*object->tokenizer, options));
    QFT_ASSIGN_OR_RETURN(const auto conversation, MessagesOf(messages, count));
    QFT_ASSIGN_OR_RETURN(const qft::RenderedChat chat,
                         chat_template.Render(conversation, /*generation_prompt=*/true));
    return qft::CopyOut(chat.text, buffer, capacity, needed);
  });
}

qft_status qft_chat_get_end(const qft_tokenizer* tokenizer, const qft_chat_options* options,
                            int32_t* id, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Shared<TokenizerObject>::Lock(tokenizer));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("id", id));
    QFT_ASSIGN_OR_RETURN(const ChatTemplate chat_template, TemplateOf(*object->tokenizer, options));
    const std::optional<int32_t> found = object->tokenizer->Find(chat_template.EndOfTurn());
    if (!found) {
      return qft::MakeError(
          qft::ErrorCode::kNotFound,
          absl::StrCat("the tokenizer has no token '", chat_template.EndOfTurn(),
                       "', which the chat template ", chat_template.name(), " ends a turn with"));
    }
    *id = *found;
    return absl::OkStatus();
  });
}

}  // extern "C"
