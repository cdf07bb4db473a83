#include "base/hash.h"

#include <cstdio>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace qft {

#ifdef QFT_HASH_AVX2
uint64_t Hash64Avx2(const void* data, size_t size);

uint64_t Hash64(const void* data, size_t size) {
  static const bool kHasAvx2 = __builtin_cpu_supports("avx2") != 0;
  return kHasAvx2 ? Hash64Avx2(data, size) : XXH3_64bits(data, size);
}
#else
uint64_t Hash64(const void* data, size_t size) {
  return XXH3_64bits(data, size);
}
#endif

struct Hasher::State {
  XXH3_state_t xxh;
};

Hasher::Hasher() : state_(std::make_unique<State>()) {
  XXH3_128bits_reset(&state_->xxh);
}
Hasher::~Hasher() = default;

void Hasher::Update(const void* data, size_t size) {
  XXH3_128bits_update(&state_->xxh, data, size);
}

std::string Hasher::Hex() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(&state_->xxh);
  char text[33];
  std::snprintf(text, sizeof(text), "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text;
}

}  // namespace qft
