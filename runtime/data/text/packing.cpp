#include "runtime/data/text/packing.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

#include "base/philox.h"

namespace qft {
namespace {

constexpr char kOrderStream[] = "data.order";

// Uniform in [0, bound), bound > 0: the high half of a 64 x 64 bit product. Its bias is below
// bound / 2^64.
int64_t Below(int64_t bound, PhiloxKey key, uint64_t index, uint64_t epoch) {
  const PhiloxBlock random = Philox(key, index, epoch);
  const uint64_t bits = static_cast<uint64_t>(random.word[1]) << 32 | random.word[0];
  __extension__ using Wide = unsigned __int128;
  return static_cast<int64_t>((static_cast<Wide>(bits) * static_cast<uint64_t>(bound)) >> 64);
}

// The free room of batches in a tree whose inner nodes hold the largest of their children.
class RoomTree {
 public:
  RoomTree(size_t batches, int64_t capacity)
      : leaves_(std::bit_ceil(std::max<size_t>(batches, 1))), room_(2 * leaves_, capacity) {}

  // The first batch with at least `length` left, which there must be; takes it.
  size_t Take(int64_t length) {
    size_t node = 1;
    while (node < leaves_) node = 2 * node + (room_[2 * node] < length ? 1 : 0);
    const size_t batch = node - leaves_;
    room_[node] -= length;
    for (node /= 2; node > 0; node /= 2)
      room_[node] = std::max(room_[2 * node], room_[2 * node + 1]);
    return batch;
  }

 private:
  size_t leaves_;
  std::vector<int64_t> room_;
};

}  // namespace

std::vector<int64_t> ShuffledOrder(int64_t count, uint64_t seed, uint64_t epoch) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  const PhiloxKey key = StreamKey(seed, kOrderStream);
  for (int64_t i = count - 1; i > 0; --i) {
    const int64_t other = Below(i + 1, key, static_cast<uint64_t>(i), epoch);
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(other)]);
  }
  return order;
}

std::vector<std::vector<int64_t>> PackFirstFit(const std::vector<int64_t>& order,
                                               const std::vector<int32_t>& lengths,
                                               int64_t capacity) {
  RoomTree rooms(order.size(), capacity);
  std::vector<std::vector<int64_t>> batches;
  for (const int64_t document : order) {
    const size_t batch = rooms.Take(lengths[static_cast<size_t>(document)]);
    if (batch >= batches.size()) batches.resize(batch + 1);
    batches[batch].push_back(document);
  }
  return batches;
}

}  // namespace qft
