// Opaque handles of the C interface. A handle is a token, never an address: a 64-bit number that
// holds a counter that is never reused and the kind of the object, and that is looked up before
// anything is followed. Kinds are split between the two libraries (libqft.so, libqft_data.so),
// which each compile this file and own a registry, so a handle of one is never taken for the
// other's.
//
// A noun's file says once which C type its object is handed out as:
//
//   template <>
//   struct HandleOf<SessionObject> {
//     using type = qft_session;
//   };
//
// and then uses AddHandle, Exclusive<T>, Shared<T>, FindHandle and RemoveHandle.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "base/status.h"
#include "include/qft_c.h"

struct qft_tokenizer;
struct qft_dataset;

namespace qft {

// The upper four bits are the library: 0 libqft.so, 1 libqft_data.so.
enum class HandleKind : uint8_t {
  kError = 0x01,
  kConfig = 0x02,
  kModel = 0x03,
  kSession = 0x04,
  kDecoder = 0x05,
  kSave = 0x06,
  kCheckpoint = 0x07,
  kEvent = 0x08,
  kCheckpointReport = 0x09,
  kPlan = 0x0a,
  kTokenizer = 0x11,
  kDataset = 0x12,
};

// "session" for kSession; "unknown object" for a value that is no kind.
const char* HandleKindName(HandleKind kind);

template <typename C>
struct KindOf;
template <>
struct KindOf<qft_error> : std::integral_constant<HandleKind, HandleKind::kError> {};
template <>
struct KindOf<qft_config> : std::integral_constant<HandleKind, HandleKind::kConfig> {};
template <>
struct KindOf<qft_model> : std::integral_constant<HandleKind, HandleKind::kModel> {};
template <>
struct KindOf<qft_session> : std::integral_constant<HandleKind, HandleKind::kSession> {};
template <>
struct KindOf<qft_decoder> : std::integral_constant<HandleKind, HandleKind::kDecoder> {};
template <>
struct KindOf<qft_save> : std::integral_constant<HandleKind, HandleKind::kSave> {};
template <>
struct KindOf<qft_checkpoint> : std::integral_constant<HandleKind, HandleKind::kCheckpoint> {};
template <>
struct KindOf<qft_event> : std::integral_constant<HandleKind, HandleKind::kEvent> {};
template <>
struct KindOf<qft_checkpoint_report>
    : std::integral_constant<HandleKind, HandleKind::kCheckpointReport> {};
template <>
struct KindOf<qft_plan> : std::integral_constant<HandleKind, HandleKind::kPlan> {};
template <>
struct KindOf<qft_tokenizer> : std::integral_constant<HandleKind, HandleKind::kTokenizer> {};
template <>
struct KindOf<qft_dataset> : std::integral_constant<HandleKind, HandleKind::kDataset> {};

// Specialised once for each C++ type that is handed out.
template <typename T>
struct HandleOf;

template <typename T>
using HandleType = typename HandleOf<T>::type;
template <typename T>
inline constexpr HandleKind kKindOf = KindOf<HandleType<T>>::value;

namespace handle_internal {

// What the registry holds for one handle.
struct Cell {
  std::shared_ptr<void> object;
  std::atomic<int32_t> users{0};            // -1: used exclusively, n: by n readers
  std::atomic<const void*> owner{nullptr};  // marks the thread of the exclusive use
};

// Tokens of counters below this one are never given out; error.cpp uses them for its fixed errors.
inline constexpr uint64_t kFirstCounter = 1 << 16;

constexpr uint64_t MakeToken(HandleKind kind, uint64_t counter) {
  // Bit 62 keeps the number off every address, so that a runtime that scans pointers (Go) never
  // takes it for one of its own, and positive as a signed integer.
  return (uint64_t{1} << 62) | (counter << 8) | static_cast<uint64_t>(kind);
}

static_assert(sizeof(void*) == sizeof(uint64_t), "a handle holds a 64-bit token");

uint64_t Insert(HandleKind kind, std::shared_ptr<void> object);
StatusOr<std::shared_ptr<Cell>> Find(HandleKind kind, const void* handle);
void Remove(HandleKind kind, const void* handle) noexcept;

Status LockExclusive(HandleKind kind, Cell& cell);
void UnlockExclusive(Cell& cell) noexcept;
Status LockShared(HandleKind kind, Cell& cell);
void UnlockShared(Cell& cell) noexcept;

template <typename T>
StatusOr<std::shared_ptr<Cell>> Find(const HandleType<T>* handle) {
  return Find(kKindOf<T>, handle);
}

template <typename C>
C* ToPointer(uint64_t token) {
  // NOLINTNEXTLINE(performance-no-int-to-ptr): never followed, so nothing is lost
  return reinterpret_cast<C*>(static_cast<uintptr_t>(token));
}

}  // namespace handle_internal

// Registers `object` and returns its handle. Throws std::bad_alloc (inside Guard, see boundary.h).
template <typename T>
HandleType<T>* AddHandle(std::shared_ptr<T> object) {
  const uint64_t token = handle_internal::Insert(kKindOf<T>, std::move(object));
  return handle_internal::ToPointer<HandleType<T>>(token);
}

// The object whoever else uses it, for what is documented to run beside an exclusive use (metrics).
// Errors: kInvalidArgument (NULL, a handle of another kind), kStale, kForked.
template <typename T>
StatusOr<std::shared_ptr<T>> FindHandle(const HandleType<T>* handle) {
  QFT_ASSIGN_OR_RETURN(std::shared_ptr<handle_internal::Cell> cell,
                       handle_internal::Find<T>(handle));
  return std::static_pointer_cast<T>(cell->object);
}

// Forgets the handle; the object is freed when its last use ends. NULL, stale, inherited by a fork
// or of another kind: does nothing. Never waits for a use under way.
template <typename T>
void RemoveHandle(HandleType<T>* handle) noexcept {
  handle_internal::Remove(kKindOf<T>, handle);
}

// Exclusive use, for functions that take T*. Errors: as FindHandle; kBusy while any other use is
// under way, kReentrant if that use is exclusive and by this same thread (a callback).
template <typename T>
class Exclusive {
 public:
  static StatusOr<Exclusive> Lock(HandleType<T>* handle) {
    QFT_ASSIGN_OR_RETURN(std::shared_ptr<handle_internal::Cell> cell,
                         handle_internal::Find<T>(handle));
    QFT_RETURN_IF_ERROR(handle_internal::LockExclusive(kKindOf<T>, *cell));
    return Exclusive(std::move(cell));
  }
  Exclusive(Exclusive&&) noexcept = default;
  Exclusive& operator=(Exclusive&&) = delete;
  ~Exclusive() {
    if (cell_) handle_internal::UnlockExclusive(*cell_);
  }

  T* operator->() const { return get(); }
  T& operator*() const { return *get(); }
  T* get() const { return static_cast<T*>(cell_->object.get()); }
  // To keep the object beyond this use; says nothing about who uses it.
  std::shared_ptr<T> shared() const { return std::static_pointer_cast<T>(cell_->object); }

 private:
  explicit Exclusive(std::shared_ptr<handle_internal::Cell> cell) : cell_(std::move(cell)) {}
  std::shared_ptr<handle_internal::Cell> cell_;
};

// Use beside other readers, for functions that take const T*. Errors: as Exclusive, but only an
// exclusive use makes it busy.
template <typename T>
class Shared {
 public:
  static StatusOr<Shared> Lock(const HandleType<T>* handle) {
    QFT_ASSIGN_OR_RETURN(std::shared_ptr<handle_internal::Cell> cell,
                         handle_internal::Find<T>(handle));
    QFT_RETURN_IF_ERROR(handle_internal::LockShared(kKindOf<T>, *cell));
    return Shared(std::move(cell));
  }
  Shared(Shared&&) noexcept = default;
  Shared& operator=(Shared&&) = delete;
  ~Shared() {
    if (cell_) handle_internal::UnlockShared(*cell_);
  }

  const T* operator->() const { return get(); }
  const T& operator*() const { return *get(); }
  const T* get() const { return static_cast<const T*>(cell_->object.get()); }
  std::shared_ptr<const T> shared() const {
    return std::static_pointer_cast<const T>(cell_->object);
  }

 private:
  explicit Shared(std::shared_ptr<handle_internal::Cell> cell) : cell_(std::move(cell)) {}
  std::shared_ptr<handle_internal::Cell> cell_;
};

}  // namespace qft
