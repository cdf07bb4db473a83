#include "bindings/cli/sample.h"

namespace qft::cli {

std::string Answer(const Session& session, const Tokenizer& tokenizer, const std::string& prompt) {
  constexpr int64_t kTokens = 48;
  qft_generate_options options = Sized<qft_generate_options>();
  options.maximum_tokens = kTokens;
  const auto append = [](void* user, const char* text, size_t length) -> int32_t {
    static_cast<std::string*>(user)->append(text, length);
    return 0;
  };
  std::string answer;
  size_t needed = 0;
  Call(qft_generate, session.get(), tokenizer.get(), prompt.data(), prompt.size(), &options,
       static_cast<qft_text_callback>(append), static_cast<void*>(&answer), nullptr, size_t{0},
       &needed);
  return answer;
}

}  // namespace qft::cli
