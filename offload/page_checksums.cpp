#include "offload/page_checksums.h"

#include <algorithm>

#include "base/hash.h"
#include "offload/store.h"

namespace qft {
namespace {

constexpr int64_t kPage = kStoreAlignment;

uint64_t ChecksumOf(const std::byte* page) {
  return std::max<uint64_t>(Hash64(page, kPage), 1);
}

}  // namespace

PageChecksums::PageChecksums(int64_t file_bytes)
    : pages_(static_cast<size_t>(file_bytes / kPage)) {}

void PageChecksums::Record(int64_t offset, const std::byte* data, int64_t bytes) {
  uint64_t* const pages = &pages_[static_cast<size_t>(offset / kPage)];
  for (int64_t i = 0; i < bytes / kPage; ++i) pages[i] = ChecksumOf(data + i * kPage);
}

std::optional<int64_t> PageChecksums::FirstUnwritten(int64_t offset, int64_t bytes) const {
  const auto begin = pages_.begin() + offset / kPage;
  const auto page = std::find(begin, begin + bytes / kPage, 0);
  if (page == begin + bytes / kPage) return std::nullopt;
  return (page - pages_.begin()) * kPage;
}

std::optional<int64_t> PageChecksums::FirstDifference(int64_t offset, const std::byte* data,
                                                      int64_t bytes) const {
  const uint64_t* const pages = &pages_[static_cast<size_t>(offset / kPage)];
  for (int64_t i = 0; i < bytes / kPage; ++i) {
    if (pages[i] != ChecksumOf(data + i * kPage)) return offset + i * kPage;
  }
  return std::nullopt;
}

void PageChecksums::Clear() {
  std::fill(pages_.begin(), pages_.end(), 0);
}

}  // namespace qft
