#include "offload/store.h"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <system_error>
#include <utility>

#include "offload/disk.h"
#include "offload/preflight.h"
#include "offload/request_queue.h"
#include "offload/scratch_file.h"
#include "offload/striping.h"

namespace qft {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kMostTransfers = 256;
constexpr int kMostFolders = 64;
constexpr int kMostDepth = 4096;
constexpr int64_t kMostBlockBytes = 1 << 30;
constexpr std::chrono::milliseconds kLeastTimeout{100};
// For a disk's thread to end, beside the timeout of its requests.
constexpr std::chrono::milliseconds kEndPatience{1000};

bool IsAligned(int64_t value) {
  return value % kStoreAlignment == 0;
}

Status CheckOptions(const StoreOptions& options) {
  if (options.folders.empty() || options.folders.size() > kMostFolders) {
    return InvalidArgument("a store takes 1 to ", kMostFolders, " folders");
  }
  if (options.bytes <= 0 || !IsAligned(options.bytes)) {
    return InvalidArgument("the bytes of a store are a positive multiple of ", kStoreAlignment,
                           ", not ", options.bytes);
  }
  if (options.block_bytes <= 0 || !IsAligned(options.block_bytes) ||
      options.block_bytes > kMostBlockBytes) {
    return InvalidArgument("the blocks of a store are a multiple of ", kStoreAlignment, " up to ",
                           kMostBlockBytes, " bytes, not ", options.block_bytes);
  }
  if (options.depth < 1 || options.depth > kMostDepth) {
    return InvalidArgument("the depth of a store is 1 to ", kMostDepth, ", not ", options.depth);
  }
  if (options.timeout < kLeastTimeout) {
    return InvalidArgument("the timeout of a store is at least ", kLeastTimeout.count(), " ms");
  }
  return absl::OkStatus();
}

// Bytes of finished transfers of one kind, and the time in which some were under way.
class Traffic {
 public:
  void Start() {
    if (under_way_++ == 0) since_ = Clock::now();
  }
  void Finish(int64_t bytes) {
    bytes_ += bytes;
    if (--under_way_ == 0) busy_ += Clock::now() - since_;
  }
  int64_t bytes() const { return bytes_; }
  double seconds() const {
    const Clock::duration now = under_way_ > 0 ? Clock::now() - since_ : Clock::duration{0};
    return std::chrono::duration<double>(busy_ + now).count();
  }

 private:
  int64_t bytes_ = 0;
  int under_way_ = 0;
  Clock::time_point since_;
  Clock::duration busy_{0};
};

// Finds a disk whose thread does not come back from the kernel. Counts looks rather than time,
// since a process that was stopped has lost time through no fault of a disk.
class Watch {
 public:
  Watch(size_t disks, std::chrono::milliseconds timeout)
      : tick_(Disk::Tick(timeout)), most_(timeout / tick_), seen_(disks) {}

  const Disk* FindStuck(const std::vector<std::unique_ptr<Disk>>& disks) {
    const Clock::time_point now = Clock::now();
    if (now - looked_ < tick_) return nullptr;
    looked_ = now;
    for (size_t i = 0; i < disks.size(); ++i) {
      const uint64_t heartbeat = disks[i]->heartbeat();
      Seen& seen = seen_[i];
      seen = {heartbeat, heartbeat == seen.heartbeat ? seen.looks + 1 : 0};
      if (seen.looks > most_) return disks[i].get();
    }
    return nullptr;
  }

 private:
  struct Seen {
    uint64_t heartbeat = 0;
    int64_t looks = 0;
  };
  const std::chrono::milliseconds tick_;
  const int64_t most_;
  std::vector<Seen> seen_;
  Clock::time_point looked_;
};

}  // namespace

class Store::Impl final : public TransferObserver {
 public:
  explicit Impl(StoreOptions options)
      : options_(std::move(options)), watch_(options_.folders.size(), options_.timeout) {}

  Status Open();
  // Leaves nothing behind but the measured bandwidths.
  Status Preflight(Store& store);
  Status Register(void* memory, size_t bytes);
  uint64_t Start(bool write, void* data, int64_t bytes, int64_t offset);
  bool Done(uint64_t ticket);
  Status Wait(uint64_t ticket);
  StoreReport Report() const;
  Status Close();
  // Whether threads still use this object after Close.
  bool stuck() const { return stuck_; }

  void Finished(Transfer& transfer) override;
  void Failed(const Status& error) override;

 private:
  Status AddDisk(int index);
  void DescribeBackend(const QueueChoice& choice);
  void DescribeFile(const ScratchFile& file);
  Status CheckTransfer(const void* data, int64_t bytes, int64_t offset) const;
  void WaitForNews(std::unique_lock<std::mutex>& lock);
  void FailIfStuck();
  std::chrono::milliseconds PatienceFor(const Disk& disk);
  Traffic& TrafficOf(bool write) { return write ? written_ : read_; }

  const StoreOptions options_;
  const Striping striping_{options_.block_bytes, static_cast<int>(options_.folders.size())};
  std::vector<std::unique_ptr<Disk>> disks_;

  mutable std::mutex mutex_;
  std::condition_variable news_;
  std::map<uint64_t, Transfer> transfers_;  // under way
  uint64_t last_ticket_ = 0;
  Status error_;
  Watch watch_;
  const Disk* hanging_ = nullptr;  // found by the watch
  StoreReport report_;
  Traffic read_;
  Traffic written_;

  // Made beforehand, for a store may close because memory has run out.
  const Status closed_error_ = MakeError(ErrorCode::kState, "the store was closed");
  std::mutex close_mutex_;
  bool closed_ = false;
  bool stuck_ = false;
  Status close_status_;
};

Status Store::Impl::Open() {
  report_.direct = true;
  try {
    for (int i = 0; i < striping_.files; ++i) QFT_RETURN_IF_ERROR(AddDisk(i));
    for (const std::unique_ptr<Disk>& disk : disks_) disk->Launch();
  } catch (const std::system_error& error) {
    return ErrnoError(error.code().value(), "start the threads of the offload store");
  }
  return absl::OkStatus();
}

Status Store::Impl::AddDisk(int index) {
  const std::string& folder = options_.folders[static_cast<size_t>(index)];
  const int64_t bytes = striping_.FileBytes(options_.bytes);
  QFT_ASSIGN_OR_RETURN(const auto file, ScratchFile::Create(folder, bytes));
  QFT_ASSIGN_OR_RETURN(QueueChoice choice, MakeQueue(options_.backend, file, options_.depth));
  if (report_.backend != StoreBackend::kThreads) DescribeBackend(choice);
  DescribeFile(*file);
  if (options_.wrap_queue) choice.queue = options_.wrap_queue(std::move(choice.queue));
  const Disk::Setup setup{striping_,      index,          bytes,
                          options_.depth, kMostTransfers, options_.timeout};
  disks_.push_back(std::make_unique<Disk>(setup, std::move(choice.queue), file->name(), *this));
  return absl::OkStatus();
}

void Store::Impl::DescribeBackend(const QueueChoice& choice) {
  report_.backend = choice.backend;
  report_.description = "io_uring";
  if (choice.backend == StoreBackend::kIoUring) return;
  report_.description = absl::StrCat(QueueThreads(options_.depth),
                                     " threads of pread and pwrite a file (", choice.why, ")");
}

void Store::Impl::DescribeFile(const ScratchFile& file) {
  if (file.why_buffered().empty()) return;
  report_.direct = false;
  absl::StrAppend(&report_.description, "; ", file.name(), " goes through the page cache (",
                  file.why_buffered(), ")");
}

Status Store::Impl::Preflight(Store& store) {
  QFT_ASSIGN_OR_RETURN(const Bandwidths bandwidths,
                       RunPreflight(store, options_.bytes, striping_.files));
  for (const std::unique_ptr<Disk>& disk : disks_) disk->ForgetContent();
  const std::scoped_lock lock(mutex_);
  report_.preflight_read = bandwidths.read;
  report_.preflight_write = bandwidths.write;
  read_ = Traffic();
  written_ = Traffic();
  return absl::OkStatus();
}

Status Store::Impl::Register(void* memory, size_t bytes) {
  if (!IsAligned(static_cast<int64_t>(reinterpret_cast<uintptr_t>(memory)))) {
    return InvalidArgument("memory that is registered begins at a multiple of ", kStoreAlignment);
  }
  std::string problem;
  for (const std::unique_ptr<Disk>& disk : disks_) {
    const Status status = disk->queue().Register(memory, bytes);
    if (!status.ok()) problem = std::string(status.message());
  }
  const std::scoped_lock lock(mutex_);
  report_.registered = problem.empty() && report_.backend == StoreBackend::kIoUring;
  if (!problem.empty())
    absl::StrAppend(&report_.description, "; without registered memory (", problem, ")");
  return absl::OkStatus();
}

Status Store::Impl::CheckTransfer(const void* data, int64_t bytes, int64_t offset) const {
  if (data == nullptr || !IsAligned(static_cast<int64_t>(reinterpret_cast<uintptr_t>(data))) ||
      !IsAligned(bytes) || !IsAligned(offset)) {
    return InvalidArgument("memory, size and offset of a transfer are multiples of ",
                           kStoreAlignment, ": ", bytes, " bytes at offset ", offset);
  }
  if (bytes <= 0 || offset < 0 || offset > options_.bytes - bytes) {
    return MakeError(ErrorCode::kOutOfRange,
                     absl::StrCat("a transfer of ", bytes, " bytes at offset ", offset,
                                  " isn't within a store of ", options_.bytes));
  }
  return absl::OkStatus();
}

uint64_t Store::Impl::Start(bool write, void* data, int64_t bytes, int64_t offset) {
  const Status status = CheckTransfer(data, bytes, offset);
  if (!status.ok()) Failed(status);
  std::unique_lock lock(mutex_);
  while (error_.ok() && transfers_.size() >= kMostTransfers) WaitForNews(lock);
  const uint64_t ticket = last_ticket_ + 1;
  if (error_.ok()) {
    Transfer& transfer = transfers_[ticket];
    transfer.ticket = ticket;
    transfer.write = write;
    transfer.data = static_cast<std::byte*>(data);
    transfer.bytes = bytes;
    transfer.offset = offset;
    transfer.blocks_left = striping_.EndBlock(offset + bytes) - striping_.FirstBlock(offset);
    TrafficOf(write).Start();
    // Under the lock: the transfer lives until the last of its disks has said, under the lock, that
    // it is done.
    for (const std::unique_ptr<Disk>& disk : disks_) disk->Start(transfer);
  }
  last_ticket_ = ticket;
  return ticket;
}

void Store::Impl::Finished(Transfer& transfer) {
  const std::scoped_lock lock(mutex_);
  TrafficOf(transfer.write).Finish(transfer.bytes);
  transfers_.erase(transfer.ticket);
  news_.notify_all();
}

void Store::Impl::Failed(const Status& error) {
  {
    const std::scoped_lock lock(mutex_);
    if (!error_.ok()) return;
    error_ = error;
    news_.notify_all();
  }
  for (const std::unique_ptr<Disk>& disk : disks_) disk->Cancel();
}

bool Store::Impl::Done(uint64_t ticket) {
  FailIfStuck();
  const std::scoped_lock lock(mutex_);
  return !error_.ok() || ticket > last_ticket_ || transfers_.count(ticket) == 0;
}

Status Store::Impl::Wait(uint64_t ticket) {
  std::unique_lock lock(mutex_);
  if (ticket == 0 || ticket > last_ticket_) {
    return InvalidArgument("there is no transfer with ticket ", ticket);
  }
  while (error_.ok() && transfers_.count(ticket) > 0) WaitForNews(lock);
  return error_;
}

void Store::Impl::WaitForNews(std::unique_lock<std::mutex>& lock) {
  if (news_.wait_for(lock, Disk::Tick(options_.timeout)) == std::cv_status::no_timeout) return;
  lock.unlock();
  FailIfStuck();
  lock.lock();
}

void Store::Impl::FailIfStuck() {
  const Disk* stuck = nullptr;
  {
    const std::scoped_lock lock(mutex_);
    stuck = watch_.FindStuck(disks_);
    if (stuck == nullptr) return;
    hanging_ = stuck;
  }
  Failed(stuck->hangs());
}

StoreReport Store::Impl::Report() const {
  const std::scoped_lock lock(mutex_);
  StoreReport report = report_;
  report.bytes_read = read_.bytes();
  report.bytes_written = written_.bytes();
  report.seconds_reading = read_.seconds();
  report.seconds_writing = written_.seconds();
  return report;
}

// What has been found to hang for the timeout is not waited for as long again.
std::chrono::milliseconds Store::Impl::PatienceFor(const Disk& disk) {
  const std::scoped_lock lock(mutex_);
  return &disk == hanging_ ? kEndPatience : options_.timeout + kEndPatience;
}

Status Store::Impl::Close() {
  const std::scoped_lock lock(close_mutex_);
  if (closed_) return close_status_;
  closed_ = true;
  Failed(closed_error_);
  const Clock::time_point start = Clock::now();
  for (const std::unique_ptr<Disk>& disk : disks_) disk->BeginStop();
  for (const std::unique_ptr<Disk>& disk : disks_) {
    const bool ended = disk->Stop(start + PatienceFor(*disk));
    stuck_ |= !ended;
    if (!ended || disk->unanswered()) close_status_.Update(disk->no_answer());
  }
  return close_status_;
}

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

StatusOr<std::unique_ptr<Store>> Store::Open(const StoreOptions& options) {
  QFT_RETURN_IF_ERROR(CheckOptions(options));
  std::unique_ptr<Store> store(new Store(std::make_unique<Impl>(options)));
  QFT_RETURN_IF_ERROR(store->impl_->Open());
  QFT_RETURN_IF_ERROR(Annotate(store->impl_->Preflight(*store), "preflight of the offload store"));
  return store;
}

Store::~Store() {
  // What Close could not end is told by Close; a thread that never comes back keeps what it uses.
  (void)impl_->Close();
  if (impl_->stuck()) (void)impl_.release();
}

Status Store::Register(void* memory, size_t bytes) {
  return impl_->Register(memory, bytes);
}
uint64_t Store::StartRead(void* data, int64_t bytes, int64_t offset) {
  return impl_->Start(false, data, bytes, offset);
}
uint64_t Store::StartWrite(const void* data, int64_t bytes, int64_t offset) {
  return impl_->Start(true, const_cast<void*>(data), bytes, offset);
}
bool Store::Done(uint64_t ticket) {
  return impl_->Done(ticket);
}
Status Store::Wait(uint64_t ticket) {
  return impl_->Wait(ticket);
}
StoreReport Store::Report() const {
  return impl_->Report();
}
Status Store::Close() {
  return impl_->Close();
}

}  // namespace qft
