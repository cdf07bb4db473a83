#include "runtime/model/model_files.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "runtime/data/safetensors.h"
#include "runtime/model/llama_tensors.h"
#include "tests/runtime/data/format_bytes.h"
#include "tests/runtime/data/memory_file_system.h"

namespace qft {
namespace {

constexpr char kQuery[] = "model.layers.0.self_attn.q_proj.weight";
constexpr char kHead[] = "lm_head.weight";
constexpr char kEmbedding[] = "model.embed_tokens.weight";

std::string Golden(const char* name) {
  return JoinPath(QFT_TEST_DATA, name);
}

std::vector<float> ReadAll(const TensorSource& source, const std::string& name) {
  const TensorInfo& info = *source.Find(name);
  std::vector<float> values(static_cast<size_t>(info.Rows() * info.Cols()));
  EXPECT_TRUE(source.ReadRows(name, 0, info.Rows(), values.data()).ok()) << name;
  return values;
}

// The three were written by transformers and by the steps of llama.cpp's converter from one model.
TEST(ModelFiles, FolderShardsAndGgufHoldTheSameModel) {
  const auto folder = OpenModelFiles(PosixFileSystem(), Golden("tiny"));
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_EQ(folder->config.head_dim, 8);
  EXPECT_EQ(folder->config.rope_theta, 50000);
  for (const char* name : {"tiny-sharded", "tiny.gguf"}) {
    const auto other = OpenModelFiles(PosixFileSystem(), Golden(name));
    ASSERT_TRUE(other.ok()) << other.status();
    ModelConfig config = other->config;
    config.name = folder->config.name;
    EXPECT_TRUE(config == folder->config) << name;
    ASSERT_EQ(other->tensors->Names(), folder->tensors->Names()) << name;
    for (const std::string& tensor : folder->tensors->Names()) {
      EXPECT_EQ(other->tensors->Find(tensor)->name, tensor);
      EXPECT_EQ(other->tensors->Find(tensor)->shape, folder->tensors->Find(tensor)->shape);
      EXPECT_EQ(ReadAll(*other->tensors, tensor), ReadAll(*folder->tensors, tensor)) << tensor;
    }
  }
}

// Biases, norms of heads and rotary scaling, which the two formats hold each in its own way.
TEST(ModelFiles, FolderAndGgufOfEveryFamilyHoldTheSameModel) {
  for (const std::string name : {"tiny-llama3", "tiny-qwen2", "tiny-qwen3"}) {
    const auto folder = OpenModelFiles(PosixFileSystem(), Golden(name.c_str()));
    ASSERT_TRUE(folder.ok()) << folder.status();
    const auto gguf = OpenModelFiles(PosixFileSystem(), Golden((name + ".gguf").c_str()));
    ASSERT_TRUE(gguf.ok()) << gguf.status();
    EXPECT_EQ(gguf->config.name, "tiny");
    ModelConfig config = gguf->config;
    config.name.clear();
    EXPECT_EQ(ToHuggingFaceJson(config, "x"), ToHuggingFaceJson(folder->config, "x")) << name;
    EXPECT_TRUE(config == folder->config) << name;
    ASSERT_EQ(gguf->tensors->Names(), folder->tensors->Names()) << name;
    for (const std::string& tensor : folder->tensors->Names()) {
      EXPECT_EQ(ReadAll(*gguf->tensors, tensor), ReadAll(*folder->tensors, tensor)) << tensor;
    }
  }
}

TEST(ModelFiles, FamiliesHaveTheTensorsThatTransformersWrote) {
  const auto files = [](const char* name) {
    auto opened = OpenModelFiles(PosixFileSystem(), Golden(name));
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *std::move(opened);
  };
  const ModelFiles llama3 = files("tiny-llama3");
  EXPECT_EQ(llama3.config.rope_scaling.kind, RopeKind::kLlama3);
  EXPECT_EQ(llama3.tensors->Names().size(), 3u + 9u + 7u);
  EXPECT_NE(llama3.tensors->Find("model.layers.0.mlp.down_proj.bias"), nullptr);
  const ModelFiles qwen2 = files("tiny-qwen2");
  EXPECT_EQ(qwen2.config.rope_scaling.kind, RopeKind::kYarn);
  EXPECT_TRUE(qwen2.config.tie_embeddings);
  EXPECT_EQ(qwen2.tensors->Names().size(), 2u + 9u + 3u);
  EXPECT_EQ(qwen2.tensors->Find("model.layers.0.self_attn.o_proj.bias"), nullptr);
  const ModelFiles qwen3 = files("tiny-qwen3");
  EXPECT_EQ(qwen3.tensors->Names().size(), 3u + 9u + 2u);
  EXPECT_EQ(qwen3.tensors->Find("model.layers.0.self_attn.k_norm.weight")->shape,
            std::vector<int64_t>{16});
}

TEST(ModelFiles, GgufRowRangesEqualTheWhole) {
  const auto files = OpenModelFiles(PosixFileSystem(), Golden("tiny.gguf"));
  ASSERT_TRUE(files.ok()) << files.status();
  const std::vector<float> whole = ReadAll(*files->tensors, kQuery);
  const TensorInfo& info = *files->tensors->Find(kQuery);
  for (int64_t begin = 0; begin <= info.Rows(); ++begin) {
    for (int64_t end = begin; end <= info.Rows(); ++end) {
      std::vector<float> part(static_cast<size_t>((end - begin) * info.Cols()));
      ASSERT_TRUE(files->tensors->ReadRows(kQuery, begin, end - begin, part.data()).ok());
      EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + begin * info.Cols()));
    }
  }
  float value;
  EXPECT_EQ(GetErrorInfo(files->tensors->ReadRows(kQuery, info.Rows(), 1, &value)).code,
            ErrorCode::kOutOfRange);
  EXPECT_EQ(GetErrorInfo(files->tensors->ReadRows("blk.0.attn_q.weight", 0, 1, &value)).code,
            ErrorCode::kNotFound);
}

ModelConfig SmallConfig(bool tied) {
  ModelConfig config;
  config.vocab_size = 6;
  config.hidden_size = 4;
  config.intermediate_size = 3;
  config.layers = 1;
  config.heads = 2;
  config.kv_heads = 1;
  config.head_dim = 2;
  config.max_position = 16;
  config.rms_norm_epsilon = 1e-5;
  config.rope_theta = 10000;
  config.tie_embeddings = tied;
  return config;
}

// A folder in memory whose tensors a test may change before it opens it.
class ModelFolder : public testing::Test {
 protected:
  struct Tensor {
    std::vector<int64_t> shape;
    StoredType type = StoredType::kF32;
    std::string bytes;
  };

  void Fill(bool tied) { Fill(SmallConfig(tied)); }
  void Fill(const ModelConfig& config) {
    fs_.files["m/config.json"] = ToHuggingFaceJson(config, "float32");
    const LlamaTensors tensors = MakeLlamaTensors(config);
    for (const TensorSpec& spec : tensors.table) {
      Set(spec.name, spec.dimensions == 1 ? std::vector<int64_t>{spec.cols}
                                          : std::vector<int64_t>{spec.rows, spec.cols});
    }
  }
  // Every value 1.
  void Set(const std::string& name, const std::vector<int64_t>& shape) {
    int64_t elements = 1;
    for (const int64_t size : shape) elements *= size;
    tensors_[name] = {shape, StoredType::kF32,
                      FloatBytes(std::vector<float>(static_cast<size_t>(elements), 1.0f))};
  }

  StatusOr<ModelFiles> Open() {
    std::vector<TensorInfo> infos;
    std::string data;
    for (const auto& [name, tensor] : tensors_) {
      infos.push_back({name, tensor.shape, tensor.type});
      data += tensor.bytes;
    }
    auto writer = SafetensorsWriter::Create(fs_, "m/model.safetensors", infos, {});
    QFT_RETURN_IF_ERROR(writer.status());
    QFT_RETURN_IF_ERROR((*writer)->Append(data.data(), data.size()));
    QFT_RETURN_IF_ERROR((*writer)->Finish());
    return OpenModelFiles(fs_, "m");
  }
  void ExpectRefused(ErrorCode code, const std::string& text) {
    const Status status = Open().status();
    EXPECT_EQ(GetErrorInfo(status).code, code) << status;
    EXPECT_NE(status.message().find(text), absl::string_view::npos) << status;
  }

  MemoryFileSystem fs_;
  std::map<std::string, Tensor> tensors_;
};

TEST_F(ModelFolder, Opens) {
  for (const bool tied : {false, true}) {
    tensors_.clear();
    Fill(tied);
    const auto files = Open();
    ASSERT_TRUE(files.ok()) << files.status();
    EXPECT_EQ(files->tensors->Find(kHead) == nullptr, tied);
    EXPECT_EQ(files->tensors->Names().size(), tensors_.size());
  }
}

TEST_F(ModelFolder, MissingTensor) {
  Fill(false);
  tensors_.erase(kHead);
  ExpectRefused(ErrorCode::kBadData, "tensor lm_head.weight is missing");
}

TEST_F(ModelFolder, WrongShapeNamesBoth) {
  Fill(false);
  Set(kQuery, {4, 8});
  ExpectRefused(ErrorCode::kShape,
                "tensor model.layers.0.self_attn.q_proj.weight has the shape [4, 8], the "
                "configuration asks for [4, 4]");
  Set(kQuery, {16});
  ExpectRefused(ErrorCode::kShape, "[16]");
}

TEST_F(ModelFolder, UnknownTensors) {
  for (const char* name : {"model.layers.0.self_attn.q_proj.bias",
                           "model.layers.1.input_layernorm.weight", "score.weight"}) {
    tensors_.clear();
    Fill(false);
    Set(name, {4});
    ExpectRefused(ErrorCode::kUnsupported, name);
  }
}

// A tensor that the configuration asks for and is not there, one that it does not ask for and is,
// and one of another shape: each is named.
TEST_F(ModelFolder, TensorsOfFamilies) {
  struct Case {
    const Family* family;
    const char* bias;   // that the family has, or nullptr
    const char* extra;  // that it lacks
    const char* norm;
  };
  const Case cases[] = {
      {&kLlama, nullptr, "self_attn.k_proj.bias", "input_layernorm.weight"},
      {&kMistral, nullptr, "self_attn.v_proj.bias", "post_attention_layernorm.weight"},
      {&kQwen2, "self_attn.k_proj.bias", "self_attn.o_proj.bias", "input_layernorm.weight"},
      {&kQwen2, "self_attn.v_proj.bias", "self_attn.q_norm.weight", "input_layernorm.weight"},
      {&kQwen3, nullptr, "self_attn.q_proj.bias", "self_attn.k_norm.weight"},
      {&kQwen3, nullptr, "mlp.up_proj.bias", "self_attn.q_norm.weight"}};
  for (const Case& c : cases) {
    ModelConfig config = SmallConfig(false);
    config.family = c.family;
    config.qkv_bias = c.family->qkv_bias == Bias::kAlways;
    config.qk_norm = c.family->qk_norm;
    const auto refill = [&] {
      tensors_.clear();
      Fill(config);
    };
    const auto named = [](const char* part) { return std::string("model.layers.0.") + part; };
    refill();
    ASSERT_TRUE(Open().ok()) << Open().status();
    Set(named(c.extra), {4});
    ExpectRefused(ErrorCode::kUnsupported, named(c.extra));
    refill();
    Set(named(c.norm), {3});
    ExpectRefused(ErrorCode::kShape, named(c.norm));
    refill();
    tensors_.erase(named(c.norm));
    ExpectRefused(ErrorCode::kBadData, named(c.norm));
    if (c.bias == nullptr) continue;
    refill();
    Set(named(c.bias), {4, 1});
    ExpectRefused(ErrorCode::kShape, named(c.bias));
    refill();
    tensors_.erase(named(c.bias));
    ExpectRefused(ErrorCode::kBadData, named(c.bias));
  }
}

TEST_F(ModelFolder, RotaryBuffersAreIgnored) {
  Fill(false);
  Set("model.layers.0.self_attn.rotary_emb.inv_freq", {1});
  const auto files = Open();
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->tensors->Find("model.layers.0.self_attn.rotary_emb.inv_freq"), nullptr);
}

TEST_F(ModelFolder, IntegerWeights) {
  Fill(false);
  tensors_[kQuery] = {{4, 4}, StoredType::kI32, std::string(64, '\0')};
  ExpectRefused(ErrorCode::kUnsupported, kQuery);
}

TEST_F(ModelFolder, TiedHeadMustEqualTheEmbedding) {
  Fill(true);
  Set(kHead, {6, 4});
  const auto files = Open();
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->tensors->Find(kHead), nullptr);
  tensors_[kHead].bytes.back() = '\0';
  ExpectRefused(ErrorCode::kBadData, kHead);
  Set(kHead, {4, 6});
  ExpectRefused(ErrorCode::kBadData, kHead);
}

TEST_F(ModelFolder, NonFiniteValuesAreReportedWhenRead) {
  Fill(false);
  tensors_[kEmbedding].bytes.replace(4, 4, Bytes(NAN));
  const auto files = Open();
  ASSERT_TRUE(files.ok()) << files.status();
  float row[4];
  const Status status = files->tensors->ReadRows(kEmbedding, 0, 1, row);
  EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kBadData);
  EXPECT_NE(status.message().find(kEmbedding), absl::string_view::npos) << status;
}

TEST_F(ModelFolder, MissingFiles) {
  EXPECT_EQ(GetErrorInfo(OpenModelFiles(fs_, "m").status()).code, ErrorCode::kFileNotFound);
  Fill(false);
  EXPECT_EQ(GetErrorInfo(OpenModelFiles(fs_, "m").status()).code, ErrorCode::kFileNotFound);
  fs_.files.erase("m/config.json");
  EXPECT_EQ(GetErrorInfo(Open().status()).code, ErrorCode::kFileNotFound);
}

TEST_F(ModelFolder, ManyLayersAreRefusedByTheMissingTensor) {
  Fill(false);
  ModelConfig config = SmallConfig(false);
  config.layers = 4096;
  fs_.files["m/config.json"] = ToHuggingFaceJson(config, "float32");
  ExpectRefused(ErrorCode::kBadData, "model.layers.1.input_layernorm.weight is missing");
}

// The bytes of the golden GGUF file, with `from` replaced by `to` of the same length.
std::string ChangedGguf(const std::string& from, const std::string& to) {
  std::string bytes = *ReadWholeFile(PosixFileSystem(), Golden("tiny.gguf"), 1 << 20);
  const size_t at = bytes.find(from);
  EXPECT_NE(at, std::string::npos);
  return bytes.replace(at, from.size(), to);
}

TEST(ModelFilesGguf, RefusesUnknownTensors) {
  MemoryFileSystem fs;
  fs.files["f"] = ChangedGguf("blk.1.ffn_up.weight", "blk.1.attn_q.biases");
  const Status missing = OpenModelFiles(fs, "f").status();
  EXPECT_NE(missing.message().find("blk.1.ffn_up.weight is missing"), absl::string_view::npos)
      << missing;
  // Without its head the file is one of a tied model, with a tensor too many.
  fs.files["f"] = ChangedGguf(GgufString("output.weight"), GgufString("rope_freqs.we"));
  const Status unknown = OpenModelFiles(fs, "f").status();
  EXPECT_EQ(GetErrorInfo(unknown).code, ErrorCode::kUnsupported);
  EXPECT_NE(unknown.message().find("rope_freqs.we"), absl::string_view::npos) << unknown;
}

TEST(ModelFilesGguf, MissingFile) {
  MemoryFileSystem fs;
  EXPECT_EQ(GetErrorInfo(OpenModelFiles(fs, "none.gguf").status()).code, ErrorCode::kFileNotFound);
}

}  // namespace
}  // namespace qft
