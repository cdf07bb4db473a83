#include "runtime/state/state_home.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_join.h"
#include "offload/transfer_memory.h"

namespace qft {
namespace {

// What is cleared, read or written at a time.
constexpr int64_t kPieceBytes = int64_t{8} << 20;
constexpr double kGigabyte = 1e9;

// To the second decimal. (absl::StrFormat ends the process where memory runs out.)
double Hundredths(double value) {
  return std::round(value * 100) / 100;
}

int64_t RoundDown(int64_t offset) {
  return offset / kStoreAlignment * kStoreAlignment;
}

}  // namespace

const char* TierName(Tier tier) {
  switch (tier) {
    case Tier::kDevice:
      return "device";
    case Tier::kHost:
      return "host";
    case Tier::kNvme:
      return "nvme";
  }
  return "unknown";
}

StatusOr<std::unique_ptr<StateHome>> StateHome::Open(Engine& engine, Tier tier, int64_t bytes,
                                                     StoreOptions store) {
  bytes = WholePages(std::max<int64_t>(bytes, 1));
  std::unique_ptr<StateHome> home(new StateHome(engine, tier, bytes));
  if (tier == Tier::kHost) {
    home->base_ = static_cast<char*>(engine.AllocateHost(static_cast<size_t>(bytes)));
    if (home->base_ == nullptr) {
      return MakeError(ErrorCode::kOutOfMemory,
                       absl::StrCat("no host memory for ", bytes, " bytes of states"));
    }
    std::memset(home->base_, 0, static_cast<size_t>(bytes));
    return home;
  }
  store.bytes = bytes;
  home->places_ = absl::StrJoin(store.folders, ", ");
  QFT_ASSIGN_OR_RETURN(home->store_, Store::Open(store));
  void* addresses = mmap(nullptr, static_cast<size_t>(bytes), PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (addresses == MAP_FAILED) {
    return MakeError(ErrorCode::kOutOfMemory,
                     absl::StrCat("no memory addresses for ", bytes, " bytes of states"));
  }
  home->base_ = static_cast<char*>(addresses);
  QFT_RETURN_IF_ERROR(home->Clear());
  return home;
}

StateHome::~StateHome() {
  if (base_ == nullptr) return;
  if (tier_ == Tier::kHost) {
    engine_.FreeHost(base_, static_cast<size_t>(bytes_));
  } else {
    munmap(base_, static_cast<size_t>(bytes_));
  }
}

std::string StateHome::Describe() const {
  const StoreReport report = store_->Report();
  const auto bytes = static_cast<double>(bytes_);
  return absl::StrCat(Hundredths(bytes / kGigabyte), " GB in ", places_, " by ", report.description,
                      "; its trial read ", Hundredths(report.preflight_read / kGigabyte),
                      " GB/s and wrote ", Hundredths(report.preflight_write / kGigabyte),
                      " GB/s, by which the momentum of a step takes ",
                      Hundredths(bytes / report.preflight_read), " s to come and ",
                      Hundredths(bytes / report.preflight_write), " s to go");
}

Status StateHome::Clear() {
  const int64_t piece = std::min(kPieceBytes, bytes_);
  TransferMemory zeros(*store_, piece);
  std::memset(zeros.data(), 0, static_cast<size_t>(piece));
  zeros.Lend();
  std::vector<uint64_t> tickets;
  for (int64_t at = 0; at < bytes_; at += piece) {
    tickets.push_back(store_->StartWrite(zeros.data(), std::min(piece, bytes_ - at), at));
  }
  for (const uint64_t ticket : tickets) QFT_RETURN_IF_ERROR(store_->Wait(ticket));
  zeros.TakeBack();
  return absl::OkStatus();
}

template <typename Body>
Status StateHome::ByPages(int64_t offset, size_t bytes, const Body& body) {
  TransferMemory memory(*store_, std::min(kPieceBytes, bytes_));
  auto* pages = reinterpret_cast<char*>(memory.data());
  const auto wait = [&](uint64_t ticket) {
    memory.Lend();
    QFT_RETURN_IF_ERROR(store_->Wait(ticket));
    memory.TakeBack();
    return Status();
  };
  const int64_t end = offset + static_cast<int64_t>(bytes);
  for (int64_t at = offset; at < end;) {
    const int64_t first = RoundDown(at);
    const int64_t last = std::min(WholePages(end), first + kPieceBytes);
    const int64_t next = std::min(end, last);
    QFT_RETURN_IF_ERROR(wait(store_->StartRead(pages, last - first, first)));
    if (body(pages + (at - first), at - offset, static_cast<size_t>(next - at))) {
      QFT_RETURN_IF_ERROR(wait(store_->StartWrite(pages, last - first, first)));
    }
    at = next;
  }
  return absl::OkStatus();
}

Status StateHome::Read(void* host, const void* state, size_t bytes) {
  if (tier_ == Tier::kHost) {
    std::memcpy(host, state, bytes);
    return absl::OkStatus();
  }
  return ByPages(OffsetOf(state), bytes, [host](const char* part, int64_t at, size_t size) {
    std::memcpy(static_cast<char*>(host) + at, part, size);
    return false;
  });
}

Status StateHome::Write(void* state, const void* host, size_t bytes) {
  if (tier_ == Tier::kHost) {
    std::memcpy(state, host, bytes);
    return absl::OkStatus();
  }
  return ByPages(OffsetOf(state), bytes, [host](char* part, int64_t at, size_t size) {
    std::memcpy(part, static_cast<const char*>(host) + at, size);
    return true;
  });
}

}  // namespace qft
