#include "runtime/data/text/mixture.h"

#include <algorithm>
#include <cmath>

#include "runtime/data/text/packing.h"

namespace qft {

std::vector<int64_t> DocumentsOfEpoch(const std::vector<MixturePart>& parts) {
  double weights = 0;
  double tokens = 0;
  for (const MixturePart& part : parts) {
    weights += part.documents > 0 ? part.weight : 0;
    tokens += static_cast<double>(part.tokens);
  }
  std::vector<int64_t> counts;
  for (const MixturePart& part : parts) {
    if (weights == 0 || part.documents == 0) {
      counts.push_back(part.documents);
      continue;
    }
    const double wanted = part.weight / weights * tokens;
    const double average = static_cast<double>(part.tokens) / static_cast<double>(part.documents);
    counts.push_back(std::max<int64_t>(1, std::llround(wanted / average)));
  }
  return counts;
}

std::vector<int64_t> ChooseDocuments(const std::vector<MixturePart>& parts,
                                     const std::vector<int64_t>& counts, uint64_t seed,
                                     uint64_t epoch) {
  __extension__ using Wide = unsigned __int128;
  std::vector<int64_t> chosen;
  int64_t first = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const int64_t documents = parts[i].documents;
    if (counts[i] == documents) {
      for (int64_t k = 0; k < documents; ++k) chosen.push_back(first + k);
    } else {
      const Wide begin = static_cast<Wide>(epoch) * static_cast<uint64_t>(counts[i]);
      auto pass = static_cast<uint64_t>(begin / static_cast<uint64_t>(documents));
      auto place = static_cast<size_t>(begin % static_cast<uint64_t>(documents));
      // Another order than that in which an epoch mixes the parts.
      const uint64_t own_seed = seed + i + 1;
      std::vector<int64_t> order = ShuffledOrder(documents, own_seed, pass);
      for (int64_t k = 0; k < counts[i]; ++k, ++place) {
        if (place == order.size()) {
          order = ShuffledOrder(documents, own_seed, ++pass);
          place = 0;
        }
        chosen.push_back(first + order[place]);
      }
    }
    first += documents;
  }
  return chosen;
}

}  // namespace qft
