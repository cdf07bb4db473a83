// Hash64 compiled for AVX2. Nothing may be included here but xxHash, all of whose functions are
// static then: an inline function of another header could end up in the library with instructions
// that not every processor has.
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace qft {

uint64_t Hash64Avx2(const void* data, size_t size) {
  return XXH3_64bits(data, size);
}

}  // namespace qft
