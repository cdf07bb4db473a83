// Where states live that only updates need, outside the engine's memory: host memory or a store.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "kernels/ops.h"
#include "offload/store.h"

namespace qft {

enum class Tier : int32_t { kDevice, kHost, kNvme };
const char* TierName(Tier tier);

// One range of addresses. In a store they name places and nothing stands there: who follows one is
// stopped by the processor.
class StateHome {
 public:
  // Zeroed. tier: kHost or kNvme, then with the folders and settings of `store`, whose bytes are
  // set here. Errors: OUT_OF_MEMORY; the store's.
  static StatusOr<std::unique_ptr<StateHome>> Open(Engine& engine, Tier tier, int64_t bytes,
                                                   StoreOptions store);
  ~StateHome();
  StateHome(const StateHome&) = delete;
  StateHome& operator=(const StateHome&) = delete;

  Tier tier() const { return tier_; }
  char* base() const { return base_; }
  int64_t bytes() const { return bytes_; }
  bool Holds(const void* state) const { return state >= base_ && state < base_ + bytes_; }
  // nullptr in host memory.
  Store* store() const { return store_.get(); }
  int64_t OffsetOf(const void* state) const { return static_cast<const char*>(state) - base_; }

  // For people: where a store's bytes are, its backend, what its trial measured, and how long that
  // takes to move all states once in and once out.
  std::string Describe() const;

  // Any range of it, while nothing of it is under way. Errors are the store's, which are sticky;
  // std::bad_alloc passes before anything has changed.
  Status Read(void* host, const void* state, size_t bytes);
  Status Write(void* state, const void* host, size_t bytes);

 private:
  StateHome(Engine& engine, Tier tier, int64_t bytes)
      : engine_(engine), tier_(tier), bytes_(bytes) {}
  Status Clear();
  // Transfers of whole pages around [offset, offset + bytes) of the store, piece by piece.
  template <typename Body>
  Status ByPages(int64_t offset, size_t bytes, const Body& body);

  Engine& engine_;
  Tier tier_;
  int64_t bytes_;
  char* base_ = nullptr;
  std::string places_;  // of the store
  std::unique_ptr<Store> store_;
};

}  // namespace qft
