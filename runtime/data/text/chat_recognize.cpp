// Recognises a chat template by the hash of its canonical form: its tags and the text between them
// as Jinja renders them with trim_blocks and lstrip_blocks, which transformers sets, with strings
// decoded and white space outside of strings gone. Two templates of one form render alike.
#include <array>
#include <cctype>
#include <string>
#include <utility>

#include "base/hash.h"
#include "runtime/data/text/chat_family.h"

namespace qft {
namespace {

bool IsWord(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

bool IsSpaceByte(char c) {
  return std::isspace(static_cast<unsigned char>(c)) != 0;
}

bool IsName(std::string_view text) {
  for (const char c : text) {
    if (!IsWord(c)) return false;
  }
  return !text.empty() && std::isdigit(static_cast<unsigned char>(text[0])) == 0;
}

// The string that starts at text[*at], a quote; *at becomes the place behind it.
std::string ReadString(std::string_view text, size_t* at) {
  const char quote = text[*at];
  std::string value;
  for (++*at; *at < text.size() && text[*at] != quote; ++*at) {
    char c = text[*at];
    if (c == '\\' && *at + 1 < text.size()) {
      c = text[++*at];
      if (c == 'n') c = '\n';
      if (c == 't') c = '\t';
      if (c == 'r') c = '\r';
    }
    value += c;
  }
  ++*at;
  return value;
}

// A string as an element of an expression. What an exception says is not rendered.
void AppendString(const std::string& value, bool is_exception, std::string* out) {
  if (is_exception) return;
  out->append("\"" + std::to_string(value.size()) + ":" + value);
}

// a["b"] and a.b are one thing: `name` stands behind "[" at the end of `out`, before "]".
bool IsSubscript(const std::string& out, std::string_view rest, const std::string& name) {
  if (out.size() < 2 || out.back() != '[' || rest.empty() || rest[0] != ']') return false;
  const char before = out[out.size() - 2];
  return (IsWord(before) || before == ']' || before == ')') && IsName(name);
}

std::string CanonicalTag(std::string_view tag) {
  const bool is_exception = tag.find("raise_exception(") != std::string_view::npos;
  std::string out;
  for (size_t i = 0; i < tag.size();) {
    const char c = tag[i];
    if (c == '\'' || c == '"') {
      const std::string value = ReadString(tag, &i);
      if (i <= tag.size() && IsSubscript(out, tag.substr(i), value)) {
        out.back() = '.';
        out += value;
        ++i;
      } else {
        AppendString(value, is_exception, &out);
      }
    } else if (IsSpaceByte(c)) {
      while (i < tag.size() && IsSpaceByte(tag[i])) ++i;
      if (!out.empty() && i < tag.size() && IsWord(out.back()) && IsWord(tag[i])) out += ' ';
    } else {
      out += c;
      ++i;
    }
  }
  return out;
}

class Canonicalizer {
 public:
  explicit Canonicalizer(std::string_view jinja) : jinja_(jinja) {
    if (!jinja_.empty() && jinja_.back() == '\n') jinja_.remove_suffix(1);
  }

  std::string Run() {
    size_t at = 0;
    while (at < jinja_.size()) {
      const size_t open = FindTag(at);
      AddText(jinja_.substr(at, open - at), open);
      if (open == jinja_.size()) break;
      at = AddTag(open);
    }
    Flush();
    return std::move(out_);
  }

 private:
  size_t FindTag(size_t from) const {
    for (size_t i = from; i + 1 < jinja_.size(); ++i) {
      if (jinja_[i] != '{') continue;
      const char kind = jinja_[i + 1];
      if (kind == '{' || kind == '%' || kind == '#') return i;
    }
    return jinja_.size();
  }

  // Text up to the tag at `open`, as the tags on both sides leave it.
  void AddText(std::string_view text, size_t open) {
    if (strip_next_) {
      while (!text.empty() && IsSpaceByte(text.front())) text.remove_prefix(1);
    } else if (after_block_ && !text.empty() && text.front() == '\n') {
      text.remove_prefix(1);
    }
    const bool has_tag = open < jinja_.size();
    if (has_tag && open + 2 < jinja_.size() && jinja_[open + 2] == '-') {
      while (!text.empty() && IsSpaceByte(text.back())) text.remove_suffix(1);
    } else if (has_tag && jinja_[open + 1] != '{') {
      StripLineStart(&text, open);
    }
    text_.append(text);
  }

  // lstrip_blocks: white space before a block that begins its line.
  void StripLineStart(std::string_view* text, size_t open) const {
    size_t begin = open;
    while (begin > 0 && (jinja_[begin - 1] == ' ' || jinja_[begin - 1] == '\t')) --begin;
    if (begin > 0 && jinja_[begin - 1] != '\n') return;
    text->remove_suffix(std::min(text->size(), open - begin));
  }

  // Returns the place behind the tag.
  size_t AddTag(size_t open) {
    const char kind = jinja_[open + 1];
    const std::string close = kind == '{' ? "}}" : std::string(1, kind) + "}";
    size_t begin = open + 2;
    if (begin < jinja_.size() && (jinja_[begin] == '-' || jinja_[begin] == '+')) ++begin;
    const size_t end = FindClose(begin, kind == '#', close);
    std::string_view tag = jinja_.substr(begin, end - begin);
    strip_next_ = !tag.empty() && tag.back() == '-';
    if (strip_next_) tag.remove_suffix(1);
    after_block_ = kind != '{';
    if (kind != '#') {
      Flush();
      out_ += kind == '{' ? "\x01V" : "\x01B";
      out_ += CanonicalTag(tag);
    }
    if (end == jinja_.size()) out_ += "\x01U";  // never closed: no template at all
    return std::min(jinja_.size(), end + close.size());
  }

  size_t FindClose(size_t from, bool is_comment, const std::string& close) const {
    for (size_t i = from; i < jinja_.size();) {
      if (jinja_.substr(i, close.size()) == close) return i;
      if (!is_comment && (jinja_[i] == '\'' || jinja_[i] == '"')) {
        ReadString(jinja_, &i);
      } else {
        ++i;
      }
    }
    return jinja_.size();
  }

  void Flush() {
    if (!text_.empty()) out_ += "\x01T" + text_;
    text_.clear();
  }

  std::string_view jinja_;
  std::string out_;
  std::string text_;
  bool strip_next_ = false;
  bool after_block_ = false;
};

struct Known {
  const char* hash;
  const char* name;
};

// Hashes of the templates that models of the families were published with.
constexpr Known kKnown[] = {
    {"26c6fc6c819b68479fa667ce78203ecf", "chatml"},
    {"7182da4d8dd2ff3d33d67c49e4b4bd90", "chatml"},  // Yi
    {"2b0774ca6fd3e926bfcd5bd4eb404492", "llama-2"},
    {"6741170f493789c1f2952c5587b6b74f", "llama-3"},
    {"72b444783fdbd8b810711422206ee764", "llama-3.1"},  // 3.1 and 3.3
    {"4043b1f9d4067220b805f852460c175d", "llama-3.1"},  // 3.2
    {"5b5b38536d64d1790950950582496327", "mistral-v0"},
    {"25844510100cfb6f6b20cc80b0871d28", "mistral-v1"},
    {"2cff26c459e6a607bd3dfa69bae873a9", "mistral-v3"},
    {"a6051daf2e6433b78069681c022b1135", "mistral-v3-tekken"},
    {"ad4ad54c98ae8175347494f328cc2f4f", "qwen2"},
    {"0efbcdbbf0bf1ce0f14bdc9491f12f90", "qwen2.5"},
    {"fcc0da004d071e9b282f8c8e1ec527d9", "qwen3"},
    {"665903807d11d9da025e20279ec6c4d2", "smollm2"},
    {"94a21347fcbc22bdf144a127de2dde93", "zephyr"},  // TinyLlama too
};

}  // namespace

std::string ChatTemplateHash(std::string_view jinja) {
  const std::string form = Canonicalizer(jinja).Run();
  Hasher hasher;
  hasher.Update(form.data(), form.size());
  return hasher.Hex();
}

const char* RecognizeChatTemplate(std::string_view jinja) {
  const std::string hash = ChatTemplateHash(jinja);
  for (const Known& known : kKnown) {
    if (hash == known.hash) return known.name;
  }
  return nullptr;
}

}  // namespace qft
