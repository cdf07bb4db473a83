#include "base/philox.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace qft {

PhiloxKey StreamKey(uint64_t seed, std::string_view stream_name) {
  const uint64_t hash = XXH3_64bits_withSeed(stream_name.data(), stream_name.size(), seed);
  return {static_cast<uint32_t>(hash), static_cast<uint32_t>(hash >> 32)};
}

}  // namespace qft
