#include <dlfcn.h>

#include <string>
#include <string_view>

#include "runtime/c_api/boundary.h"

#define QFT_VERSION_TEXT "0.1.0"

#if defined(__clang__)
#define QFT_COMPILER "clang " __clang_version__
#else
#define QFT_COMPILER "gcc " __VERSION__
#endif

#if defined(__x86_64__)
#define QFT_ARCHITECTURE "x86_64"
#elif defined(__aarch64__)
#define QFT_ARCHITECTURE "aarch64"
#else
#define QFT_ARCHITECTURE "other"
#endif

namespace qft {
namespace {

constexpr uint32_t ParseVersion(std::string_view text) {
  uint32_t version = 0;
  uint32_t part = 0;
  for (const char c : text) {
    if (c == '.') {
      version = (version + part) * 1000;
      part = 0;
    } else {
      part = part * 10 + static_cast<uint32_t>(c - '0');
    }
  }
  return version + part;
}
static_assert(ParseVersion(QFT_VERSION_TEXT) == QFT_ABI_VERSION);

std::string VersionText(uint32_t version) {
  return absl::StrCat(version / 1000000, ".", version / 1000 % 1000, ".", version % 1000);
}

// A caller may use what its header declares: the library must be of the same major version and not
// older. Before 1.0 every minor version may break the interface.
bool IsCompatible(uint32_t header, uint32_t library) {
  if (header / 1000000 != library / 1000000) return false;
  const uint32_t header_minor = header / 1000;
  const uint32_t library_minor = library / 1000;
  return library < 1000000 ? header_minor == library_minor : header_minor <= library_minor;
}

std::string LibraryPath() {
  Dl_info info;
  const int found = dladdr(reinterpret_cast<const void*>(&qft_check_abi), &info);
  return found != 0 && info.dli_fname != nullptr ? info.dli_fname : "unknown path";
}

}  // namespace
}  // namespace qft

extern "C" {

uint32_t qft_abi_version(void) {
  return QFT_ABI_VERSION;
}

const char* qft_version_string(void) {
  return QFT_VERSION_TEXT;
}

const char* qft_build_info(void) {
  return "{\"version\":\"" QFT_VERSION_TEXT "\",\"compiler\":\"" QFT_COMPILER
         "\",\"architecture\":\"" QFT_ARCHITECTURE "\",\"engines\":[\"cpu\"]}";
}

qft_status qft_check_abi(uint32_t header_version, qft_error** error) {
  return qft::Guard(error, [&]() -> qft::Status {
    if (qft::IsCompatible(header_version, QFT_ABI_VERSION)) return absl::OkStatus();
    return qft::Unsupported("compiled with the header of libqft ", qft::VersionText(header_version),
                            ", but the library loaded is ", qft::VersionText(QFT_ABI_VERSION), " (",
                            qft::LibraryPath(), ")");
  });
}

}  // extern "C"
