#include "base/hash.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace qft {
namespace {

TEST(Hash, SixtyFourBitsAreXxh3WhateverTheProcessor) {
  EXPECT_EQ(Hash64("", 0), 0x2d06800538d394c2u);
  std::minstd_rand random(1);
  std::string bytes(100000, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  for (const size_t size : {1, 16, 17, 128, 129, 240, 241, 1024, 4096, 65537, 100000}) {
    EXPECT_EQ(Hash64(bytes.data(), size), XXH3_64bits(bytes.data(), size)) << size;
  }
}

TEST(Hash, AStreamIsItsBytesHoweverCut) {
  Hasher whole, parts;
  whole.Update("abcdef", 6);
  parts.Update("ab", 2);
  parts.Update("cdef", 4);
  EXPECT_EQ(whole.Hex(), parts.Hex());
  EXPECT_EQ(Hasher().Hex(), "99aa06d3014798d86001c324468d497f");
}

}  // namespace
}  // namespace qft
