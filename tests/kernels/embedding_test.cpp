#include "tests/kernels/layer_test.h"

namespace qft {
namespace {

constexpr int64_t kRows = 50;

std::vector<int8_t> RandomCodes(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int8_t> codes(count);
  for (int8_t& code : codes) code = static_cast<int8_t>(static_cast<int>(random() % 255) - 127);
  return codes;
}

std::vector<int32_t> RandomTokens(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % kRows);
  return tokens;
}

TEST(Embedding, ForwardDecodesRows) {
  for (int64_t cols : {1, 16, 100, 577}) {
    const std::vector<int8_t> codes = RandomCodes(kRows * cols, 1);
    const Floats grid = RandomFloats(kRows, 2);
    const std::vector<int32_t> tokens = RandomTokens(131, 3);
    const Floats got = RunEverywhere([&](Engine* engine) {
      EngineArray<int8_t> data(engine, codes);
      EngineArray<float> scale(engine, grid), y(engine, tokens.size() * cols);
      EngineArray<int32_t> ids(engine, tokens);
      Weight table;
      table.data = data.data();
      table.grid = scale.data();
      table.rows = kRows;
      table.cols = cols;
      engine->EmbeddingForward(ids.data(), table, y.AsMatrix(131));
      return std::vector<Floats>{y.Download()};
    })[0];
    for (size_t i = 0; i < got.size(); ++i) {
      const int64_t row = tokens[i / cols];
      ASSERT_EQ(got[i], grid[row] * static_cast<float>(codes[row * cols + i % cols]));
    }
  }
}

TEST(Embedding, ForwardCopiesFloatRows) {
  const Floats values = RandomFloats(kRows * 33, 1);
  const std::vector<int32_t> tokens = RandomTokens(70, 2);
  const Floats got = RunEverywhere([&](Engine* engine) {
    EngineArray<float> data(engine, values), y(engine, size_t{70 * 33});
    EngineArray<int32_t> ids(engine, tokens);
    Weight table;
    table.data = data.data();
    table.dtype = DType::kF32;
    table.rows = kRows;
    table.cols = 33;
    engine->EmbeddingForward(ids.data(), table, y.AsMatrix(70));
    return std::vector<Floats>{y.Download()};
  })[0];
  for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(got[i], values[tokens[i / 33] * 33 + i % 33]);
}

TEST(Embedding, TokenOutsideTheTableIsReported) {
  for (int32_t token : {-1, static_cast<int32_t>(kRows)}) {
    for (const NamedEngine& named : LayerEngines()) {
      Engine* engine = named.engine.get();
      EngineArray<float> data(engine, RandomFloats(kRows, 1)), y(engine, size_t{1});
      EngineArray<int32_t> ids(engine, std::vector<int32_t>{token});
      Weight table;
      table.data = data.data();
      table.dtype = DType::kF32;
      table.rows = kRows;
      table.cols = 1;
      engine->EmbeddingForward(ids.data(), table, y.AsMatrix(1));
      EXPECT_NE(engine->Synchronize(), nullptr);
    }
  }
}

Floats Backward(const std::vector<int32_t>& tokens, const Floats& dy, const Floats& before,
                int64_t row_begin, int64_t rows) {
  return RunEverywhere([&](Engine* engine) {
    EngineArray<float> d(engine, dy), dtable(engine, before);
    EngineArray<int32_t> ids(engine, tokens);
    engine->EmbeddingBackward(ids.data(), d.AsMatrix(static_cast<int64_t>(tokens.size())),
                              row_begin, dtable.AsMatrix(rows));
    return std::vector<Floats>{dtable.Download()};
  })[0];
}

TEST(Embedding, BackwardSumsInTokenOrder) {
  for (int64_t cols : {1, 64, 100, 577}) {
    const std::vector<int32_t> tokens = RandomTokens(300, 4);
    const Floats dy = RandomFloats(tokens.size() * cols, 5);
    const Floats before = RandomFloats(kRows * cols, 6);
    Floats expected = before;
    for (size_t t = 0; t < tokens.size(); ++t) {
      for (int64_t c = 0; c < cols; ++c) expected[tokens[t] * cols + c] += dy[t * cols + c];
    }
    EXPECT_TRUE(SameBits(Backward(tokens, dy, before, 0, kRows), expected));
    const Floats part(before.begin() + 10 * cols, before.begin() + 30 * cols);
    const Floats expected_part(expected.begin() + 10 * cols, expected.begin() + 30 * cols);
    EXPECT_TRUE(SameBits(Backward(tokens, dy, part, 10, 20), expected_part));
  }
}

}  // namespace
}  // namespace qft
