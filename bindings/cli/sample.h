// Answers to prompts.
#pragma once

#include <string>

#include "bindings/cli/handles.h"

namespace qft::cli {

// The likeliest continuation of the prompt, a few dozen tokens at most.
std::string Answer(const Session& session, const Tokenizer& tokenizer, const std::string& prompt);

}  // namespace qft::cli
