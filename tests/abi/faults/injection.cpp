#include "tests/abi/faults/injection.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <unwind.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "qft_c.h"

namespace qft::injection {
namespace {

std::atomic<bool> g_on{false};
Plan g_plan;
std::atomic<int64_t> g_files{0};
std::atomic<int64_t> g_news{0};
std::atomic<int64_t> g_engine{0};
std::atomic<int64_t> g_transfers{0};
std::atomic<int64_t> g_written{0};
std::atomic<bool> g_failed{false};
std::atomic<int64_t> g_live{0};

bool Hits(int64_t count, int64_t at) {
  return at > 0 && (count == at || (g_plan.for_ever && count > at));
}

// Counts a file operation. True: it has to fail, errno is set.
bool FileFails() {
  if (!g_on) return false;
  if (!Hits(++g_files, g_plan.fail_file)) return false;
  g_failed = true;
  errno = g_plan.error;
  return true;
}

// At the end of each file operation.
template <typename T>
T Done(T result) {
  if (g_on && g_plan.kill_after > 0 && g_files == g_plan.kill_after) ::raise(SIGKILL);
  return result;
}

template <typename F>
F* Real(const char* name) {
  return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}

// Whose code an address is. Without memory nlohmann::json ends the process (its destructors and
// some of its constructors are noexcept and allocate), and oneDNN follows a null pointer or leaves
// a product uncomputed and reports success. Neither is ours to mend, so memory is refused to our
// own functions only: to those that have no line of json.hpp in them.
class Functions {
 public:
  Functions() {
    Read("qft_version_string");
    Read("qft_export");
    std::sort(functions_.begin(), functions_.end());
  }

  enum class Kind { kOther, kOwn, kForeign };

  struct Function {
    uintptr_t start = 0;
    Kind kind = Kind::kOther;
    std::string name = {};  // mangled
    bool operator<(const Function& other) const { return start < other.start; }
  };

  // nullptr: of another library.
  const Function* Find(uintptr_t start) const {
    const auto found = std::lower_bound(functions_.begin(), functions_.end(), Function{start});
    return found != functions_.end() && found->start == start ? &*found : nullptr;
  }

  static Kind KindOfOther(uintptr_t address) {
    Dl_info info{};
    // NOLINTNEXTLINE(performance-no-int-to-ptr): an address of code, which is not followed
    const bool known = ::dladdr(reinterpret_cast<void*>(address), &info) != 0;
    return known && ::strstr(info.dli_fname, "libdnnl") != nullptr ? Kind::kForeign : Kind::kOther;
  }

 private:
  // Calls line(text) for each line that the command prints.
  template <typename F>
  static void ForEachLine(const std::string& command, const F& line) {
    FILE* output = ::popen(command.c_str(), "r");
    if (output == nullptr) ::abort();
    static char text[65536];
    while (::fgets(text, sizeof(text), output) != nullptr) line(text);
    ::pclose(output);
  }

  // The library that has the symbol.
  void Read(const char* symbol) {
    Dl_info info{};
    void* address = ::dlsym(RTLD_DEFAULT, symbol);
    if (address == nullptr || ::dladdr(address, &info) == 0) return;
    const std::string library = "'" + std::string(info.dli_fname) + "'";
    const auto base = reinterpret_cast<uintptr_t>(info.dli_fbase);
    std::vector<uintptr_t> json;
    ForEachLine("objdump --dwarf=decodedline " + library, [&](char* text) {
      if (::strncmp(text, "json.hpp ", 9) != 0) return;
      unsigned long line = 0, at = 0;
      if (::sscanf(text + 9, "%lu %lx", &line, &at) == 2) json.push_back(base + at);
    });
    if (json.empty()) ::abort();  // no debug information
    std::sort(json.begin(), json.end());
    ForEachLine("nm -S --defined-only " + library, [&](char* text) {
      unsigned long at = 0, size = 0;
      char type = 0;
      int name = 0;
      if (::sscanf(text, "%lx %lx %c %n", &at, &size, &type, &name) != 3) return;
      if (::strchr("tTwW", type) == nullptr) return;
      const auto line = std::lower_bound(json.begin(), json.end(), base + at);
      const bool is_json = (line != json.end() && *line < base + at + size) ||
                           ::strstr(text + name, "nlohmann") != nullptr;
      const bool is_own = ::strstr(text + name, "qft") != nullptr;
      const Kind kind = is_json ? Kind::kForeign : is_own ? Kind::kOwn : Kind::kOther;
      functions_.push_back({base + at, kind, text + name});
    });
  }

  std::vector<Function> functions_;
};

const Functions& TheFunctions() {
  static const Functions functions;
  return functions;
}

struct Allocator {
  Functions::Kind kind = Functions::Kind::kOther;
  const Functions::Function* function = nullptr;
};

_Unwind_Reason_Code LookAtFrame(_Unwind_Context* context, void* out) {
  auto& allocator = *static_cast<Allocator*>(out);
  allocator.function = TheFunctions().Find(_Unwind_GetRegionStart(context));
  allocator.kind = allocator.function != nullptr ? allocator.function->kind
                                                 : Functions::KindOfOther(_Unwind_GetIP(context));
  return allocator.kind == Functions::Kind::kOther ? _URC_NO_REASON : _URC_END_OF_STACK;
}

// Whether the function that wants memory, the first that is not of a standard library, is ours.
bool IsOwnAllocation() {
  Allocator allocator;
  ::_Unwind_Backtrace(LookAtFrame, &allocator);
  if (allocator.kind != Functions::Kind::kOwn) return false;
  return g_plan.inside == nullptr ||
         allocator.function->name.find(g_plan.inside) != std::string::npos;
}

bool NewFails() {
  if (!g_on || (g_plan.inside != nullptr && !IsOwnAllocation())) return false;
  if (!Hits(++g_news, g_plan.fail_new) || !IsOwnAllocation()) return false;
  g_failed = true;
  return true;
}

// For what the engine takes memory with.
bool EngineFails() {
  if (!g_on || g_plan.fail_engine == 0 || !IsOwnAllocation()) return false;
  if (!Hits(++g_engine, g_plan.fail_engine)) return false;
  g_failed = true;
  return true;
}

// Where the engine has mapped memory while a plan was on, nullptr in free places. By one thread.
void* g_mapped[16] = {};

// Replaces `from` in the list, if it is there.
bool ReplaceMapped(const void* from, void* to) {
  void** const place = std::find(std::begin(g_mapped), std::end(g_mapped), from);
  if (place == std::end(g_mapped)) return false;
  *place = to;
  return true;
}

void* New(size_t size, size_t alignment) noexcept {
  if (NewFails()) return nullptr;
  if (size == 0) size = 1;
  void* data = alignment <= alignof(max_align_t)
                   ? ::malloc(size)
                   : ::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (data != nullptr) ++g_live;
  return data;
}

void* NewOrThrow(size_t size, size_t alignment) {
  void* data = New(size, alignment);
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

void Delete(void* data) noexcept {
  if (data != nullptr) --g_live;
  ::free(data);
}

// How much of `size` this transfer may move; -1: none, errno is set.
ssize_t Share(size_t size, bool is_write) {
  if (!g_on) return static_cast<ssize_t>(size);
  if (g_plan.short_transfers && g_transfers++ % 2 == 0) {
    errno = EINTR;
    return -1;
  }
  if (g_plan.short_transfers) size = (size + 1) / 2;
  if (is_write && g_plan.disk_bytes >= 0) {
    const int64_t left = g_plan.disk_bytes - g_written;
    if (left <= 0 && size > 0) {
      g_failed = true;
      errno = ENOSPC;
      return -1;
    }
    size = std::min(size, static_cast<size_t>(left));
  }
  return static_cast<ssize_t>(size);
}

}  // namespace

void Start(const Plan& plan) {
  if (plan.fail_new > 0 || plan.fail_engine > 0) TheFunctions();  // beforehand: it allocates
  g_plan = plan;
  g_files = g_news = g_engine = g_transfers = g_written = 0;
  g_failed = false;
  g_on = true;
}
void Stop() {
  g_on = false;
}
int64_t FileOperations() {
  return g_files;
}
int64_t Allocations() {
  return g_news;
}
int64_t EngineAllocations() {
  return g_engine;
}
bool Failed() {
  return g_failed;
}
int64_t LiveAllocations() {
  return g_live;
}

}  // namespace qft::injection

using namespace qft::injection;  // NOLINT: what follows are the C library's own names

#define EXPORTED __attribute__((visibility("default")))
#define REAL(name) static auto* const real = Real<decltype(name)>(#name)

extern "C" {

EXPORTED int open(const char* path, int flags, ...) {
  REAL(open);
  va_list arguments;
  va_start(arguments, flags);
  const int mode = (flags & O_CREAT) != 0 ? va_arg(arguments, int) : 0;
  va_end(arguments);
  if (FileFails()) return -1;
  return Done(real(path, flags, mode));
}

// A close that fails has closed, as Linux does it.
EXPORTED int close(int descriptor) {
  REAL(close);
  const bool fails = FileFails();
  const int error = errno;
  const int result = real(descriptor);
  if (!fails) return Done(result);
  errno = error;
  return -1;
}

EXPORTED ssize_t pread(int descriptor, void* data, size_t size, off_t offset) {
  REAL(pread);
  if (FileFails()) return -1;
  const ssize_t share = Share(size, false);
  return share < 0 ? share : Done(real(descriptor, data, static_cast<size_t>(share), offset));
}

// A write that fails has written a part.
EXPORTED ssize_t pwrite(int descriptor, const void* data, size_t size, off_t offset) {
  REAL(pwrite);
  if (FileFails()) {
    const int error = errno;
    (void)!real(descriptor, data, size / 2, offset);
    errno = error;
    return -1;
  }
  const ssize_t share = Share(size, true);
  if (share < 0) return share;
  const ssize_t written = real(descriptor, data, static_cast<size_t>(share), offset);
  if (g_on && written > 0) g_written += written;
  return Done(written);
}

EXPORTED int fallocate(int descriptor, int mode, off_t offset, off_t size) {
  REAL(fallocate);
  return FileFails() ? -1 : Done(real(descriptor, mode, offset, size));
}
EXPORTED int fsync(int descriptor) {
  REAL(fsync);
  return FileFails() ? -1 : Done(real(descriptor));
}
EXPORTED int fstat(int descriptor, struct stat* info) {
  REAL(fstat);
  return FileFails() ? -1 : Done(real(descriptor, info));
}
EXPORTED int stat(const char* path, struct stat* info) {
  using Stat = int(const char*, struct stat*);
  static auto* const real = Real<Stat>("stat");
  return FileFails() ? -1 : Done(real(path, info));
}
EXPORTED int lstat(const char* path, struct stat* info) {
  REAL(lstat);
  return FileFails() ? -1 : Done(real(path, info));
}
EXPORTED int rename(const char* from, const char* to) noexcept {
  REAL(rename);
  return FileFails() ? -1 : Done(real(from, to));
}
EXPORTED int renameat2(int from_folder, const char* from, int to_folder, const char* to,
                       unsigned flags) noexcept {
  REAL(renameat2);
  return FileFails() ? -1 : Done(real(from_folder, from, to_folder, to, flags));
}
EXPORTED int unlink(const char* path) noexcept {
  REAL(unlink);
  return FileFails() ? -1 : Done(real(path));
}
EXPORTED int rmdir(const char* path) noexcept {
  REAL(rmdir);
  return FileFails() ? -1 : Done(real(path));
}
EXPORTED int mkdir(const char* path, mode_t mode) noexcept {
  REAL(mkdir);
  return FileFails() ? -1 : Done(real(path, mode));
}
EXPORTED DIR* opendir(const char* path) {
  REAL(opendir);
  return FileFails() ? nullptr : Done(real(path));
}
EXPORTED struct dirent* readdir(DIR* folder) {
  REAL(readdir);
  return FileFails() ? nullptr : Done(real(folder));
}

// What the engine takes memory with: little, and much.
EXPORTED int posix_memalign(void** data, size_t alignment, size_t size) noexcept {
  REAL(posix_memalign);
  return NewFails() || EngineFails() ? ENOMEM : real(data, alignment, size);
}
EXPORTED void* mmap(void* at, size_t size, int protection, int flags, int descriptor,
                    off_t offset) noexcept {
  REAL(mmap);
  if (EngineFails()) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  void* data = real(at, size, protection, flags, descriptor, offset);
  const bool watched = g_on && g_plan.fail_engine > 0 && data != MAP_FAILED;
  if (watched && IsOwnAllocation() && ReplaceMapped(nullptr, data)) ++g_live;
  return data;
}
EXPORTED int munmap(void* data, size_t size) noexcept {
  REAL(munmap);
  if (data != nullptr && ReplaceMapped(data, nullptr)) --g_live;
  return real(data, size);
}

}  // extern "C"

EXPORTED void* operator new(size_t size) {
  return NewOrThrow(size, 1);
}
EXPORTED void* operator new[](size_t size) {
  return NewOrThrow(size, 1);
}
EXPORTED void* operator new(size_t size, std::align_val_t alignment) {
  return NewOrThrow(size, static_cast<size_t>(alignment));
}
EXPORTED void* operator new[](size_t size, std::align_val_t alignment) {
  return NewOrThrow(size, static_cast<size_t>(alignment));
}
EXPORTED void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return New(size, 1);
}
EXPORTED void* operator new[](size_t size, const std::nothrow_t&) noexcept {
  return New(size, 1);
}
EXPORTED void operator delete(void* data) noexcept {
  Delete(data);
}
EXPORTED void operator delete[](void* data) noexcept {
  Delete(data);
}
EXPORTED void operator delete(void* data, size_t) noexcept {
  Delete(data);
}
EXPORTED void operator delete[](void* data, size_t) noexcept {
  Delete(data);
}
EXPORTED void operator delete(void* data, std::align_val_t) noexcept {
  Delete(data);
}
EXPORTED void operator delete[](void* data, std::align_val_t) noexcept {
  Delete(data);
}
EXPORTED void operator delete(void* data, size_t, std::align_val_t) noexcept {
  Delete(data);
}
EXPORTED void operator delete[](void* data, size_t, std::align_val_t) noexcept {
  Delete(data);
}
EXPORTED void operator delete(void* data, const std::nothrow_t&) noexcept {
  Delete(data);
}
EXPORTED void operator delete[](void* data, const std::nothrow_t&) noexcept {
  Delete(data);
}
