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
constexpr char kEmbedding[] = "model.embed_tokens.weight";
constexpr char kHead[] = "lm_head.weight";

// Where a tensor's values lie. GGUF files of llama models interleave the two halves of each head of
// q and k: stored row h*D + 2i + c is row h*D + c*D/2 + i. `head_dim` is D there, else 0.
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
    return ReadInterleavedRows(placement, row_begin, row_begin + row_count, out);
  }

 private:
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
        const int64_t half = (row - head_begin) / (dim / 2);
        const int64_t index = (row - head_begin) % (dim / 2);
        std::copy_n(head.data() + (2 * index + half) * cols, cols, out);
      }
    }
    return absl::OkStatus();
  }

  std::unique_ptr<TensorSource> stored_;
  std::map<std::string, Placement, std::less<>> placements_;
};

// "model.layers.7.self_attn.q_proj.weight" as GGUF names it: "blk.7.attn_q.weight".
std::string GgufName(const std::string& name) {
  static const auto& kParts = *new std::map<std::string, std::string>{
      {kEmbedding, "token_embd.weight"},
      {"model.norm.weight", "output_norm.weight"},
      {kHead, "output.weight"},
      {"input_layernorm.weight", "attn_norm.weight"},
      {"self_attn.q_proj.weight", "attn_q.weight"},
      {"self_attn.k_proj.weight", "attn_k.weight"},
      {"self_attn.v_proj.weight", "attn_v.weight"},
      {"self_attn.o_proj.weight", "attn_output.weight"},
      {"post_attention_layernorm.weight", "ffn_norm.weight"},
      {"mlp.gate_proj.weight", "ffn_gate.weight"},
      {"mlp.up_proj.weight", "ffn_up.weight"},
      {"mlp.down_proj.weight", "ffn_down.weight"}};
  constexpr std::string_view kLayers = "model.layers.";
  if (!name.starts_with(kLayers)) return kParts.at(name);
  const size_t dot = name.find('.', kLayers.size());
  return absl::StrCat("blk.", name.substr(kLayers.size(), dot - kLayers.size()), ".",
                      kParts.at(name.substr(dot + 1)));
}

bool IsInterleaved(const std::string& name) {
  return name.ends_with("self_attn.q_proj.weight") || name.ends_with("self_attn.k_proj.weight");
}

// Buffers that old checkpoints carry and that follow from the configuration.
bool IsDerivedBuffer(std::string_view name) {
  return name.ends_with("rotary_emb.inv_freq");
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
  if (traits.real) return absl::OkStatus();
  return Unsupported("tensor ", stored_name, ": weights of type ", traits.name,
                     " are not supported");
}

// Tied models may carry a copy of the embedding as their head. A head that differs would be lost.
Status CheckHeadCopy(const TensorSource& stored) {
  const TensorInfo* head = stored.Find(kHead);
  const TensorInfo* embedding = stored.Find(kEmbedding);
  Status differs =
      BadData("tie_word_embeddings is set, but tensor ", kHead, " differs from ", kEmbedding);
  if (embedding == nullptr || head->shape != embedding->shape) return differs;
  const int64_t rows = head->Rows();
  const int64_t step = std::max<int64_t>(1, kCompareElements / std::max<int64_t>(1, head->Cols()));
  std::vector<float> a(static_cast<size_t>(std::min(step, rows) * head->Cols()));
  std::vector<float> b(a.size());
  for (int64_t row = 0; row < rows; row += step) {
    const int64_t count = std::min(step, rows - row);
    QFT_RETURN_IF_ERROR(stored.ReadRows(kHead, row, count, a.data()));
    QFT_RETURN_IF_ERROR(stored.ReadRows(kEmbedding, row, count, b.data()));
    if (!std::equal(a.begin(), a.begin() + count * head->Cols(), b.begin())) return differs;
  }
  return absl::OkStatus();
}

// Refuses the first stored tensor that is not in `used`, which is ascending.
Status CheckNothingLeft(const TensorSource& stored, const std::vector<std::string>& used,
                        bool tied) {
  for (const std::string& name : stored.Names()) {
    if (std::binary_search(used.begin(), used.end(), name) || IsDerivedBuffer(name)) continue;
    if (tied && name == kHead) {
      QFT_RETURN_IF_ERROR(CheckHeadCopy(stored));
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
    placement.stored_name = gguf ? GgufName(spec.name) : spec.name;
    const TensorInfo* info = stored->Find(placement.stored_name);
    QFT_RETURN_IF_ERROR(CheckTensor(spec, placement.stored_name, info));
    if (gguf && IsInterleaved(spec.name)) placement.head_dim = config.head_dim;
    placement.info = *info;
    placement.info.name = spec.name;
    used.push_back(placement.stored_name);
    placements.push_back(std::move(placement));
  }
  std::sort(used.begin(), used.end());
  QFT_RETURN_IF_ERROR(CheckNothingLeft(*stored, used, config.tie_embeddings && !gguf));
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
