#include "runtime/cuda_module.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "kernels/cuda/module.h"

namespace qft {
namespace {

constexpr char kFileName[] = "libqft_cuda.so";

// Where the code of this library was loaded from.
std::string FolderOfLibrary() {
  Dl_info info;
  const void* here = reinterpret_cast<const void*>(&MakeCudaEngine);
  if (dladdr(here, &info) == 0 || info.dli_fname == nullptr) return ".";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

// Beside the library, or where an installed program has its libraries.
std::vector<std::string> Candidates() {
  const std::string folder = FolderOfLibrary();
  return {absl::StrCat(folder, "/", kFileName), absl::StrCat(folder, "/../lib/", kFileName),
          absl::StrCat(folder, "/../../lib/", kFileName)};
}

// It stays loaded: the CUDA runtime does not survive being unloaded.
StatusOr<const CudaModule*> LoadModule() {
  // Asked first, since the module's own libraries are large.
  if (dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL) == nullptr) {
    return Unsupported("engine = cuda: there is no NVIDIA driver here (libcuda.so.1)");
  }
  void* library = nullptr;
  std::string problem;
  std::string path;
  for (const std::string& candidate : Candidates()) {
    library = dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    path = candidate;
    if (library != nullptr) break;
    // A module that is there but lacks a library says more than one that is not there.
    const std::string message = dlerror();
    if (problem.empty() || access(candidate.c_str(), F_OK) == 0) problem = message;
  }
  if (library == nullptr) return Unsupported("engine = cuda: ", problem);
  auto* function = reinterpret_cast<CudaModuleFunction*>(dlsym(library, kCudaModuleSymbol));
  if (function == nullptr) return Unsupported("engine = cuda: ", path, " is not a libqft module");
  const CudaModule* module = function();
  if (std::strcmp(module->build_id, QFT_CUDA_BUILD_ID) != 0) {
    return Unsupported("engine = cuda: ", path, " is of another build than the library beside it");
  }
  return module;
}

}  // namespace

StatusOr<std::unique_ptr<Engine>> MakeCudaEngine(int device) {
  QFT_ASSIGN_OR_RETURN(const CudaModule* module, LoadModule());
  char message[256] = "";
  std::unique_ptr<Engine> engine(module->create(device, message, sizeof(message)));
  if (engine == nullptr) return Unsupported("engine = cuda: ", message);
  return engine;
}

}  // namespace qft
