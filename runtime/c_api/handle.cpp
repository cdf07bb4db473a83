#include "runtime/c_api/handle.h"

#include <unistd.h>

#include <mutex>
#include <unordered_map>

namespace qft {

const char* HandleKindName(HandleKind kind) {
  switch (kind) {
    case HandleKind::kError:
      return "error";
    case HandleKind::kConfig:
      return "config";
    case HandleKind::kModel:
      return "model";
    case HandleKind::kSession:
      return "session";
    case HandleKind::kDecoder:
      return "decoder";
    case HandleKind::kSave:
      return "save";
    case HandleKind::kCheckpoint:
      return "checkpoint";
    case HandleKind::kEvent:
      return "event";
    case HandleKind::kCheckpointReport:
      return "checkpoint report";
    case HandleKind::kPlan:
      return "plan";
    case HandleKind::kTokenizer:
      return "tokenizer";
    case HandleKind::kDataset:
      return "dataset";
  }
  return "unknown object";
}

namespace handle_internal {
namespace {

struct Registry {
  pid_t pid = 0;
  uint64_t first = kFirstCounter;  // lower counters were given out before the last fork
  std::atomic<uint64_t> next{kFirstCounter};
  std::mutex mutex;
  std::unordered_map<uint64_t, std::shared_ptr<Cell>> cells;
  // Kept so that what a fork inherited stays reachable. It is never touched: its mutex may have
  // been held by a thread that does not exist in this process.
  Registry* inherited = nullptr;
};

// Never freed, so that static destructors of callers may still use handles.
std::atomic<Registry*> g_registry{nullptr};

// The registry of this process, or null if it has made no handle yet.
Registry* ExistingRegistry() noexcept {
  Registry* registry = g_registry.load(std::memory_order_acquire);
  return registry != nullptr && registry->pid == getpid() ? registry : nullptr;
}

Registry& ThisRegistry() {
  if (Registry* registry = ExistingRegistry()) return *registry;
  Registry* inherited = g_registry.load(std::memory_order_acquire);
  auto fresh = std::make_unique<Registry>();
  fresh->pid = getpid();
  fresh->inherited = inherited;
  if (inherited != nullptr) fresh->first = inherited->next.load(std::memory_order_relaxed);
  fresh->next.store(fresh->first, std::memory_order_relaxed);
  if (g_registry.compare_exchange_strong(inherited, fresh.get(), std::memory_order_acq_rel)) {
    return *fresh.release();
  }
  return *inherited;
}

HandleKind KindOfToken(uint64_t token) {
  return static_cast<HandleKind>(token & 0xff);
}
uint64_t CounterOfToken(uint64_t token) {
  return (token & ~(uint64_t{1} << 62)) >> 8;
}

bool IsToken(uint64_t token) {
  const uint64_t counter = CounterOfToken(token);
  return token == MakeToken(KindOfToken(token), counter) && counter >= kFirstCounter &&
         counter < (uint64_t{1} << 54);
}

uint64_t TokenOf(const void* handle) {
  return static_cast<uint64_t>(reinterpret_cast<uintptr_t>(handle));
}

// Whether the token was given out by an ancestor of this process.
bool IsInherited(uint64_t token) noexcept {
  if (const Registry* registry = ExistingRegistry()) return CounterOfToken(token) < registry->first;
  return g_registry.load(std::memory_order_acquire) != nullptr;
}

// An address that is different in each thread.
const void* ThisThread() noexcept {
  thread_local const char mark = 0;
  return &mark;
}

Status InUse(HandleKind kind, const Cell& cell) {
  const char* name = HandleKindName(kind);
  if (cell.owner.load(std::memory_order_relaxed) == ThisThread()) {
    return MakeError(
        ErrorCode::kReentrant,
        absl::StrCat("the ", name, " is in use by the call that called this callback"));
  }
  return MakeError(ErrorCode::kBusy, absl::StrCat("the ", name, " is in use by another call"));
}

}  // namespace

uint64_t Insert(HandleKind kind, std::shared_ptr<void> object) {
  Registry& registry = ThisRegistry();
  auto cell = std::make_shared<Cell>();
  cell->object = std::move(object);
  const uint64_t token = MakeToken(kind, registry.next.fetch_add(1, std::memory_order_relaxed));
  const std::lock_guard<std::mutex> lock(registry.mutex);
  registry.cells.emplace(token, std::move(cell));
  return token;
}

StatusOr<std::shared_ptr<Cell>> Find(HandleKind kind, const void* handle) {
  const char* name = HandleKindName(kind);
  if (handle == nullptr) return InvalidArgument(name, " is NULL");
  const uint64_t token = TokenOf(handle);
  if (!IsToken(token)) {
    return MakeError(ErrorCode::kStale, absl::StrCat(name, " is not a handle of this library"));
  }
  if (KindOfToken(token) != kind) {
    return InvalidArgument("expected a ", name, ", got a ", HandleKindName(KindOfToken(token)));
  }
  if (IsInherited(token)) {
    return MakeError(ErrorCode::kForked,
                     absl::StrCat("the ", name, " was made before this process was forked"));
  }
  if (Registry* registry = ExistingRegistry()) {
    const std::lock_guard<std::mutex> lock(registry->mutex);
    const auto found = registry->cells.find(token);
    if (found != registry->cells.end()) return found->second;
  }
  return MakeError(ErrorCode::kStale, absl::StrCat("the ", name, " was destroyed"));
}

void Remove(HandleKind kind, const void* handle) noexcept {
  const uint64_t token = TokenOf(handle);
  if (!IsToken(token) || KindOfToken(token) != kind || IsInherited(token)) return;
  Registry* registry = ExistingRegistry();
  if (registry == nullptr) return;
  std::shared_ptr<Cell> removed;  // freed after the lock: a destructor may be slow or use handles
  const std::lock_guard<std::mutex> lock(registry->mutex);
  const auto found = registry->cells.find(token);
  if (found == registry->cells.end()) return;
  removed = std::move(found->second);
  registry->cells.erase(found);
}

Status LockExclusive(HandleKind kind, Cell& cell) {
  int32_t expected = 0;
  if (!cell.users.compare_exchange_strong(expected, -1, std::memory_order_acquire)) {
    return InUse(kind, cell);
  }
  cell.owner.store(ThisThread(), std::memory_order_relaxed);
  return absl::OkStatus();
}

void UnlockExclusive(Cell& cell) noexcept {
  cell.owner.store(nullptr, std::memory_order_relaxed);
  cell.users.store(0, std::memory_order_release);
}

Status LockShared(HandleKind kind, Cell& cell) {
  int32_t users = cell.users.load(std::memory_order_relaxed);
  do {
    if (users < 0) return InUse(kind, cell);
  } while (!cell.users.compare_exchange_weak(users, users + 1, std::memory_order_acquire));
  return absl::OkStatus();
}

void UnlockShared(Cell& cell) noexcept {
  cell.users.fetch_sub(1, std::memory_order_release);
}

}  // namespace handle_internal
}  // namespace qft
