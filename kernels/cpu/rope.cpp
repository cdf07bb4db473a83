#include "kernels/cpu/engine.h"
#include "kernels/cpu/layer_util.h"
#include "kernels/cpu/row_tasks.h"

namespace qft::QFT_ISA {
namespace {

constexpr int kDoubleLanes = 8;
typedef double Double8 __attribute__((vector_size(64)));
typedef int64_t Long8 __attribute__((vector_size(64)));
typedef float Float8 __attribute__((vector_size(32)));

QFT_INLINE Double8 Splat(double x) {
  return Double8{x, x, x, x, x, x, x, x};
}

// sin and cos in a fixed sequence of fp64 operations (libm's differ between processors): reduction
// by pi/2 = 33 bits + rest, exact enough for |angle| < 2^20, then the polynomials of fdlibm.
QFT_INLINE void SinCos(Double8 angle, Double8* sine, Double8* cosine) {
  const Double8 magic = Splat(6755399441055744.0);  // 1.5 * 2^52
  const Double8 shifted = angle * 0.63661977236758134308 + magic;
  const Double8 n = shifted - magic;
  const Double8 r = (angle - n * 1.57079632673412561417) - n * 6.07710050650619224932e-11;
  const Double8 z = r * r;
  Double8 s = z * 1.58969099521155010221e-10 - 2.50507602534068634195e-08;
  s = s * z + 2.75573137070700676789e-06;
  s = s * z - 1.98412698298579493134e-04;
  s = s * z + 8.33333333332248946124e-03;
  s = s * z - 1.66666666666666324348e-01;
  s = r + r * z * s;
  Double8 c = z * -1.13596475577881948265e-11 + 2.08757232129817482790e-09;
  c = c * z - 2.75573143513906633035e-07;
  c = c * z + 2.48015872894767294178e-05;
  c = c * z - 1.38888888888741095749e-03;
  c = c * z + 4.16666666666666019037e-02;
  c = (1.0 - 0.5 * z) + z * z * c;
  const Long8 quadrant = (Long8)shifted & 3;
  const Long8 odd = (quadrant & 1) != 0;
  const Long8 sine_bits = (odd & (Long8)c) | (~odd & (Long8)s);
  const Long8 cosine_bits = (odd & (Long8)s) | (~odd & (Long8)c);
  *sine = (Double8)(sine_bits ^ ((quadrant & 2) << 62));
  *cosine = (Double8)(cosine_bits ^ (((quadrant + 1) & 2) << 62));
}

// cosines[i], sines[i] of position * frequency[i]; the angle is rounded to fp32 first, as the
// models' reference implementations do.
void FillAngles(float position, const float* frequency, int64_t count, bool inverse, float* cosines,
                float* sines) {
  const double sign = inverse ? -1.0 : 1.0;
  for (int64_t i = 0; i < count; i += kDoubleLanes) {
    const size_t bytes = static_cast<size_t>(Smaller(kDoubleLanes, count - i)) * sizeof(float);
    Float8 f = {};
    std::memcpy(&f, frequency + i, bytes);
    Double8 sine, cosine;
    SinCos(__builtin_convertvector(f * position, Double8), &sine, &cosine);
    const Float8 s = __builtin_convertvector(sine * sign, Float8);
    const Float8 c = __builtin_convertvector(cosine, Float8);
    std::memcpy(sines + i, &s, bytes);
    std::memcpy(cosines + i, &c, bytes);
  }
}

void RotateHead(const float* cosines, const float* sines, int64_t half, float* x) {
  for (int64_t i = 0; i < half; ++i) {
    const float low = x[i], high = x[i + half];
    x[i] = low * cosines[i] - high * sines[i];
    x[i + half] = high * cosines[i] + low * sines[i];
  }
}

}  // namespace

void CpuEngine::Rope(const Matrix& x, const int32_t* positions, const float* inverse_frequency,
                     int32_t heads, int32_t head_dim, bool inverse) {
  const int64_t half = head_dim / 2;
  const RowTasks tasks(x.rows, x.cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int worker) {
    float* const cosines = reinterpret_cast<float*>(
        WorkerScratch(worker, static_cast<size_t>(2 * half) * sizeof(float)));
    if (cosines == nullptr) return;
    for (int64_t t = tasks.Begin(task); t < tasks.End(task); ++t) {
      FillAngles(static_cast<float>(positions[t]), inverse_frequency, half, inverse, cosines,
                 cosines + half);
      float* row = static_cast<float*>(x.data) + t * x.cols;
      for (int64_t h = 0; h < heads; ++h) {
        RotateHead(cosines, cosines + half, half, row + h * head_dim);
      }
    }
  });
}

}  // namespace qft::QFT_ISA
