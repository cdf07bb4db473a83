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

// Twelve uniform 16-bit numbers have deviation 1 (in units of 65536) to within 1e-5.
float NearlyNormal(PhiloxKey key, uint64_t element) {
  int64_t sum = 0;
  for (uint64_t part = 0; part < 2; ++part) {
    const PhiloxBlock block = Philox(key, element, part);
    for (int word = 0; word < 3; ++word) {
      sum += (block.word[word] & 0xffffu) + (block.word[word] >> 16);
    }
  }
  return static_cast<float>(sum - 6 * 65535) / 65536.0f;
}

}  // namespace

RandomSource::RandomSource(const TensorTable& table, uint64_t seed) : seed_(seed) {
  for (const TensorSpec& spec : table) {
    TensorInfo info;
    info.name = spec.name;
    info.shape = spec.dimensions == 1 ? std::vector<int64_t>{spec.cols}
                                      : std::vector<int64_t>{spec.rows, spec.cols};
    tensors_[spec.name] = info;
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
    std::fill(out, out + count, 1.0f);
    return absl::OkStatus();
  }
  const PhiloxKey key = StreamKey(seed_, "initial:" + info->name);
  const uint64_t begin = static_cast<uint64_t>(row_begin * info->Cols());
  const auto fill = [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      out[i] = kDeviation * NearlyNormal(key, begin + static_cast<uint64_t>(i));
    }
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
