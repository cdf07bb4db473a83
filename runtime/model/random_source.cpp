#include "runtime/model/random_source.h"

#include <algorithm>
#include <thread>

#include "base/philox.h"
#include "base/thread_pool.h"

namespace qft {
namespace {

constexpr float kDeviation = 0.02f;
// Elements that a thread makes at a time.
constexpr int64_t kPiece = 65536;

// Four uniform 16-bit numbers have deviation 1 (in units of 65536 / sqrt(3)) to within 1e-5.
float NearlyNormal(uint32_t first, uint32_t second) {
  const int64_t sum =
      static_cast<int64_t>(first & 0xffffu) + (first >> 16) + (second & 0xffffu) + (second >> 16);
  constexpr float kUnit = 1.7320508f / 65536.0f;
  return static_cast<float>(sum - 2 * 65535) * kUnit;
}

// Elements begin .. begin + count of a tensor, two of a Philox block.
void FillNormal(PhiloxKey key, uint64_t begin, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t element = begin + static_cast<uint64_t>(i);
    const PhiloxBlock block = Philox(key, element / 2, 0);
    if (element % 2 == 0) {
      out[i] = kDeviation * NearlyNormal(block.word[0], block.word[1]);
      if (++i == count) return;
    }
    out[i] = kDeviation * NearlyNormal(block.word[2], block.word[3]);
  }
}

}  // namespace

RandomSource::RandomSource(const TensorTable& table, uint64_t seed) : seed_(seed) {
  for (const TensorSpec& spec : table) {
    TensorInfo info;
    info.name = spec.name;
    info.shape = spec.dimensions == 1 ? std::vector<int64_t>{spec.cols}
                                      : std::vector<int64_t>{spec.rows, spec.cols};
    tensors_[spec.name] = info;
    if (spec.dimensions == 1) initial_[spec.name] = spec.initial;
  }
}

const TensorInfo* RandomSource::Find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

std::vector<std::string> RandomSource::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, info] : tensors_) names.push_back(name);
  return names;
}

Status RandomSource::ReadRows(std::string_view name, int64_t row_begin, int64_t row_count,
                              float* out) const {
  const TensorInfo* info = Find(name);
  if (info == nullptr) {
    return MakeError(ErrorCode::kNotFound, absl::StrCat("no tensor ", std::string(name)));
  }
  QFT_RETURN_IF_ERROR(CheckRows(*info, row_begin, row_count));
  const int64_t count = row_count * info->Cols();
  if (info->shape.size() == 1) {
    std::fill(out, out + count, initial_.find(name)->second);
    return absl::OkStatus();
  }
  const PhiloxKey key = StreamKey(seed_, "initial:" + info->name);
  const uint64_t begin = static_cast<uint64_t>(row_begin * info->Cols());
  const auto fill = [&](int64_t from, int64_t to) {
    FillNormal(key, begin + static_cast<uint64_t>(from), to - from, out + from);
  };
  if (count <= kPiece) {
    fill(0, count);
    return absl::OkStatus();
  }
  ThreadPool pool(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())), [] {});
  pool.ParallelFor((count + kPiece - 1) / kPiece, [&](int64_t piece, int) {
    fill(piece * kPiece, std::min(count, (piece + 1) * kPiece));
  });
  return absl::OkStatus();
}

}  // namespace qft
