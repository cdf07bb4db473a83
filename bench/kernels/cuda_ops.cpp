// The heavy ops of the CUDA engine on the shapes of LLaMA-2-7B, each beside a ceiling measured in
// the same run: bench_cuda_ops [TOKENS]. Medians of ten, inputs larger than the L2 cache.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#include "runtime/cuda_module.h"

namespace qft {
namespace {

constexpr int kRuns = 10;
constexpr int32_t kCritical = 16;

class Bench {
 public:
  explicit Bench(Engine& engine) : engine_(engine) {}

  template <typename T>
  T* Memory(int64_t count, int fill) {
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    void* data = engine_.Allocate(bytes);
    if (data == nullptr) {
      std::fprintf(stderr, "out of device memory\n");
      std::exit(1);
    }
    engine_.Fill(data, fill, bytes);
    return static_cast<T*>(data);
  }

  // Random codes up to `limit`, the same for all: what a product costs depends on how many bits
  // change.
  int8_t* Codes(int64_t count, int limit = 127) {
    std::vector<int8_t> host(static_cast<size_t>(count));
    uint32_t state = 1;
    for (int8_t& code : host) {
      state = state * 1664525u + 1013904223u;
      code = static_cast<int8_t>(static_cast<int>((state >> 16) % (2 * limit + 1)) - limit);
    }
    auto* data = Memory<int8_t>(count, 0);
    engine_.CopyToEngine(data, host.data(), host.size());
    return data;
  }

  float* Ones(int64_t count) {
    const std::vector<float> host(static_cast<size_t>(count), 1.0f);
    auto* data = Memory<float>(count, 0);
    engine_.CopyToEngine(data, host.data(), host.size() * sizeof(float));
    return data;
  }

  CriticalFeatures Critical(int64_t rows) {
    std::vector<int32_t> columns;
    columns.reserve(kCritical);
    for (int32_t i = 0; i < kCritical; ++i) columns.push_back(200 * i);
    auto* data = Memory<int32_t>(kCritical, 0);
    engine_.CopyToEngine(data, columns.data(), columns.size() * sizeof(int32_t));
    return {data, Ones(rows * kCritical), kCritical};
  }

  double Seconds(const std::function<void()>& work) {
    work();
    std::vector<double> seconds;
    for (int run = 0; run < kRuns; ++run) {
      engine_.Synchronize();
      const auto start = std::chrono::steady_clock::now();
      work();
      const char* problem = engine_.Synchronize();
      if (problem != nullptr) {
        std::fprintf(stderr, "%s\n", problem);
        std::exit(1);
      }
      seconds.push_back(
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::sort(seconds.begin(), seconds.end());
    return seconds[kRuns / 2];
  }

 private:
  Engine& engine_;
};

void PrintRate(const char* op, double seconds, double amount, const char* unit) {
  std::printf("%-40s %8.3f ms  %8.1f %s\n", op, 1e3 * seconds, 1e-9 * amount / seconds, unit);
  std::fflush(stdout);
}

// The three products of a linear layer of `outputs` x `inputs`, their operands made of bf16.
void Linear(Engine& engine, Bench& bench, int64_t tokens, int64_t outputs, int64_t inputs,
            bool critical) {
  const CriticalFeatures x_critical = critical ? bench.Critical(tokens) : CriticalFeatures();
  CriticalFeatures w_critical = critical ? bench.Critical(outputs) : CriticalFeatures();
  w_critical.columns = x_critical.columns;
  const Operand x{
      bench.Codes(tokens * inputs), bench.Ones(tokens), DType::kI8, tokens, inputs, x_critical};
  const Weight w{
      bench.Codes(outputs * inputs), bench.Ones(outputs), DType::kI8, outputs, inputs, w_critical};
  const Operand dy{bench.Codes(tokens * outputs), bench.Ones(tokens), DType::kI8, tokens, outputs};
  const Operand dy_t{dy.data, bench.Ones(outputs), DType::kI8, outputs, tokens};
  const Matrix y{bench.Memory<uint16_t>(tokens * outputs, 0), DType::kBF16, tokens, outputs};
  const Matrix dx{bench.Memory<uint16_t>(tokens * inputs, 0), DType::kBF16, tokens, inputs};
  const Matrix dw{bench.Memory<float>(outputs * inputs, 0), DType::kF32, outputs, inputs};
  const Matrix narrow_dw{dw.data, DType::kBF16, outputs, inputs};
  const double products = 2.0 * static_cast<double>(tokens * outputs) * static_cast<double>(inputs);
  char name[80];
  const auto run = [&](const char* what, const std::function<void()>& work) {
    std::snprintf(name, sizeof(name), "%s %ldx%ldx%ld%s", what, tokens, outputs, inputs,
                  critical ? " +16" : "");
    PrintRate(name, bench.Seconds(work), products, "GOP/s");
  };
  run("forward", [&] { engine.MatmulForward(x, w, y, false); });
  run("input gradient", [&] { engine.MatmulInputGradient(dy, w, dx, false); });
  run("weight gradient", [&] { engine.MatmulWeightGradient(dy_t, x, dw, false); });
  run("weight gradient, bf16", [&] { engine.MatmulWeightGradient(dy_t, x, narrow_dw, false); });
  auto* state = bench.Memory<StepState>(1, 0);
  // dy once, its codes once.
  const double bytes = 3.0 * static_cast<double>(tokens * outputs);
  const auto run_memory = [&](const char* what, const std::function<void()>& work) {
    std::snprintf(name, sizeof(name), "%s %ldx%ld", what, tokens, outputs);
    PrintRate(name, bench.Seconds(work), bytes, "GB/s");
  };
  run_memory("quantise output gradient", [&] {
    engine.QuantizeOutputGradient(y, w.grid, Rounding::kStochastic, {}, state, dy);
  });
  run_memory("quantise transposed", [&] {
    engine.QuantizeOutputGradientTransposed(y, x.scales, Rounding::kStochastic, {}, state, dy_t);
  });
  run_memory("quantise both", [&] {
    engine.QuantizeOutputGradients(y, Rounding::kStochastic, state, {w.grid, {}, dy},
                                   {x.scales, {}, dy_t});
  });
}

void Lion(Engine& engine, Bench& bench, int64_t rows, int64_t cols, bool residual) {
  // Codes at the edge of their grid are as rare as in a model.
  Weight w{bench.Codes(rows * cols, 110), bench.Ones(rows), DType::kI8, rows, cols};
  if (residual) w.residual = bench.Memory<uint8_t>(rows * ResidualBytes(cols), 0);
  Momentum m{bench.Codes(rows * cols), bench.Ones(rows * cols / kMomentumBlock), DType::kI8};
  const Gradient g{bench.Codes(rows * cols), bench.Ones(rows), DType::kI8, rows, cols};
  auto* state = bench.Memory<StepState>(1, 0);
  StepState host;
  host.learning_rate = 1e-3f;
  engine.CopyToEngine(state, &host, sizeof(host));
  // Weight and momentum read and written, the gradient read.
  const double state_bytes = static_cast<double>(rows * cols) * (residual ? 5.0 : 4.0);
  const auto run = [&](const char* what, int64_t gradient_bytes,
                       const std::function<void()>& work) {
    char name[80];
    std::snprintf(name, sizeof(name), "%s %ldx%ld%s", what, rows, cols,
                  residual ? ", residual plane" : "");
    PrintRate(name, bench.Seconds(work),
              state_bytes + static_cast<double>(rows * cols * gradient_bytes), "GB/s");
  };
  run("lion", 1, [&] { engine.LionUpdate({}, w, m, g, state); });
  w.critical = bench.Critical(rows);
  m.critical = bench.Critical(rows).values;
  const Matrix values{bench.Memory<uint16_t>(rows * cols, 0x3c), DType::kBF16, rows, cols};
  run("encode and update, bf16", 2, [&] { engine.EncodeAndUpdate(values, {}, {}, w, m, state); });
}

// Ops bound by memory, with the traffic they need at least: each input once, each output once.
void Layers(Engine& engine, Bench& bench, int64_t tokens) {
  constexpr int64_t kWidth = 4096;
  constexpr int64_t kInner = 11008;
  const auto bf16 = [&](int64_t rows, int64_t cols) {
    return Matrix{bench.Memory<uint16_t>(rows * cols, 0x3c), DType::kBF16, rows, cols};
  };
  const auto operand = [&](int64_t rows, int64_t cols) {
    return Operand{bench.Codes(rows * cols), bench.Ones(rows), DType::kI8, rows, cols,
                   bench.Critical(rows)};
  };
  const auto run = [&](const char* what, double bytes, const std::function<void()>& work) {
    PrintRate(what, bench.Seconds(work), bytes, "GB/s");
  };
  const Matrix x = bf16(tokens, kWidth), dy = bf16(tokens, kWidth), dx = bf16(tokens, kWidth);
  const Operand normed = operand(tokens, kWidth);
  const auto narrow = static_cast<double>(tokens * kWidth);
  const float* weight = bench.Ones(kWidth);
  float* rstd = bench.Ones(tokens);
  auto* dweight = bench.Memory<float>(kWidth, 0);
  run("norm forward", 3 * narrow, [&] { engine.RmsNormForward(x, weight, 1e-5f, normed, rstd); });
  run("norm backward", 8 * narrow,
      [&] { engine.RmsNormBackward(x, weight, rstd, dy, dx, nullptr); });
  run("norm backward with its weight", 8 * narrow,
      [&] { engine.RmsNormBackward(x, weight, rstd, dy, dx, dweight); });
  const Matrix gate = bf16(tokens, kInner), up = bf16(tokens, kInner), dh = bf16(tokens, kInner);
  const Operand hidden = operand(tokens, kInner);
  const auto wide = static_cast<double>(tokens * kInner);
  const auto kept_matrix = [&] {
    return KeptMatrix{bench.Codes(tokens * kInner), bench.Ones(tokens * KeptBlocks(kInner)),
                      DType::kI8, tokens, kInner};
  };
  const SwigluInputs kept{kept_matrix(), kept_matrix()};
  Operand terms = hidden;
  terms.second = bench.Codes(tokens * kInner);
  run("swiglu forward", 8 * wide, [&] { engine.SwigluForward(gate, up, kept, terms); });
  run("swiglu backward", 9 * wide, [&] { engine.SwigluBackward(kept, dh, dh, up, hidden); });
}

void Gradients(Engine& engine, Bench& bench, int64_t rows, int64_t cols) {
  auto* values = bench.Memory<float>(rows * cols, 0x3c);
  const Gradient g{
      bench.Codes(rows * cols),     bench.Ones(rows), DType::kI8, rows, cols, bench.Critical(rows),
      bench.Memory<double>(rows, 0)};
  auto* state = bench.Memory<StepState>(1, 0);
  const auto count = static_cast<double>(rows * cols);
  const auto encode = [&](const char* name, DType dtype, bool add, double bytes) {
    PrintRate(name, bench.Seconds([&] {
      engine.EncodeGradient({values, dtype, rows, cols}, Rounding::kStochastic, {}, state, add, g);
    }),
              bytes * count, "GB/s");
  };
  encode("encode gradient", DType::kF32, false, 5);
  encode("encode gradient, bf16", DType::kBF16, false, 3);
  encode("encode gradient, bf16, adding", DType::kBF16, true, 4);
  PrintRate("accumulate gradient", bench.Seconds([&] { engine.AccumulateGradient(g, values); }),
            9 * count, "GB/s");
}

// One chunk of the vocabulary.
void CrossEntropy(Engine& engine, Bench& bench, int64_t tokens) {
  constexpr int64_t kChunk = kVocabularyChunk;
  const Matrix logits{bench.Ones(tokens * kChunk), DType::kF32, tokens, kChunk};
  const Matrix gradient{bench.Memory<uint16_t>(tokens * kChunk, 0), DType::kBF16, tokens, kChunk};
  const Matrix exps{bench.Memory<uint16_t>(tokens * kChunk, 0), DType::kBF16, tokens, kChunk};
  const VocabularyChunk chunk{0, bench.Ones(tokens), bench.Ones(tokens), exps};
  float* target_logit = bench.Ones(tokens);
  const CrossEntropyRows rows{tokens,
                              bench.Memory<int32_t>(tokens, 0),
                              bench.Ones(tokens),
                              target_logit,
                              bench.Ones(tokens),
                              bench.Ones(tokens),
                              bench.Ones(tokens)};
  const auto count = static_cast<double>(tokens * kChunk);
  PrintRate("cross entropy, a chunk", bench.Seconds([&] {
    engine.CrossEntropyChunk(logits, rows.targets, chunk, target_logit);
  }),
            6 * count, "GB/s");
  PrintRate("cross entropy gradient, a chunk",
            bench.Seconds([&] { engine.CrossEntropyGradient(chunk, rows, gradient); }), 4 * count,
            "GB/s");
}

void Attention(Engine& engine, Bench& bench, int64_t tokens, int64_t documents) {
  AttentionShape shape;
  shape.tokens = tokens;
  shape.heads = shape.kv_heads = 32;
  shape.head_dim = 128;
  shape.scale = 0.088f;
  const int64_t cols = 32 * 128;
  const auto matrix = [&] {
    return Matrix{bench.Memory<uint16_t>(tokens * cols, 0x3c), DType::kBF16, tokens, cols};
  };
  const Matrix q = matrix(), k = matrix(), v = matrix(), out = matrix(), dout = matrix();
  const Matrix dq = matrix(), dk = matrix(), dv = matrix();
  std::vector<int32_t> host;
  const int64_t length = tokens / documents;
  for (int64_t t = 0; t < tokens; ++t) host.push_back(static_cast<int32_t>(t / length * length));
  auto* starts = bench.Memory<int32_t>(tokens, 0);
  engine.CopyToEngine(starts, host.data(), host.size() * sizeof(int32_t));
  auto* log_sum = bench.Memory<float>(32 * tokens, 0);
  auto* scratch =
      bench.Memory<char>(static_cast<int64_t>(engine.AttentionBackwardScratch(shape)), 0);
  const double products = 2.0 * static_cast<double>(tokens * length) * cols;  // causal
  PrintRate("attention forward",
            bench.Seconds([&] { engine.AttentionForward(shape, starts, q, k, v, out, log_sum); }),
            products, "GFLOP/s");
  PrintRate("attention backward", bench.Seconds([&] {
    engine.AttentionBackward(shape, starts, q, k, v, out, log_sum, dout, dq, dk, dv, scratch);
  }),
            2.5 * products, "GFLOP/s");
}

int Run(int64_t tokens) {
  StatusOr<std::unique_ptr<Engine>> made = MakeCudaEngine(0);
  if (!made.ok()) {
    std::fprintf(stderr, "%s\n", std::string(made.status().message()).c_str());
    return 1;
  }
  Engine& engine = **made;
  Bench bench(engine);
  std::printf("%s\n", engine.Description());
  const int64_t count = int64_t{1} << 28;
  const Matrix big{bench.Memory<uint16_t>(count, 0), DType::kBF16, count / 4096, 4096};
  const Matrix other{bench.Memory<uint16_t>(count, 0), DType::kBF16, count / 4096, 4096};
  PrintRate("add (two reads, a write)", bench.Seconds([&] { engine.Add(big, other, big); }),
            6.0 * static_cast<double>(count), "GB/s");
  Linear(engine, bench, tokens, 4096, 4096, false);
  Linear(engine, bench, tokens, 4096, 4096, true);
  Linear(engine, bench, tokens, 11008, 4096, true);
  Linear(engine, bench, tokens, 4096, 11008, true);
  Layers(engine, bench, tokens);
  Gradients(engine, bench, 11008, 4096);
  CrossEntropy(engine, bench, tokens);
  Lion(engine, bench, 11008, 4096, false);
  Lion(engine, bench, 4096, 11008, false);
  Lion(engine, bench, 11008, 4096, true);
  Attention(engine, bench, tokens, std::max<int64_t>(1, tokens / 2048));
  return 0;
}

}  // namespace
}  // namespace qft

int main(int argc, char** argv) {
  return qft::Run(argc > 1 ? std::atol(argv[1]) : 8192);
}
