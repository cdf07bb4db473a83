#include "bindings/cli/model_path.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "bindings/cli/failure.h"
#include "bindings/cli/files.h"

namespace qft::cli {
namespace {

namespace fs = std::filesystem;

constexpr char kFolderStart[] = "models--";

std::string Environment(const char* name) {
  const char* value = getenv(name);
  return value != nullptr ? value : "";
}

// As huggingface_hub looks for it.
fs::path CacheFolder() {
  const std::string cache = Environment("HF_HUB_CACHE");
  if (!cache.empty()) return cache;
  const std::string home = Environment("HF_HOME");
  if (!home.empty()) return fs::path(home) / "hub";
  const std::string base = Environment("XDG_CACHE_HOME");
  if (!base.empty()) return fs::path(base) / "huggingface" / "hub";
  return fs::path(Environment("HOME")) / ".cache" / "huggingface" / "hub";
}

// "org/name" of a repository.
bool IsRepositoryName(const std::string& name) {
  constexpr char kLetters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./";
  return name.find_first_not_of(kLetters) == std::string::npos &&
         std::count(name.begin(), name.end(), '/') == 1 && name.front() != '/' &&
         name.back() != '/' && name.front() != '.' && name.find("/.") == std::string::npos;
}

std::string FolderOf(const std::string& name) {
  std::string folder = kFolderStart + name;
  folder.replace(folder.find('/'), 1, "--");
  return folder;
}

// The names of the models in the cache, in order.
std::string Cached(const fs::path& cache) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(cache, error)) {
    std::string name = entry.path().filename().string();
    if (name.rfind(kFolderStart, 0) != 0) continue;
    name.erase(0, sizeof(kFolderStart) - 1);
    const size_t slash = name.find("--");
    if (slash != std::string::npos) name.replace(slash, 2, "/");
    names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list.empty() ? "nothing" : list;
}

}  // namespace

std::string FindModel(const std::string& name) {
  constexpr size_t kLongestReference = 256;
  std::error_code error;
  if (fs::exists(name, error) || !IsRepositoryName(name)) return name;
  const fs::path cache = CacheFolder();
  const fs::path folder = cache / FolderOf(name);
  if (!fs::is_directory(folder, error)) {
    throw Failure(name + ": no such file or folder, and not in the cache " + cache.string() +
                  ", which holds " + Cached(cache));
  }
  const fs::path reference = folder / "refs" / "main";
  if (!fs::exists(reference, error)) {
    throw Failure(name + ": the cache has no " + reference.string());
  }
  std::string revision = ReadText(reference.string(), kLongestReference);
  while (!revision.empty() && isspace(static_cast<unsigned char>(revision.back())) != 0) {
    revision.pop_back();
  }
  const fs::path snapshot = folder / "snapshots" / revision;
  if (revision.empty() || !fs::is_directory(snapshot, error)) {
    throw Failure(name + ": the cache lacks " + snapshot.string() +
                  ", which its refs/main names; the download may not have finished");
  }
  return snapshot.string();
}

}  // namespace qft::cli
