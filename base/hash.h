// xxh3: 128 bits over a stream of bytes, for manifests and state hashes; 64 bits of one buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace qft {

uint64_t Hash64(const void* data, size_t size);

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
