#include "runtime/checkpoint_states.h"

#include <algorithm>

namespace qft {
namespace {

StoredType TypeOf(DType dtype) {
  if (dtype == DType::kI8) return StoredType::kI8;
  return dtype == DType::kI32 ? StoredType::kI32 : StoredType::kF32;
}

StatePart Part(const std::string& name, std::vector<int64_t> shape, DType dtype, void* data) {
  StatePart part;
  part.info.name = name;
  part.info.type = TypeOf(dtype);
  part.bytes = dtype == DType::kI8 ? 1 : sizeof(float);
  for (const int64_t size : shape) part.bytes *= static_cast<size_t>(size);
  part.info.shape = std::move(shape);
  part.data = data;
  return part;
}

}  // namespace

std::vector<StatePart> StateParts(Session& session) {
  std::vector<StatePart> parts;
  const TensorTable& table = session.model().table();
  const auto add = [&parts](int tensor, StatePart part) {
    part.tensor = tensor;
    parts.push_back(std::move(part));
  };
  for (int i = 0; i < table.size(); ++i) {
    const TensorSpec& spec = table[i];
    const TensorState& state = session.tensor_states()[i];
    const std::vector<int64_t> shape = spec.dimensions == 1
                                           ? std::vector<int64_t>{spec.cols}
                                           : std::vector<int64_t>{spec.rows, spec.cols};
    add(i, Part(spec.name, shape, state.weight.dtype, state.weight.data));
    if (state.weight.grid != nullptr) {
      add(i, Part(spec.name + ".grid", {spec.rows}, DType::kF32, state.weight.grid));
    }
    const int64_t critical = state.weight.critical.count;
    if (critical > 0) {
      add(i, Part(spec.name + ".critical", {spec.rows, critical}, DType::kF32,
                  state.weight.critical.values));
    }
    if (state.weight.residual != nullptr) {
      add(i, Part(spec.name + ".residual", {spec.rows, ResidualBytes(spec.cols)}, DType::kI8,
                  state.weight.residual));
    }
    if (state.momentum.data == nullptr) continue;
    add(i, Part(spec.name + ".momentum", shape, state.momentum.dtype, state.momentum.data));
    if (state.momentum.grid != nullptr) {
      add(i, Part(spec.name + ".momentum_grid", {spec.rows, MomentumBlocks(spec.cols)}, DType::kF32,
                  state.momentum.grid));
    }
    if (critical > 0) {
      add(i, Part(spec.name + ".critical_momentum", {spec.rows, critical}, DType::kF32,
                  state.momentum.critical));
    }
  }
  if (session.critical_columns() != nullptr) {
    const auto sites = static_cast<int64_t>(SiteWidths(session.plan()).size());
    parts.push_back(Part("critical_columns", {sites, session.plan().critical_count}, DType::kI32,
                         session.critical_columns()));
  }
  std::stable_partition(parts.begin(), parts.end(),
                        [](const StatePart& part) { return part.info.type != StoredType::kI8; });
  return parts;
}

}  // namespace qft
