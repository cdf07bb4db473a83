#include "tests/kernels/layer_test.h"

namespace qft {
namespace {

// A packed row of documents with everything attention reads.
struct Problem {
  AttentionShape shape;
  std::vector<int32_t> start;
  Floats q, k, v, dout;
};

Problem MakeProblem(const std::vector<int>& documents, int heads, int kv_heads, int dim,
                    uint32_t seed) {
  Problem p;
  for (int length : documents) {
    p.start.insert(p.start.end(), length, static_cast<int32_t>(p.start.size()));
  }
  const size_t tokens = p.start.size();
  p.shape = {static_cast<int64_t>(tokens), heads, kv_heads, dim,
             1.0f / std::sqrt(static_cast<float>(dim))};
  p.q = RandomFloats(tokens * heads * dim, seed, 1.5f);
  p.k = RandomFloats(tokens * kv_heads * dim, seed + 1, 1.5f);
  p.v = RandomFloats(tokens * kv_heads * dim, seed + 2);
  p.dout = RandomFloats(tokens * heads * dim, seed + 3);
  return p;
}

struct Reference {
  Doubles out, lse, dq, dk, dv;
};

double DotAt(const Doubles& a, size_t i, const Doubles& b, size_t j, int dim) {
  double sum = 0;
  for (int d = 0; d < dim; ++d) sum += a[i + d] * b[j + d];
  return sum;
}

// Probabilities of one query over keys start .. t.
Doubles Probabilities(const Problem& p, const Doubles& q, const Doubles& k, int64_t t, int head,
                      double* lse) {
  const int dim = p.shape.head_dim, kv_head = head / (p.shape.heads / p.shape.kv_heads);
  Doubles s;
  for (int64_t j = p.start[t]; j <= t; ++j) {
    s.push_back(p.shape.scale * DotAt(q, (t * p.shape.heads + head) * dim, k,
                                      (j * p.shape.kv_heads + kv_head) * dim, dim));
  }
  const double max = *std::max_element(s.begin(), s.end());
  double sum = 0;
  for (double x : s) sum += std::exp(x - max);
  *lse = max + std::log(sum);
  for (double& x : s) x = std::exp(x - *lse);
  return s;
}

Reference Solve(const Problem& p, const Doubles& q, const Doubles& k, const Doubles& v,
                const Doubles& dout) {
  const AttentionShape& shape = p.shape;
  const int dim = shape.head_dim;
  Reference r{Doubles(q.size()), Doubles(shape.heads * shape.tokens), Doubles(q.size()),
              Doubles(k.size()), Doubles(k.size())};
  for (int64_t t = 0; t < shape.tokens; ++t) {
    for (int h = 0; h < shape.heads; ++h) {
      const size_t row = (t * shape.heads + h) * dim;
      const Doubles prob = Probabilities(p, q, k, t, h, &r.lse[h * shape.tokens + t]);
      const auto kv_row = [&](size_t i) {
        return ((p.start[t] + i) * shape.kv_heads + h / (shape.heads / shape.kv_heads)) * dim;
      };
      for (size_t i = 0; i < prob.size(); ++i) {
        for (int d = 0; d < dim; ++d) r.out[row + d] += prob[i] * v[kv_row(i) + d];
      }
      const double delta = DotAt(dout, row, r.out, row, dim);
      for (size_t i = 0; i < prob.size(); ++i) {
        const size_t at = kv_row(i);
        const double ds = prob[i] * (DotAt(dout, row, v, at, dim) - delta) * shape.scale;
        for (int d = 0; d < dim; ++d) {
          r.dv[at + d] += prob[i] * dout[row + d];
          r.dk[at + d] += ds * q[row + d];
          r.dq[row + d] += ds * k[at + d];
        }
      }
    }
  }
  return r;
}

Reference Solve(const Problem& p) {
  return Solve(p, ToDoubles(p.q), ToDoubles(p.k), ToDoubles(p.v), ToDoubles(p.dout));
}

// out, log_sum_exp, dq, dk, dv
std::vector<Floats> RunAttention(Engine* engine, const Problem& p) {
  const int64_t tokens = p.shape.tokens;
  EngineArray<int32_t> start(engine, p.start);
  EngineArray<float> q(engine, p.q), k(engine, p.k), v(engine, p.v), dout(engine, p.dout);
  EngineArray<float> out(engine, p.q.size()), lse(engine, p.shape.heads * tokens);
  EngineArray<float> dq(engine, p.q.size()), dk(engine, p.k.size()), dv(engine, p.k.size());
  EngineArray<char> scratch(engine, engine->AttentionBackwardScratch(p.shape));
  engine->AttentionForward(p.shape, start.data(), q.AsMatrix(tokens), k.AsMatrix(tokens),
                           v.AsMatrix(tokens), out.AsMatrix(tokens), lse.data());
  engine->AttentionBackward(p.shape, start.data(), q.AsMatrix(tokens), k.AsMatrix(tokens),
                            v.AsMatrix(tokens), out.AsMatrix(tokens), lse.data(),
                            dout.AsMatrix(tokens), dq.AsMatrix(tokens), dk.AsMatrix(tokens),
                            dv.AsMatrix(tokens), scratch.data());
  return {out.Download(), lse.Download(), dq.Download(), dk.Download(), dv.Download()};
}

void ExpectMatchesReference(const Problem& p) {
  const std::vector<Floats> got =
      RunEverywhere([&](Engine* engine) { return RunAttention(engine, p); });
  const Reference expected = Solve(p);
  EXPECT_LT(RelativeError(got[0], expected.out), 2e-6);
  EXPECT_LT(RelativeError(got[1], expected.lse), 4e-6);  // a single score may cancel
  EXPECT_LT(RelativeError(got[2], expected.dq), 5e-6);
  EXPECT_LT(RelativeError(got[3], expected.dk), 5e-6);
  EXPECT_LT(RelativeError(got[4], expected.dv), 5e-6);
}

TEST(Attention, ReferenceGradientsMatchFiniteDifferences) {
  const Problem p = MakeProblem({5, 3}, 4, 2, 8, 1);
  const Doubles q = ToDoubles(p.q), k = ToDoubles(p.k), v = ToDoubles(p.v);
  const Doubles dout = ToDoubles(p.dout);
  const Reference r = Solve(p);
  const auto loss = [&](const Doubles& a, const Doubles& b, const Doubles& c) {
    return DotProduct(Solve(p, a, b, c, dout).out, dout);
  };
  const Doubles dq = NumericGradient([&](const Doubles& x) { return loss(x, k, v); }, q);
  const Doubles dk = NumericGradient([&](const Doubles& x) { return loss(q, x, v); }, k);
  const Doubles dv = NumericGradient([&](const Doubles& x) { return loss(q, k, x); }, v);
  EXPECT_LT(RelativeError(r.dq, dq), 1e-8);
  EXPECT_LT(RelativeError(r.dk, dk), 1e-8);
  EXPECT_LT(RelativeError(r.dv, dv), 1e-8);
}

TEST(Attention, OneToken) {
  ExpectMatchesReference(MakeProblem({1}, 1, 1, 8, 10));
}

TEST(Attention, OddDimAndTail) {
  ExpectMatchesReference(MakeProblem({67}, 3, 1, 40, 20));
}

// Rows that begin at no multiple of any vector, in tiles of every size.
TEST(Attention, EveryEvenHeadDim) {
  for (const int dim : {2, 4, 6, 10, 12, 20, 30, 36, 66, 98, 100, 126, 130, 194, 250, 252, 254}) {
    SCOPED_TRACE(dim);
    ExpectMatchesReference(MakeProblem({37, 1, 41}, 4, 2, dim, 25));
  }
}

TEST(Attention, GroupedHeadsSeveralTiles) {
  ExpectMatchesReference(MakeProblem({330}, 6, 2, 64, 30));
}

TEST(Attention, HeadDim128NoGroups) {
  ExpectMatchesReference(MakeProblem({257}, 2, 2, 128, 40));
}

TEST(Attention, LargestHeadDim) {
  ExpectMatchesReference(MakeProblem({70}, 2, 1, 256, 50));
}

TEST(Attention, PackedDocuments) {
  ExpectMatchesReference(MakeProblem({64, 1, 1, 70, 129, 7, 63}, 4, 2, 24, 60));
}

TEST(Attention, LargeScores) {
  Problem p = MakeProblem({150}, 2, 1, 16, 70);
  for (float& x : p.q) x *= 30.0f;
  // The scores themselves carry an error of 2^-24 of up to a few hundred.
  const std::vector<Floats> got =
      RunEverywhere([&](Engine* engine) { return RunAttention(engine, p); }, 2e-4f);
  const Reference expected = Solve(p);
  EXPECT_LT(RelativeError(got[0], expected.out), 2e-4);
  EXPECT_LT(RelativeError(got[4], expected.dv), 2e-4);
}

TEST(Attention, UnsupportedHeadDimIsReported) {
  for (const int dim : {1, 7, 258}) {
    const Problem p = MakeProblem({4}, 1, 1, dim, 75);
    for (const NamedEngine& named : LayerEngines()) {
      Engine* engine = named.engine.get();
      EngineArray<int32_t> start(engine, p.start);
      EngineArray<float> q(engine, p.q), out(engine, p.q.size()), lse(engine, size_t{4});
      engine->AttentionForward(p.shape, start.data(), q.AsMatrix(4), q.AsMatrix(4), q.AsMatrix(4),
                               out.AsMatrix(4), lse.data());
      EXPECT_NE(engine->Synchronize(), nullptr) << named.name << " " << dim;
    }
  }
}

// Rows [begin, end) of a [T, cols] result.
Floats Rows(const Floats& x, int64_t tokens, int64_t begin, int64_t end) {
  const int64_t cols = static_cast<int64_t>(x.size()) / tokens;
  return Floats(x.begin() + begin * cols, x.begin() + end * cols);
}

TEST(Attention, DocumentsDoNotSeeEachOther) {
  const Problem p = MakeProblem({50, 100, 90}, 4, 2, 32, 80);
  Problem other = p;
  const auto change = [&](Floats* x, size_t cols) {
    for (size_t t = 0; t < 240; ++t) {
      if (t >= 50 && t < 150) continue;
      for (size_t c = 0; c < cols; ++c) (*x)[t * cols + c] += 3.0f;
    }
  };
  change(&other.q, 128);
  change(&other.k, 64);
  change(&other.v, 64);
  change(&other.dout, 128);
  const std::vector<Floats> a =
      RunEverywhere([&](Engine* engine) { return RunAttention(engine, p); });
  const std::vector<Floats> b =
      RunEverywhere([&](Engine* engine) { return RunAttention(engine, other); });
  for (int i : {0, 2, 3, 4}) {
    EXPECT_TRUE(SameBits(Rows(a[i], 240, 50, 150), Rows(b[i], 240, 50, 150))) << i;
    EXPECT_FALSE(SameBits(Rows(a[i], 240, 0, 50), Rows(b[i], 240, 0, 50))) << i;
  }
}

// What lies beside a head's features is another head's.
TEST(Attention, HeadsDoNotSeeEachOther) {
  for (const int dim : {6, 32, 100}) {
    const Problem p = MakeProblem({70}, 2, 2, dim, 85);
    Problem other = p;
    for (Floats* x : {&other.q, &other.k, &other.v, &other.dout}) {
      for (size_t i = 0; i < x->size(); ++i) {
        if (i / dim % 2 == 1) (*x)[i] = std::nanf("");
      }
    }
    for (const NamedEngine& named : LayerEngines()) {
      const std::vector<Floats> a = RunAttention(named.engine.get(), p);
      const std::vector<Floats> b = RunAttention(named.engine.get(), other);
      for (const int output : {0, 2, 3, 4}) {
        for (size_t i = 0; i < a[output].size(); ++i) {
          if (i / dim % 2 == 1) continue;
          ASSERT_EQ(a[output][i], b[output][i]) << named.name << " " << output << " " << i;
        }
      }
    }
  }
}

TEST(Attention, TokensDoNotSeeTheFuture) {
  const Problem p = MakeProblem({150}, 2, 1, 32, 90);
  Problem other = p;
  for (size_t i = 100 * 32; i < other.k.size(); ++i) {
    other.k[i] += 2.0f;
    other.v[i] -= 2.0f;
  }
  const std::vector<Floats> a =
      RunEverywhere([&](Engine* engine) { return RunAttention(engine, p); });
  const std::vector<Floats> b =
      RunEverywhere([&](Engine* engine) { return RunAttention(engine, other); });
  EXPECT_TRUE(SameBits(Rows(a[0], 150, 0, 100), Rows(b[0], 150, 0, 100)));
  EXPECT_FALSE(SameBits(Rows(a[0], 150, 100, 101), Rows(b[0], 150, 100, 101)));
}

TEST(Attention, NanReachesEveryoneWhoSeesIt) {
  Problem p = MakeProblem({70, 80}, 2, 1, 16, 100);
  p.k[20 * 16 + 3] = std::nanf("");
  for (const NamedEngine& named : LayerEngines()) {
    const std::vector<Floats> got = RunAttention(named.engine.get(), p);
    for (size_t t = 0; t < 150; ++t) {
      for (size_t c = 0; c < 32; ++c) {
        EXPECT_EQ(std::isnan(got[0][t * 32 + c]), t >= 20 && t < 70) << named.name << " " << t;
      }
    }
    EXPECT_TRUE(std::isnan(got[4][0]));  // dv of a key that the poisoned queries see
    EXPECT_TRUE(std::isnan(got[2][20 * 32]));
    EXPECT_FALSE(std::isnan(got[2][70 * 32]));
  }
}

Floats Decode(Engine* engine, const AttentionShape& shape, int64_t past, const Floats& q,
              const Floats& k, const Floats& v, const std::vector<int32_t>& first_seen = {}) {
  const int64_t rows = static_cast<int64_t>(k.size()) / (shape.kv_heads * shape.head_dim);
  EngineArray<float> dq(engine, q), dk(engine, k), dv(engine, v), out(engine, q.size());
  EngineArray<int32_t> first(engine, first_seen);
  engine->AttentionDecode(shape, past, first_seen.empty() ? nullptr : first.data(),
                          dq.AsMatrix(shape.tokens), dk.AsMatrix(rows), dv.AsMatrix(rows),
                          out.AsMatrix(shape.tokens));
  return out.Download();
}

// A token of two documents sees at most `window` tokens: what document_start says, whatever it
// means.
TEST(Attention, SlidingWindows) {
  for (const int window : {1, 5, 64, 100}) {
    for (const int dim : {24, 64, 100}) {
      Problem p = MakeProblem({150, 43}, 2, 1, dim, 7);
      for (size_t t = 0; t < p.start.size(); ++t) {
        p.start[t] = std::max(p.start[t], static_cast<int32_t>(t) + 1 - window);
      }
      ExpectMatchesReference(p);
    }
  }
}

TEST(Attention, DecodeSeesNoFurtherThanItsWindow) {
  constexpr int kTokens = 150;
  constexpr int kWindow = 20;
  for (const int dim : {64, 100}) {
    Problem p = MakeProblem({kTokens}, 4, 2, dim, 111);
    for (int t = 0; t < kTokens; ++t) p.start[t] = std::max(0, t + 1 - kWindow);
    const Reference expected = Solve(p);
    for (const int count : {1, 3, 8, 70}) {
      AttentionShape shape = p.shape;
      shape.tokens = count;
      const int64_t past = kTokens - count;
      const Floats q(p.q.end() - count * 4 * dim, p.q.end());
      const std::vector<int32_t> first(p.start.end() - count, p.start.end());
      const Floats got = RunEverywhere([&](Engine* engine) {
        return std::vector<Floats>{Decode(engine, shape, past, q, p.k, p.v, first)};
      })[0];
      const Doubles last(expected.out.end() - count * 4 * dim, expected.out.end());
      EXPECT_LT(RelativeError(got, last), 2e-6) << dim << " " << count;
    }
  }
}

TEST(Attention, DecodeContinuesASequence) {
  constexpr int kTokens = 150;
  for (int dim : {2, 6, 24, 64, 100, 128, 250}) {
    const Problem p = MakeProblem({kTokens}, 4, 2, dim, 110);
    const Reference expected = Solve(p);
    // A cache longer than what is valid: the rest must not be read.
    Floats k = p.k, v = p.v;
    k.resize(k.size() + 10 * 2 * dim, std::nanf(""));
    v.resize(v.size() + 10 * 2 * dim, std::nanf(""));
    for (int count : {1, 3, 8, 70, kTokens}) {
      AttentionShape shape = p.shape;
      shape.tokens = count;
      const size_t begin = static_cast<size_t>(kTokens - count) * 4 * dim;
      const Floats q(p.q.begin() + begin, p.q.end());
      const std::vector<Floats> got = RunEverywhere([&](Engine* engine) {
        return std::vector<Floats>{Decode(engine, shape, kTokens - count, q, k, v)};
      });
      const Doubles want(expected.out.begin() + begin, expected.out.end());
      EXPECT_LT(RelativeError(got[0], want), 2e-6) << dim << " " << count;
    }
  }
}

}  // namespace
}  // namespace qft
