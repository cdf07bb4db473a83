#include "runtime/model/model.h"

#include "runtime/model/model_files.h"
#include "runtime/model/random_source.h"

namespace qft {

Model::Model(ModelConfig config, std::unique_ptr<TensorSource> source)
    : config_(std::move(config)), tensors_(MakeLlamaTensors(config_)), source_(std::move(source)) {}

StatusOr<std::shared_ptr<const Model>> Model::Load(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(ModelFiles files, OpenModelFiles(fs, path));
  return std::shared_ptr<const Model>(new Model(std::move(files.config), std::move(files.tensors)));
}

StatusOr<std::shared_ptr<const Model>> Model::Random(const std::string& config_json,
                                                     uint64_t seed) {
  StatusOr<ModelConfig> parsed = ParseHuggingFaceConfig(config_json, "configuration");
  // A caller's text is bad, not a file that was damaged.
  if (!parsed.ok() && GetErrorInfo(parsed.status()).code == ErrorCode::kCorrupt) {
    return BadData(std::string(parsed.status().message()));
  }
  QFT_ASSIGN_OR_RETURN(ModelConfig config, std::move(parsed));
  auto source = std::make_unique<RandomSource>(MakeLlamaTensors(config).table, seed);
  return std::shared_ptr<const Model>(new Model(std::move(config), std::move(source)));
}

int64_t Model::parameters() const {
  int64_t sum = 0;
  for (const TensorSpec& spec : table()) sum += spec.elements();
  return sum;
}

}  // namespace qft
