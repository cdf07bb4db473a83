// Training records as the common data sets have them, one JSON object each.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "runtime/data/text/chat_template.h"

namespace qft {

enum class RecordForm { kAuto, kText, kPromptCompletion, kAlpaca, kMessages, kShareGpt };

// "auto", "text", "prompt-completion", "alpaca", "messages" or "sharegpt". kOutOfRange.
StatusOr<RecordForm> FindRecordForm(std::string_view name);

struct Record {
  // A conversation where there are messages; otherwise a text, of which `prompt` is not learnt.
  std::vector<ChatMessage> messages;
  bool has_prompt = false;
  bool prompt_has_special = false;  // special tokens written in the prompt are recognised
  std::string prompt;
  std::string text;
};

// The record on a line. Forms:
//   {"text"}; {"prompt", "completion"}; {"instruction", "output"} with or without "input", in
//   Alpaca's standard prompts; {"messages": [{"role", "content"}]}; {"conversations": [{"from",
//   "value"}]}.
// A conversation may have "system" beside its messages, and a message "weight" or "train", which
// say whether it is learnt. kAuto: the form whose fields the record has. Fields of no form are
// ignored. kBadData says what is wrong and names the fields that were found; kUnsupported: tools,
// and fields that other programs make another document of.
StatusOr<Record> ParseRecord(std::string_view line, RecordForm form);

// Depends on the content alone.
uint64_t ContentHash(const Record& record);

}  // namespace qft
