#include "runtime/checkpoint_manifest.h"

#include <limits>

#include "absl/strings/escaping.h"
#include "base/hash.h"
#include "runtime/data/json.h"

namespace qft {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxManifestBytes = 256 << 20;
// As it stands in the text, so that what it covers are bytes and not a reading of them.
constexpr char kSeal[] = ",\n \"manifest_xxh3_128\": \"";
constexpr char kSealKey[] = "manifest_xxh3_128";

std::string HashOfText(const char* text, size_t size) {
  Hasher hasher;
  hasher.Update(text, size);
  return hasher.Hex();
}

// A manifest without the key was written before there was one.
bool SealHolds(const json& root, const std::string& text) {
  const auto seal = root.find(kSealKey);
  if (seal == root.end()) return true;
  const size_t end = text.rfind(kSeal);
  return end != std::string::npos && *seal == HashOfText(text.data(), end);
}

// The entries {name: {bytes, xxh3_128}} of an object.
StatusOr<std::vector<HashedBytes>> ReadEntries(const json& root, const char* key) {
  const auto entries = root.find(key);
  if (entries == root.end() || !entries->is_object()) return Corrupt("no ", key);
  std::vector<HashedBytes> result;
  for (const auto& [name, entry] : entries->items()) {
    const bool object = entry.is_object();
    const json bytes = object ? entry.value("bytes", json()) : json();
    const json hash = object ? entry.value("xxh3_128", json()) : json();
    if (!bytes.is_number_unsigned() || !hash.is_string()) {
      return Corrupt("bad entry in ", key);
    }
    result.push_back({name, bytes.get<uint64_t>(), hash.get<std::string>()});
  }
  return result;
}

Status CheckFiles(const std::vector<HashedBytes>& files) {
  bool states = false;
  for (const HashedBytes& file : files) {
    if (file.name.find('/') != std::string::npos || file.name.find('\0') != std::string::npos) {
      return Corrupt("a file's name leads out of the folder");
    }
    states = states || file.name == kStatesName;
  }
  return states ? absl::OkStatus() : Corrupt("no ", kStatesName);
}

Status CheckVersion(const json& root) {
  const auto version = root.find("format_version");
  if (version == root.end() || !version->is_number_integer()) return Corrupt("no version");
  if (*version == kCheckpointFormatVersion) return absl::OkStatus();
  return Unsupported("format version ", version->dump(), ", this library reads ",
                     kCheckpointFormatVersion, "; use the libqft that wrote it");
}

Status Parse(Manifest& manifest) {
  QFT_ASSIGN_OR_RETURN(const json root, ParseJson(manifest.text, "JSON"));
  if (!root.is_object()) return Corrupt("not an object");
  if (!SealHolds(root, manifest.text)) return Corrupt("changed since it was written");
  QFT_RETURN_IF_ERROR(CheckVersion(root));
  const auto step = root.find("step");
  if (step == root.end() || !step->is_number_unsigned() ||
      step->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return Corrupt("no step");
  }
  manifest.step = step->get<int64_t>();
  const auto blob = root.find("blob_base64");
  if (blob == root.end() || !blob->is_string() ||
      !absl::Base64Unescape(blob->get_ref<const std::string&>(), &manifest.blob)) {
    return Corrupt("no blob");
  }
  QFT_ASSIGN_OR_RETURN(manifest.files, ReadEntries(root, "files"));
  QFT_RETURN_IF_ERROR(CheckFiles(manifest.files));
  QFT_ASSIGN_OR_RETURN(manifest.tensors, ReadEntries(root, "tensors"));
  return absl::OkStatus();
}

}  // namespace

std::string SealManifest(const nlohmann::ordered_json& manifest) {
  std::string text = manifest.dump(1);
  text.resize(text.size() - 2);  // the line break and the brace at the end
  const std::string hash = HashOfText(text.data(), text.size());
  return absl::StrCat(text, kSeal, hash, "\"\n}\n");
}

StatusOr<Manifest> ReadManifest(FileSystem& fs, const std::string& path) {
  const std::string name = JoinPath(path, kManifestName);
  Manifest manifest;
  QFT_ASSIGN_OR_RETURN(manifest.text, ReadWholeFile(fs, name, kMaxManifestBytes));
  Status parsed = Parse(manifest);
  if (!parsed.ok()) return Annotate(parsed, name);
  return manifest;
}

}  // namespace qft
