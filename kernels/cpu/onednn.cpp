#include "kernels/cpu/onednn.h"

#include <omp.h>

#include <array>
#include <cstdlib>
#include <dnnl.hpp>
#include <exception>
#include <map>
#include <memory>
#include <new>
#include <unordered_map>

namespace qft {
namespace {

// Lengths of micro-batches differ when a session generates text; then old shapes are dropped.
constexpr size_t kMaxPrimitives = 512;

constexpr char kFailed[] = "onednn failed in a matmul";
constexpr char kNoMemory[] = "out of memory in a matmul of onednn";

using Key = std::array<int64_t, 8>;

struct FreeMemory {
  void operator()(void* data) const { std::free(data); }
};

class OneDnnImpl final : public OneDnn {
 public:
  OneDnnImpl() : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

  const char* MultiplyInteger(const GemmShape& shape, const int8_t* a, const int8_t* b,
                              int32_t* c) override {
    return Multiply(shape, true, a, b, c);
  }

  const char* MultiplyFloat(const GemmShape& shape, const float* a, const float* b,
                            float* c) override {
    return Multiply(shape, false, a, b, c);
  }

 private:
  struct Product {
    dnnl::matmul primitive;
    dnnl::memory a;
    dnnl::memory b;
    dnnl::memory c;
    dnnl::memory scratchpad;
    size_t scratchpad_bytes;
    std::unordered_map<int, dnnl::memory> arguments;
  };

  const char* Multiply(const GemmShape& shape, bool integer, const void* a, const void* b,
                       void* c) try {
    const Key key = {shape.m, shape.n, shape.k, shape.lda, shape.ldb, shape.ldc, shape.b_transposed,
                     integer};
    auto found = products_.find(key);
    if (found == products_.end()) {
      if (products_.size() >= kMaxPrimitives) products_.clear();
      found = products_.emplace(key, Make(shape, integer)).first;
    }
    Product& product = found->second;
    product.a.set_data_handle(const_cast<void*>(a));
    product.b.set_data_handle(const_cast<void*>(b));
    product.c.set_data_handle(c);
    product.scratchpad.set_data_handle(Scratchpad(product.scratchpad_bytes));
    product.primitive.execute(stream_, product.arguments);
    return nullptr;
  } catch (const std::bad_alloc&) {
    return kNoMemory;
  } catch (const dnnl::error& error) {
    return error.status == dnnl_out_of_memory ? kNoMemory : kFailed;
  } catch (const std::exception&) {
    return kFailed;
  }

  // The scratchpad is ours: the library's own is counted per thread, and primitives made by a
  // worker are destroyed by another thread.
  Product Make(const GemmShape& shape, bool integer) {
    using dnnl::memory;
    const memory::data_type in = integer ? memory::data_type::s8 : memory::data_type::f32;
    const memory::data_type out = integer ? memory::data_type::s32 : memory::data_type::f32;
    const memory::dims b_strides =
        shape.b_transposed ? memory::dims{1, shape.ldb} : memory::dims{shape.ldb, 1};
    const memory::desc a({shape.m, shape.k}, in, memory::dims{shape.lda, 1});
    const memory::desc b({shape.k, shape.n}, in, b_strides);
    const memory::desc c({shape.m, shape.n}, out, memory::dims{shape.ldc, 1});
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::matmul::primitive_desc description({a, b, c}, attributes, engine_);
    const memory::desc scratchpad = description.scratchpad_desc();
    Product product{dnnl::matmul(description),
                    memory(a, engine_, nullptr),
                    memory(b, engine_, nullptr),
                    memory(c, engine_, nullptr),
                    memory(scratchpad, engine_, nullptr),
                    scratchpad.get_size(),
                    {}};
    product.arguments = {{DNNL_ARG_SRC, product.a},
                         {DNNL_ARG_WEIGHTS, product.b},
                         {DNNL_ARG_DST, product.c},
                         {DNNL_ARG_SCRATCHPAD, product.scratchpad}};
    return product;
  }

  void* Scratchpad(size_t bytes) {
    if (bytes > scratchpad_bytes_) {
      scratchpad_.reset();
      scratchpad_bytes_ = 0;
      void* data = nullptr;
      if (::posix_memalign(&data, 4096, bytes) != 0) throw std::bad_alloc();
      scratchpad_.reset(data);
      scratchpad_bytes_ = bytes;
    }
    return scratchpad_.get();
  }

  dnnl::engine engine_;
  dnnl::stream stream_;
  std::map<Key, Product> products_;
  std::unique_ptr<void, FreeMemory> scratchpad_;
  size_t scratchpad_bytes_ = 0;
};

}  // namespace

void PrepareOneDnnThread() {
  omp_set_num_threads(1);
}

// What oneDNN will use, which its environment variables may limit, not what the processor has. The
// values are sets of bits, each instruction set holding those it builds on.
bool OneDnnIntegerIsExact() {
  constexpr int kNeeded = dnnl_cpu_isa_avx512_core_vnni;
  return (static_cast<int>(dnnl_get_effective_cpu_isa()) & kNeeded) == kNeeded;
}

OneDnn::~OneDnn() = default;

OneDnn* OneDnn::Create() try { return new OneDnnImpl(); } catch (const dnnl::error&) {
  return nullptr;
}

}  // namespace qft
