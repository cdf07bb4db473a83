#include "offload/request_queue.h"

#include <utility>

namespace qft {
namespace {

#ifdef QFT_IO_URING
StatusOr<std::unique_ptr<RequestQueue>> MakeUringQueueIfBuilt(
    const std::shared_ptr<const ScratchFile>& file, int depth) {
  return MakeUringQueue(file, depth);
}
#else
StatusOr<std::unique_ptr<RequestQueue>> MakeUringQueueIfBuilt(
    const std::shared_ptr<const ScratchFile>& /*file*/, int /*depth*/) {
  return Unsupported("this build has no io_uring (liburing was absent)");
}
#endif

}  // namespace

StatusOr<QueueChoice> MakeQueue(StoreBackend backend, std::shared_ptr<const ScratchFile> file,
                                int depth) {
  std::string why = "threads were asked for";
  if (backend != StoreBackend::kThreads) {
    StatusOr<std::unique_ptr<RequestQueue>> queue = MakeUringQueueIfBuilt(file, depth);
    if (queue.ok()) return QueueChoice{*std::move(queue), StoreBackend::kIoUring, ""};
    if (backend == StoreBackend::kIoUring) return queue.status();
    why = std::string(queue.status().message());
  }
  return QueueChoice{MakeThreadQueue(std::move(file), depth), StoreBackend::kThreads, why};
}

}  // namespace qft
