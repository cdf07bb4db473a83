#include "runtime/model/model_files.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "runtime/data/gguf.h"
#include "runtime/data/safetensors.h"
#include "runtime/model/llama_tensors.h"

namespace qft {
namespace {

constexpr uint64_t kMaxConfigBytes = 1 << 20;
constexpr int64_t kCompareElements = 1 << 18;
constexpr char kConfigName[] = "config.json";

// Where a tensor's values lie. GGUF files of llama models interleave the two halves of each head of
// q and k: stored row (of a bias: element) h*D + 2i + c is row h*D + c*D/2 + i. `head_dim` is D
// there, else 0.
struct Placement {
  TensorInfo info;
  std::string stored_name;
  int64_t head_dim = 0;
};

class PlacedTensorSource final : public TensorSource {
 public:
  explicit PlacedTensorSource(std::unique_ptr<TensorSource> stored) : stored_(std::move(stored)) {}

  void Add(Placement placement) {
    std::string name = placement.info.name;
    placements_.emplace(std::move(name), std::move(placement));
  }

  const TensorInfo* Find(std::string_view name) const override {
    const auto found = placements_.find(name);
    return found == placements_.end() ? nullptr : &found->second.info;
  }

  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    for (const auto& [name, placement] : placements_) names.push_back(name);
    return names;
  }

  Status ReadRows(std::string_view name, int64_t row_begin, int64_t row_count,
                  float* out) const override {
    const auto found = placements_.find(name);
    if (found == placements_.end()) {
      return MakeError(ErrorCode::kNotFound,
                       absl::StrCat("there is no tensor ", std::string(name)));
    }
    const Placement& placement = found->second;
    if (placement.head_dim == 0) {
      return stored_->ReadRows(placement.stored_name, row_begin, row_count, out);
    }
    QFT_RETURN_IF_ERROR(CheckRows(placement.info, row_begin, row_count));
    if (placement.info.shape.size() == 1) return ReadInterleavedVector(placement, out);
    return ReadInterleavedRows(placement, row_begin, row_begin + row_count, out);
  }

 private:
  // Where row `row` of a head of D rows is stored within it.
  static int64_t StoredRow(int64_t row, int64_t dim) {
    return 2 * (row % (dim / 2)) + row / (dim / 2);
  }

  // One head at a time.
  Status ReadInterleavedRows(const Placement& placement, int64_t row_begin, int64_t row_end,
                             float* out) const {
    const int64_t dim = placement.head_dim;
    const int64_t cols = placement.info.Cols();
    std::vector<float> head(static_cast<size_t>(dim * cols));
    for (int64_t row = row_begin; row < row_end;) {
      const int64_t head_begin = row / dim * dim;
      QFT_RETURN_IF_ERROR(stored_->ReadRows(placement.stored_name, head_begin, dim, head.data()));
      for (; row < std::min(row_end, head_begin + dim); ++row, out += cols) {
        std::copy_n(head.data() + StoredRow(row - head_begin, dim) * cols, cols, out);
      }
    }
    return absl::OkStatus();
  }

  Status ReadInterleavedVector(const Placement& placement, float* out) const {
    const int64_t dim = placement.head_dim;
    std::vector<float> stored(static_cast<size_t>(placement.info.Cols()));
    QFT_RETURN_IF_ERROR(stored_->ReadRows(placement.stored_name, 0, 1, stored.data()));
    for (size_t i = 0; i < stored.size(); ++i) {
      const int64_t element = static_cast<int64_t>(i);
      out[i] = stored[static_cast<size_t>(element / dim * dim + StoredRow(element % dim, dim))];
    }
    return absl::OkStatus();
  }

  std::unique_ptr<TensorSource> stored_;
  std::map<std::string, Placement, std::less<>> placements_;
};

// Buffers that follow from the configuration; kRopeFactors was compared with it when it was read.
bool IsDerivedBuffer(std::string_view name) {
  return name.ends_with("rotary_emb.inv_freq") || name == kRopeFactors;
}

std::vector<int64_t> Shape(const TensorSpec& spec) {
  if (spec.dimensions == 1) return {spec.cols};
  return {spec.rows, spec.cols};
}

Status CheckTensor(const TensorSpec& wanted, const std::string& stored_name,
                   const TensorInfo* stored) {
  if (stored == nullptr) return BadData("tensor ", stored_name, " is missing");
  const std::vector<int64_t> shape = Shape(wanted);
  if (stored->shape != shape) {
    return MakeError(
        ErrorCode::kShape,
        absl::StrCat("tensor ", stored_name, " has the shape ", stored->ShapeText(),
                     ", the configuration asks for [", absl::StrJoin(shape, ", "), "]"));
  }
  const StoredTypeTraits& traits = Traits(stored->type);
  if (traits.decode != nullptr) return absl::OkStatus();
  return Unsupported("tensor ", stored_name, ": weights of type ", traits.name,
                     " are not supported");
}

// Tied models may carry a copy of the embedding as their head. A head that differs would be lost.
Status CheckHeadCopy(const TensorSource& stored, const std::string& head_name,
                     const std::string& embedding_name) {
  const TensorInfo* head = stored.Find(head_name);
  const TensorInfo* embedding = stored.Find(embedding_name);
  Status differs = BadData("tie_word_embeddings is set, but tensor ", head_name, " differs from ",
                           embedding_name);
  if (embedding == nullptr || head->shape != embedding->shape) return differs;
  const int64_t rows = head->Rows();
  const int64_t step = std::max<int64_t>(1, kCompareElements / std::max<int64_t>(1, head->Cols()));
  std::vector<float> a(static_cast<size_t>(std::min(step, rows) * head->Cols()));
  std::vector<float> b(a.size());
  for (int64_t row = 0; row < rows; row += step) {
    const int64_t count = std::min(step, rows - row);
    QFT_RETURN_IF_ERROR(stored.ReadRows(head_name, row, count, a.data()));
    QFT_RETURN_IF_ERROR(stored.ReadRows(embedding_name, row, count, b.data()));
    if (!std::equal(a.begin(), a.begin() + count * head->Cols(), b.begin())) return differs;
  }
  return absl::OkStatus();
}

// Refuses the first stored tensor that is not in `used`, which is ascending. `config`: whose head
// may be a copy.
Status CheckNothingLeft(const TensorSource& stored, const std::vector<std::string>& used,
                        ModelConfig config, bool gguf) {
  const bool may_have_copy = config.tie_embeddings && !gguf;
  config.tie_embeddings = false;
  const LlamaTensors untied = MakeLlamaTensors(config);
  const std::string& head = untied.table[untied.head].name;
  for (const std::string& name : stored.Names()) {
    if (std::binary_search(used.begin(), used.end(), name) || IsDerivedBuffer(name)) continue;
    if (may_have_copy && name == head) {
      QFT_RETURN_IF_ERROR(CheckHeadCopy(stored, head, untied.table[untied.embedding].name));
      continue;
    }
    return Unsupported("tensor ", name, " is no part of a model of this configuration");
  }
  return absl::OkStatus();
}

StatusOr<std::unique_ptr<TensorSource>> PlaceTensors(const ModelConfig& config,
                                                     std::unique_ptr<TensorSource> stored,
                                                     bool gguf) {
  std::vector<Placement> placements;
  std::vector<std::string> used;
  const LlamaTensors wanted = MakeLlamaTensors(config);
  for (const TensorSpec& spec : wanted.table) {
    Placement placement;
    placement.stored_name = gguf ? spec.gguf_name : spec.name;
    const TensorInfo* info = stored->Find(placement.stored_name);
    QFT_RETURN_IF_ERROR(CheckTensor(spec, placement.stored_name, info));
    if (gguf && spec.rotated && config.family->gguf_interleaves) {
      placement.head_dim = config.head_dim;
    }
    placement.info = *info;
    placement.info.name = spec.name;
    used.push_back(placement.stored_name);
    placements.push_back(std::move(placement));
  }
  std::sort(used.begin(), used.end());
  QFT_RETURN_IF_ERROR(CheckNothingLeft(*stored, used, config, gguf));
  auto placed = std::make_unique<PlacedTensorSource>(std::move(stored));
  for (Placement& placement : placements) placed->Add(std::move(placement));
  return std::unique_ptr<TensorSource>(std::move(placed));
}

Status Open(FileSystem& fs, const std::string& path, ModelFiles* files) {
  QFT_ASSIGN_OR_RETURN(const bool is_folder, fs.IsDirectory(path));
  std::unique_ptr<TensorSource> stored;
  if (is_folder) {
    const std::string config_path = JoinPath(path, kConfigName);
    QFT_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs, config_path, kMaxConfigBytes));
    QFT_ASSIGN_OR_RETURN(files->config, ParseHuggingFaceConfig(text, config_path));
    QFT_ASSIGN_OR_RETURN(stored, OpenSafetensorsFolder(fs, path));
  } else {
    QFT_ASSIGN_OR_RETURN(GgufFile file, OpenGguf(fs, path));
    QFT_ASSIGN_OR_RETURN(files->config, ParseGgufConfig(file, path));
    stored = std::move(file.tensors);
  }
  StatusOr<std::unique_ptr<TensorSource>> placed =
      PlaceTensors(files->config, std::move(stored), !is_folder);
  if (!placed.ok()) return Annotate(placed.status(), path);
  files->tensors = *std::move(placed);
  return absl::OkStatus();
}

}  // namespace

StatusOr<ModelFiles> OpenModelFiles(FileSystem& fs, const std::string& path) {
  ModelFiles files;
  QFT_RETURN_IF_ERROR(Open(fs, path, &files));
  return files;
}

}  // namespace qft
