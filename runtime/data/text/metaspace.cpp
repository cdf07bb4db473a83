#include "runtime/data/text/metaspace.h"

namespace qft {

std::string MarkSpaces(const Metaspace& options, std::string_view text, bool is_first) {
  std::string marked = ReplaceAll(text, " ", kSpaceMarker);
  const bool prepends = options.prepend == Metaspace::Prepend::kAlways ||
                        (options.prepend == Metaspace::Prepend::kFirst && is_first);
  if (prepends && !marked.starts_with(kSpaceMarker)) marked.insert(0, kSpaceMarker);
  return marked;
}

size_t EndOfMarkedPart(std::string_view text, size_t begin) {
  size_t at = begin;
  while (text.substr(at, kSpaceMarker.size()) == kSpaceMarker) at += kSpaceMarker.size();
  const size_t next = text.find(kSpaceMarker, at);
  return next == std::string_view::npos ? text.size() : next;
}

bool HasInnerMarker(std::string_view text) {
  return EndOfMarkedPart(text, 0) < text.size();
}

size_t ReplacedBytes(std::string_view text, std::string_view from, std::string_view to) {
  size_t size = text.size();
  for (size_t at = text.find(from); at != std::string_view::npos;
       at = text.find(from, at + from.size())) {
    size += to.size() - from.size();  // may wrap and wrap back
  }
  return size;
}

std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  result.reserve(text.size() + text.size() / 2);
  size_t done = 0;
  for (size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, done)) {
    result.append(text, done, at - done).append(to);
    done = at + from.size();
  }
  result.append(text, done);
  return result;
}

}  // namespace qft
