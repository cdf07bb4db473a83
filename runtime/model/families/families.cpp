#include "runtime/model/family.h"

namespace qft {

std::span<const Family* const> Families() {
  static constexpr const Family* kFamilies[] = {&kLlama, &kMistral, &kQwen2, &kQwen3, &kSmolLm3};
  return kFamilies;
}

}  // namespace qft
