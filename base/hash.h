// xxh3-128 over a stream of bytes, for manifests and state hashes.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace qft {

class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  void Update(const void* data, size_t size);
  // 32 hexadecimal digits of what came so far.
  std::string Hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace qft
