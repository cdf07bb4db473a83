#include "runtime/tensor_io.h"

#include <algorithm>
#include <cmath>

namespace qft {
namespace {

// Decodes codes with one scale for every `block` columns of a row.
void DecodeBlocks(const std::vector<int8_t>& codes, const std::vector<float>& grid, int64_t rows,
                  int64_t cols, int64_t block, float* out) {
  const int64_t blocks = (cols + block - 1) / block;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      out[r * cols + c] = grid[r * blocks + c / block] * static_cast<float>(codes[r * cols + c]);
    }
  }
}

struct Part {
  const void* data = nullptr;
  const float* grid = nullptr;
  DType dtype = DType::kF32;
  int64_t block = 0;  // columns that share a grid
  CriticalFeatures critical;
};

std::vector<int32_t> CriticalColumns(Session& session, const CriticalFeatures& critical) {
  std::vector<int32_t> columns(static_cast<size_t>(critical.count));
  session.engine().CopyToHost(columns.data(), critical.columns, columns.size() * sizeof(int32_t));
  return columns;
}

Status ReadPart(Session& session, const TensorSpec& spec, const Part& part, float* out) {
  if (part.dtype == DType::kF32) {
    return session.ReadState(out, part.data, spec.elements() * sizeof(float));
  }
  const int64_t blocks = (spec.cols + part.block - 1) / part.block;
  std::vector<int8_t> codes(static_cast<size_t>(spec.elements()));
  std::vector<float> grid(static_cast<size_t>(spec.rows * blocks));
  QFT_RETURN_IF_ERROR(session.ReadState(codes.data(), part.data, codes.size()));
  QFT_RETURN_IF_ERROR(session.ReadState(grid.data(), part.grid, grid.size() * sizeof(float)));
  DecodeBlocks(codes, grid, spec.rows, spec.cols, part.block, out);
  const std::vector<int32_t> columns = CriticalColumns(session, part.critical);
  std::vector<float> critical(static_cast<size_t>(spec.rows) * columns.size());
  QFT_RETURN_IF_ERROR(
      session.ReadState(critical.data(), part.critical.values, critical.size() * sizeof(float)));
  for (size_t i = 0; i < critical.size(); ++i) {
    const auto row = static_cast<int64_t>(i / columns.size());
    out[row * spec.cols + columns[i % columns.size()]] = critical[i];
  }
  return session.Synchronize();
}

// Through a buffer of engine memory, some rows at a time.
Status ReadWeight(Session& session, const TensorSpec& spec, const Weight& weight, float* out) {
  constexpr int64_t kBufferFloats = int64_t{1} << 20;
  Engine& engine = session.engine();
  const int64_t most = std::clamp<int64_t>(kBufferFloats / spec.cols, 1, spec.rows);
  Arena arena(&engine);
  auto* buffer = arena.Allocate<float>(Purpose::kWorkspace, most * spec.cols);
  QFT_RETURN_IF_ERROR(arena.status());
  for (int64_t row = 0; row < spec.rows; row += most) {
    const int64_t rows = std::min(most, spec.rows - row);
    engine.DecodeWeight(weight, row, rows, buffer);
    engine.CopyToHost(out + row * spec.cols, buffer, rows * spec.cols * sizeof(float));
  }
  return session.Synchronize();
}

// absmax / 127 per block of the row, to nearest.
void EncodeMomentum(const float* values, int64_t rows, int64_t cols, std::vector<int8_t>& codes,
                    std::vector<float>& grid) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t begin = 0; begin < cols; begin += kMomentumBlock) {
      const int64_t end = std::min(begin + kMomentumBlock, cols);
      const float* row = values + r * cols;
      float largest = 0;
      for (int64_t c = begin; c < end; ++c) largest = std::max(largest, std::fabs(row[c]));
      const float scale = largest / 127.0f;
      grid.push_back(scale);
      for (int64_t c = begin; c < end; ++c) {
        const float code = scale > 0 ? std::nearbyint(row[c] / scale) : 0.0f;
        codes.push_back(static_cast<int8_t>(std::clamp(code, -127.0f, 127.0f)));
      }
    }
  }
}

CriticalFeatures MomentumCritical(const TensorState& state) {
  CriticalFeatures critical = state.weight.critical;
  critical.values = state.momentum.critical;
  return critical;
}

Status WriteMomentum(Session& session, const TensorSpec& spec, const TensorState& state,
                     const float* values) {
  if (state.momentum.dtype == DType::kF32) {
    session.engine().CopyToEngine(state.momentum.data, values, spec.elements() * sizeof(float));
    return session.Synchronize();
  }
  const std::vector<int32_t> columns = CriticalColumns(session, state.weight.critical);
  std::vector<float> ordinary(values, values + spec.elements());
  std::vector<float> critical;
  for (int64_t r = 0; r < spec.rows; ++r) {
    for (const int32_t column : columns) {
      critical.push_back(values[r * spec.cols + column]);
      ordinary[static_cast<size_t>(r * spec.cols + column)] = 0;
    }
  }
  std::vector<int8_t> codes;
  std::vector<float> grid;
  EncodeMomentum(ordinary.data(), spec.rows, spec.cols, codes, grid);
  const PoisonOnException guard(session, "memory ran out while momentum was written");
  QFT_RETURN_IF_ERROR(session.WriteState(state.momentum.data, codes.data(), codes.size()));
  QFT_RETURN_IF_ERROR(
      session.WriteState(state.momentum.grid, grid.data(), grid.size() * sizeof(float)));
  QFT_RETURN_IF_ERROR(session.WriteState(state.momentum.critical, critical.data(),
                                         critical.size() * sizeof(float)));
  return session.Synchronize();
}

Status NoPart(const TensorSpec& spec, const char* what) {
  return MakeError(ErrorCode::kState, absl::StrCat(spec.name, " has no ", what, " now"));
}

}  // namespace

Status ReadTensor(Session& session, int tensor, TensorPart part, float* out) {
  QFT_RETURN_IF_ERROR(session.FinishUpdates());
  const TensorSpec& spec = session.model().table()[tensor];
  const TensorState& state = session.tensor_states()[tensor];
  switch (part) {
    case TensorPart::kWeight:
      return ReadWeight(session, spec, state.weight, out);
    case TensorPart::kGrid:
      if (state.weight.grid == nullptr) return NoPart(spec, "grid: it is held in fp32");
      session.engine().CopyToHost(out, state.weight.grid, spec.rows * sizeof(float));
      return session.Synchronize();
    case TensorPart::kMomentum:
      if (state.momentum.data == nullptr) return NoPart(spec, "momentum");
      return ReadPart(session, spec,
                      {state.momentum.data, state.momentum.grid, state.momentum.dtype,
                       kMomentumBlock, MomentumCritical(state)},
                      out);
    case TensorPart::kGradient: {
      const StackEntry* entry = session.step_open() ? session.FindGradient(tensor) : nullptr;
      if (entry == nullptr) return NoPart(spec, "gradient on the stack");
      const Gradient& gradient = entry->gradient;
      return ReadPart(session, spec,
                      {gradient.data, gradient.grid, gradient.dtype, spec.cols, gradient.critical},
                      out);
    }
  }
  return InvalidArgument("unknown part of a tensor");
}

Status ReadTensorCodes(Session& session, int tensor, int8_t* out) {
  QFT_RETURN_IF_ERROR(session.FinishUpdates());
  const Weight& weight = session.tensor_states()[tensor].weight;
  if (weight.dtype != DType::kI8) {
    return Unsupported(session.model().table()[tensor].name, " is held in fp32 and has no codes");
  }
  session.engine().CopyToHost(out, weight.data, static_cast<size_t>(weight.rows * weight.cols));
  return session.Synchronize();
}

Status WriteTensor(Session& session, int tensor, TensorPart part, const float* values) {
  QFT_RETURN_IF_ERROR(session.FinishUpdates());
  if (session.step_open()) return MakeError(ErrorCode::kState, "a step is open");
  const TensorSpec& spec = session.model().table()[tensor];
  const TensorState& state = session.tensor_states()[tensor];
  for (int64_t i = 0; i < spec.elements(); ++i) {
    if (!std::isfinite(values[i])) {
      return BadData(spec.name, ": value ", i, " is not finite");
    }
  }
  session.snapshot().BeforeOverwrite(tensor);
  if (part == TensorPart::kWeight) {
    session.engine().EncodeWeight(values, state.weight);
    return session.Synchronize();
  }
  if (part != TensorPart::kMomentum) {
    return Unsupported("only weights and momenta can be set");
  }
  if (state.momentum.data == nullptr) return NoPart(spec, "momentum");
  return WriteMomentum(session, spec, state, values);
}

}  // namespace qft
