// What `tokenizers` gave for each line, a column for each tokenizer.
#pragma once

#include <gtest/gtest.h>

#include "golden.h"
#include "runtime/data/text/tokenizer.h"

namespace qft {

inline const Golden& TheGolden() {
  static const Golden golden = ReadGolden();
  return golden;
}

inline void ExpectColumn(const Tokenizer& tokenizer, size_t column) {
  ASSERT_GT(TheGolden().lines.size(), 5000u);
  int shown = 0;
  for (const Golden::Line& line : TheGolden().lines) {
    for (const bool plain : {false, true}) {
      std::vector<int32_t> ids;
      ASSERT_TRUE(tokenizer.Encode(line.text, !plain, &ids).ok());
      if (Crc32(ids) == line.ids_crc[2 * column + plain]) continue;
      ADD_FAILURE() << "line " << &line - TheGolden().lines.data() << (plain ? " plain: " : ": ")
                    << testing::PrintToString(line.text) << "\ngave "
                    << testing::PrintToString(ids);
      if (++shown == 5) return;
    }
  }
}

}  // namespace qft
