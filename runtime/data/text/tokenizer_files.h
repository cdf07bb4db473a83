// The files beside a tokenizer's own.
#pragma once

#include <optional>
#include <string>

#include "base/file.h"
#include "base/status.h"
#include "runtime/data/text/tokenizer_spec.h"

namespace qft {

inline constexpr char kTokenizerConfigName[] = "tokenizer_config.json";

// The content of an optional file.
StatusOr<std::optional<std::string>> ReadBeside(FileSystem& fs, const std::string& folder,
                                                const std::string& name);

// Takes from them the end token, unless it is known, and what export writes.
Status ReadFilesBeside(FileSystem& fs, const std::string& folder, TokenizerSpec* spec);

// Without a tokenizer_config.json, transformers would guess the class from the model's family.
void AddMissingConfig(const char* tokenizer_class, TokenizerSpec* spec);

}  // namespace qft
