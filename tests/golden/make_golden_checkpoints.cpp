// Writes the checkpoints that a new format version is to load for ever, with the hashes of their
// states beside them: make_golden_checkpoints tests/golden/checkpoint_vN. Never over those of a
// version that has been used.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "tests/golden/golden_checkpoints.h"

namespace qft {
namespace {

std::string Write(const GoldenCheckpoint& golden, const std::filesystem::path& folder) {
  const TestModel model(golden.shape, 7);
  TestSession session(model, golden.settings, golden.groups);
  session.Randomise(5);
  for (uint32_t step = 0; step < kGoldenStep; ++step) {
    session.Step({RandomBatch(golden.shape.vocabulary, {30, 20}, step)}, 2e-3);
  }
  session.Save(folder.string(), 0, kGoldenBlob);
  return session.Hash();
}

void WriteAll(const std::filesystem::path& root) {
  nlohmann::ordered_json hashes;
  for (const GoldenCheckpoint& golden : GoldenCheckpoints()) {
    hashes[golden.name] = Write(golden, root / golden.name);
  }
  std::ofstream(root / "hashes.json") << hashes.dump(1) << "\n";
}

}  // namespace
}  // namespace qft

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_golden_checkpoints NEW_FOLDER\n");
    return 2;
  }
  try {
    if (std::filesystem::exists(argv[1])) throw std::runtime_error("it exists");
    qft::WriteAll(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", argv[1], error.what());
    return 1;
  }
  return 0;
}
