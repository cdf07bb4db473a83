// Choosing the critical features: the columns of each matmul operand with the largest range.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/philox.h"
#include "runtime/session.h"

namespace qft {
namespace {

constexpr int64_t kRandomTokens = 256;

std::vector<int32_t> RandomTokens(int64_t count, int64_t vocabulary) {
  const PhiloxKey key = StreamKey(0, "calibration tokens");
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (size_t t = 0; t < tokens.size(); ++t) {
    const uint64_t random = Philox(key, t, 0).word[0];
    tokens[t] = static_cast<int32_t>(random * static_cast<uint64_t>(vocabulary) >> 32);
  }
  return tokens;
}

}  // namespace

// Outlier features are a trait of the model more than of the text, so random tokens show them and
// no data is needed. Forward without critical features, two boundaries in turn as in evaluation.
Status Session::Calibrate() {
  if (plan_.critical_count == 0) return absl::OkStatus();
  const std::vector<int32_t> tokens =
      RandomTokens(std::min(kRandomTokens, plan_.tokens), plan_.model->config().vocab_size);
  BatchView batch;
  batch.tokens = static_cast<int64_t>(tokens.size());
  batch.token_ids = tokens.data();
  MicroBatch& slot = buffers_.micro_batches[0];
  Upload(batch, 0, slot);
  Llama graph = llama();
  graph.critical_count = 0;
  std::vector<std::vector<float>> ranges;
  for (const int64_t width : SiteWidths(plan_)) ranges.emplace_back(static_cast<size_t>(width));
  const BlockActivations& kept = buffers_.activations[0];
  const auto boundary = [&](int block) {
    return FirstRows(buffers_.boundaries[block % 2], batch.tokens);
  };
  const int blocks = static_cast<int>(graph.tensors->blocks.size());
  EmbedForward(graph, slot, boundary(0));
  for (int block = 0; block < blocks; ++block) {
    BlockForward(graph, block, slot, boundary(block), kept, boundary(block + 1));
    const int site = kSitesPerBlock * block;
    AddRanges(FirstRows(kept.attention_input, batch.tokens), site, ranges);
    AddRanges(FirstRows(kept.o_input, batch.tokens), site + 1, ranges);
    AddRanges(FirstRows(kept.mlp_input, batch.tokens), site + 2, ranges);
    AddRanges(FirstRows(kept.down_input, batch.tokens), site + 3, ranges);
  }
  HeadNorm(graph, slot, boundary(blocks));
  AddRanges(FirstRows(slot.head_input, batch.tokens), graph.head_site(), ranges);
  ChooseCriticalColumns(ranges);
  return Synchronize();
}

void Session::AddRanges(const Operand& operand, int site, std::vector<std::vector<float>>& ranges) {
  std::vector<int8_t> codes(static_cast<size_t>(operand.rows * operand.cols));
  std::vector<float> scales(static_cast<size_t>(operand.rows));
  engine_->CopyToHost(codes.data(), operand.data, codes.size());
  engine_->CopyToHost(scales.data(), operand.scales, scales.size() * sizeof(float));
  std::vector<float>& range = ranges[site];
  for (int64_t t = 0; t < operand.rows; ++t) {
    for (int64_t c = 0; c < operand.cols; ++c) {
      const float code = std::fabs(static_cast<float>(codes[t * operand.cols + c]));
      range[c] = std::max(range[c], code * scales[t]);
    }
  }
}

void Session::ChooseCriticalColumns(const std::vector<std::vector<float>>& ranges) {
  std::vector<int32_t> chosen;
  for (const std::vector<float>& range : ranges) {
    std::vector<int32_t> columns(range.size());
    std::iota(columns.begin(), columns.end(), 0);
    std::stable_sort(columns.begin(), columns.end(),
                     [&](int32_t a, int32_t b) { return range[a] > range[b]; });
    columns.resize(static_cast<size_t>(plan_.critical_count));
    std::sort(columns.begin(), columns.end());
    chosen.insert(chosen.end(), columns.begin(), columns.end());
  }
  engine_->CopyToEngine(buffers_.critical_columns, chosen.data(), chosen.size() * sizeof(int32_t));
}

Status Session::CheckCriticalColumns() {
  const std::vector<int64_t> widths = SiteWidths(plan_);
  const auto count = static_cast<size_t>(plan_.critical_count);
  std::vector<int32_t> columns(widths.size() * count);
  engine_->CopyToHost(columns.data(), buffers_.critical_columns, columns.size() * sizeof(int32_t));
  for (size_t site = 0; site < widths.size(); ++site) {
    for (size_t i = 0; i < count; ++i) {
      const int32_t column = columns[site * count + i];
      const int32_t least = i == 0 ? 0 : columns[site * count + i - 1] + 1;
      if (column >= least && column < widths[site]) continue;
      Poison("a checkpoint's critical features are not columns of their operands");
      return Corrupt("critical_columns: ", column, " at site ", site);
    }
  }
  return absl::OkStatus();
}

}  // namespace qft
