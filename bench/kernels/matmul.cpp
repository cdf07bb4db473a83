// The integer matmuls of the engine, scales and all, against oneDNN's bare INT8 products of the
// same shapes on as many threads: bench_matmul [TOKENS] [THREADS]. Rates in GOP/s, medians of
// alternating runs.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <dnnl.hpp>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "kernels/ops.h"

namespace {

constexpr int kRuns = 15;

struct Shape {
  int64_t rows, cols, depth;
  bool transposed;  // b is stored [cols, depth]
};

double Seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<int8_t> Codes(int64_t count) {
  std::minstd_rand random(1);
  std::vector<int8_t> codes(static_cast<size_t>(count));
  for (int8_t& code : codes) code = static_cast<int8_t>(static_cast<int>(random() % 255) - 127);
  return codes;
}

// One thread's share of the rows, with oneDNN's own threading off.
class BareProduct {
 public:
  BareProduct(const Shape& shape, int64_t rows)
      : engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_),
        a_(Codes(rows * shape.depth)),
        b_(Codes(shape.cols * shape.depth)),
        c_(static_cast<size_t>(rows * shape.cols)) {
    using Memory = dnnl::memory;
    const Memory::dims b_strides =
        shape.transposed ? Memory::dims{1, shape.depth} : Memory::dims{shape.cols, 1};
    const Memory::desc a({rows, shape.depth}, Memory::data_type::s8, {shape.depth, 1});
    const Memory::desc b({shape.depth, shape.cols}, Memory::data_type::s8, b_strides);
    const Memory::desc c({rows, shape.cols}, Memory::data_type::s32, {shape.cols, 1});
    product_ = dnnl::matmul(dnnl::matmul::primitive_desc({a, b, c}, engine_));
    arguments_ = {{DNNL_ARG_SRC, Memory(a, engine_, a_.data())},
                  {DNNL_ARG_WEIGHTS, Memory(b, engine_, b_.data())},
                  {DNNL_ARG_DST, Memory(c, engine_, c_.data())}};
  }
  void Run() { product_.execute(stream_, arguments_); }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  std::vector<int8_t> a_, b_;
  std::vector<int32_t> c_;
  dnnl::matmul product_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

// Seconds of the slowest thread for one product, threads kept running over `repeats` products.
double BareSeconds(const Shape& shape, int threads, int repeats) {
  std::vector<std::thread> workers;
  workers.reserve(static_cast<size_t>(threads));
  std::vector<double> seconds(static_cast<size_t>(threads));
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&, i] {
      omp_set_num_threads(1);
      BareProduct product(shape, std::max<int64_t>(shape.rows / threads, 1));
      product.Run();
      seconds[static_cast<size_t>(i)] = Seconds([&] {
        for (int r = 0; r < repeats; ++r) product.Run();
      });
    });
  }
  for (std::thread& worker : workers) worker.join();
  return *std::max_element(seconds.begin(), seconds.end()) / repeats;
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + kRuns / 2, values.end());
  return values[kRuns / 2];
}

void Compare(const char* name, const Shape& shape, int threads, const std::function<void()>& own) {
  const double operations = 2.0 * static_cast<double>(shape.rows) *
                            static_cast<double>(shape.cols) * static_cast<double>(shape.depth);
  const int repeats = std::max(1, static_cast<int>(2e10 / operations));
  std::vector<double> own_times, bare_times;
  own();
  for (int run = 0; run < kRuns; ++run) {
    own_times.push_back(Seconds([&] {
                          for (int r = 0; r < repeats; ++r) own();
                        }) /
                        repeats);
    bare_times.push_back(BareSeconds(shape, threads, repeats));
  }
  const double own_rate = operations / Median(own_times) / 1e9;
  const double bare_rate = operations / Median(bare_times) / 1e9;
  std::printf("%-16s %6ld x %5ld x %5ld   ours %6.0f   oneDNN %6.0f   share %.2f\n", name,
              static_cast<long>(shape.rows), static_cast<long>(shape.cols),
              static_cast<long>(shape.depth), own_rate, bare_rate, own_rate / bare_rate);
  std::fflush(stdout);
}

void CompareLayer(qft::Engine& engine, int64_t t, int64_t n, int64_t k, int threads) {
  std::vector<int8_t> x = Codes(t * k), w = Codes(n * k), dy = Codes(t * n);
  std::vector<float> ones(static_cast<size_t>(std::max({t, n, k})), 1.0f);
  std::vector<float> y(static_cast<size_t>(std::max({t * n, t * k, n * k})));
  const qft::Operand x_operand{x.data(), ones.data(), qft::DType::kI8, t, k};
  const qft::Operand dy_operand{dy.data(), ones.data(), qft::DType::kI8, t, n};
  const qft::Operand dy_t{dy.data(), ones.data(), qft::DType::kI8, n, t};
  qft::Weight weight;
  weight.data = w.data();
  weight.grid = ones.data();
  weight.rows = n;
  weight.cols = k;
  Compare("forward", {t, n, k, true}, threads, [&] {
    engine.MatmulForward(x_operand, weight, {y.data(), qft::DType::kF32, t, n}, false);
  });
  Compare("input gradient", {t, k, n, false}, threads, [&] {
    engine.MatmulInputGradient(dy_operand, weight, {y.data(), qft::DType::kF32, t, k}, false);
  });
  Compare("weight gradient", {n, k, t, false}, threads, [&] {
    engine.MatmulWeightGradient(dy_t, x_operand, {y.data(), qft::DType::kF32, n, k}, false);
  });
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t tokens = argc > 1 ? std::atoll(argv[1]) : 2048;
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const std::unique_ptr<qft::Engine> engine(qft::CreateCpuEngine(threads));
  std::printf("%s; GOP/s\n", engine->Description());
  for (const auto& [n, k] :
       {std::pair<int64_t, int64_t>{576, 576}, {1536, 576}, {576, 1536}, {8192, 576}}) {
    CompareLayer(*engine, tokens, n, k, threads);
  }
}
