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

// The `count` columns of largest range, ascending; of equals the first.
std::vector<int32_t> Widest(const std::vector<float>& range, int32_t count) {
  std::vector<int32_t> columns(range.size());
  std::iota(columns.begin(), columns.end(), 0);
  std::stable_sort(columns.begin(), columns.end(),
                   [&](int32_t a, int32_t b) { return range[a] > range[b]; });
  columns.resize(static_cast<size_t>(count));
  std::sort(columns.begin(), columns.end());
  return columns;
}

}  // namespace

Status Session::Calibrate(const std::vector<TensorState>& states) {
  Llama graph = llama();
  graph.states = &states;
  graph.critical_count = 0;
  QFT_ASSIGN_OR_RETURN(const std::vector<int32_t> columns, WidestColumns(graph));
  engine_->CopyToEngine(buffers_.critical_columns, columns.data(),
                        columns.size() * sizeof(int32_t));
  return absl::OkStatus();
}

StatusOr<double> Session::CriticalOverlap() {
  QFT_RETURN_IF_ERROR(FinishUpdates());
  if (step_open_) return MakeError(ErrorCode::kState, "a step is open");
  if (plan_.critical_count == 0) return 1.0;
  QFT_ASSIGN_OR_RETURN(const std::vector<int32_t> today, WidestColumns(llama()));
  std::vector<int32_t> kept(today.size());
  engine_->CopyToHost(kept.data(), buffers_.critical_columns, kept.size() * sizeof(int32_t));
  const auto count = static_cast<ptrdiff_t>(plan_.critical_count);
  int64_t common = 0;
  auto old = kept.begin();
  for (auto site = today.begin(); site != today.end(); site += count, old += count) {
    common += std::count_if(site, site + count, [&](int32_t column) {
      return std::binary_search(old, old + count, column);
    });
  }
  return static_cast<double>(common) / static_cast<double>(today.size());
}

// Outlier features are a trait of the model more than of the text, so random tokens show them and
// no data is needed. Two boundaries in turn as in evaluation.
StatusOr<std::vector<int32_t>> Session::WidestColumns(Llama graph) {
  const std::vector<int32_t> tokens = RandomTokens(
      std::min(kRandomTokens, config_.micro_batch_tokens), plan_.model->config().vocab_size);
  BatchView batch;
  batch.tokens = static_cast<int64_t>(tokens.size());
  batch.token_ids = tokens.data();
  MicroBatch& slot = buffers_.micro_batches[0];
  Upload(batch, 0, slot);
  std::vector<std::vector<float>> ranges;
  for (const int64_t width : SiteWidths(plan_)) ranges.emplace_back(static_cast<size_t>(width));
  const BlockActivations& kept = buffers_.activations[0];
  const auto boundary = [&](int block) {
    return FirstRows(buffers_.boundaries[block % 2], slot.tokens);
  };
  const int blocks = static_cast<int>(graph.tensors->blocks.size());
  const auto add = [&](const Operand& operand, int site) {
    AddRanges(graph.AtSite(operand, site, batch.tokens), ranges[site]);
  };
  EmbedForward(graph, slot, boundary(0));
  for (int block = 0; block < blocks; ++block) {
    BlockForward(graph, block, slot, boundary(block), kept, boundary(block + 1));
    const int site = kSitesPerBlock * block;
    add(kept.attention_input, site);
    add(kept.o_input, site + 1);
    add(kept.mlp_input, site + 2);
    AddRanges(DownInput(graph, block, kept, batch.tokens), ranges[site + 3]);
  }
  HeadNorm(graph, slot, boundary(blocks));
  add(slot.head_input, graph.head_site());
  QFT_RETURN_IF_ERROR(Synchronize());
  std::vector<int32_t> chosen;
  for (const std::vector<float>& range : ranges) {
    const std::vector<int32_t> columns = Widest(range, plan_.critical_count);
    chosen.insert(chosen.end(), columns.begin(), columns.end());
  }
  return chosen;
}

void Session::AddRanges(const Operand& operand, std::vector<float>& range) {
  const auto elements = static_cast<size_t>(operand.rows * operand.cols);
  std::vector<float> values(elements);
  if (operand.dtype == DType::kF32) {
    engine_->CopyToHost(values.data(), operand.data, elements * sizeof(float));
  } else {
    std::vector<int8_t> codes(elements);
    std::vector<float> scales(static_cast<size_t>(operand.rows));
    engine_->CopyToHost(codes.data(), operand.data, codes.size());
    engine_->CopyToHost(scales.data(), operand.scales, scales.size() * sizeof(float));
    for (size_t i = 0; i < elements; ++i) {
      values[i] = scales[i / range.size()] * static_cast<float>(codes[i]);
    }
  }
  for (size_t i = 0; i < elements; ++i) {
    float& largest = range[i % range.size()];
    largest = std::max(largest, std::fabs(values[i]));
  }
  if (operand.dtype == DType::kF32) return;
  const auto count = static_cast<size_t>(operand.critical.count);
  std::vector<float> critical(static_cast<size_t>(operand.rows) * count);
  std::vector<int32_t> columns(count);
  engine_->CopyToHost(critical.data(), operand.critical.values, critical.size() * sizeof(float));
  engine_->CopyToHost(columns.data(), operand.critical.columns, count * sizeof(int32_t));
  for (size_t i = 0; i < critical.size(); ++i) {
    float& largest = range[columns[i % count]];
    largest = std::max(largest, std::fabs(critical[i]));
  }
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
