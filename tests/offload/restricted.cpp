#include "tests/offload/restricted.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include <cstddef>
#include <string>
#include <thread>

namespace qft {
namespace {

void Append(std::vector<sock_filter>& program, const Forbidden& forbidden) {
  const auto load = [&](size_t offset) {
    program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset)));
  };
  const bool has_argument = forbidden.argument >= 0;
  load(offsetof(seccomp_data, nr));
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(forbidden.call), 0,
                             static_cast<uint8_t>(has_argument ? 3 : 1)));
  if (has_argument) {
    // Little-endian: the low half is first.
    load(offsetof(seccomp_data, args) + static_cast<size_t>(forbidden.argument) * sizeof(uint64_t));
    if (forbidden.bits != 0) {
      program.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, forbidden.bits, 0, 1));
    } else {
      program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, forbidden.value, 0, 1));
    }
  }
  program.push_back(
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(forbidden.error)));
}

bool InstallFilter(const std::vector<Forbidden>& calls) {
  std::vector<sock_filter> program;
  for (const Forbidden& call : calls) Append(program, call);
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

bool MountSmallDisk(const char* folder, int64_t bytes) {
  const std::string size = "size=" + std::to_string(bytes);
  return ::unshare(CLONE_NEWNS) == 0 &&
         ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("tmpfs", folder, "tmpfs", 0, size.c_str()) == 0;
}

bool RunAfter(const std::function<bool()>& prepare, const std::function<void()>& body) {
  bool ran = false;
  std::thread([&] {
    ran = prepare();
    if (ran) body();
  }).join();
  return ran;
}

}  // namespace

bool RunRestricted(const std::vector<Forbidden>& calls, const std::function<void()>& body) {
  return RunAfter([&] { return InstallFilter(calls); }, body);
}

bool RunWithSmallDisk(const char* folder, int64_t bytes, const std::function<void()>& body) {
  return RunAfter([&] { return MountSmallDisk(folder, bytes); }, body);
}

}  // namespace qft
