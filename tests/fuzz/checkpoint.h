// A small checkpoint and sessions to restore it into, for the checkpoint fuzzers.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/hash.h"
#include "runtime/checkpoint.h"
#include "runtime/data/json.h"
#include "tests/fuzz/fuzz.h"
#include "tests/runtime/session/tiny_session.h"

namespace qft {

// The two files of a checkpoint of TinyModel(1) after one step.
struct SmallCheckpoint {
  std::string manifest;
  std::string states;
};

inline std::unique_ptr<Session> OpenSmall() {
  static const auto* const model = new std::shared_ptr<const Model>(TinyModel(1));
  return OpenTiny(*model);
}

inline const SmallCheckpoint& Small() {
  static const auto* const checkpoint = [] {
    const auto session = OpenSmall();
    StepTiny(*session, 1);
    MemoryFileSystem fs;
    const auto save = PreparedSave::Prepare(*session, fs, "c", "blob").value();
    return new SmallCheckpoint{fs.files.at("c/step_1.tmp/manifest.json"),
                               fs.files.at("c/step_1.tmp/states.safetensors")};
  }();
  return *checkpoint;
}

// The manifest as it would be of other states. It names no hash of itself.
inline std::string ManifestOf(const std::string& states) {
  Hasher hasher;
  hasher.Update(states.data(), states.size());
  nlohmann::json manifest = nlohmann::json::parse(Small().manifest);
  manifest["files"]["states.safetensors"] = {{"bytes", states.size()}, {"xxh3_128", hasher.Hex()}};
  manifest.erase("manifest_xxh3_128");
  return manifest.dump();
}

// Restores the checkpoint into a session that is used again until it breaks. Returns that session,
// or nullptr where the files are refused.
inline Session* Restore(const std::string& manifest, const std::string& states) {
  static auto* const session = new std::unique_ptr<Session>(OpenSmall());
  if (!(*session)->CheckUsable().ok()) *session = OpenSmall();
  MemoryFileSystem fs;
  fs.files["c/manifest.json"] = manifest;
  fs.files["c/states.safetensors"] = states;
  const auto checkpoint = OpenCheckpoint(fs, "c");
  if (!Accepted(checkpoint.status())) return nullptr;
  return Accepted(RestoreCheckpoint(**session, fs, *checkpoint)) ? session->get() : nullptr;
}

}  // namespace qft
