// What a plan asks of a device that isn't there is what the engine says on one that is.
#include "kernels/cuda/profile.h"

#include <gtest/gtest.h>

#include <string>

#include "runtime/cuda_module.h"

namespace qft {
namespace {

// The profile of the device, or of another where it has none.
cuda::DeviceProfile ProfileOf(const Engine& engine, bool* own) {
  int count = 0;
  const cuda::DeviceProfile* profiles = cuda::DeviceProfiles(&count);
  for (int i = 0; i < count; ++i) {
    const std::string name = std::string(profiles[i].device) + ", sm_" +
                             std::to_string(profiles[i].compute_capability) + ",";
    *own = std::string(engine.Description()).rfind(name, 0) == 0;
    if (*own) return profiles[i];
  }
  return cuda::DefaultDeviceProfile();
}

TEST(ProfileTest, NamesAreFound) {
  int count = 0;
  const cuda::DeviceProfile* profiles = cuda::DeviceProfiles(&count);
  for (int i = 0; i < count; ++i) {
    EXPECT_EQ(cuda::FindDeviceProfile(profiles[i].name), &profiles[i]);
    EXPECT_LT(profiles[i].context_bytes, profiles[i].total_bytes);
  }
  EXPECT_EQ(cuda::FindDeviceProfile("h100"), nullptr);
}

TEST(ProfileTest, TheEngineSaysWhatItsProfileSays) {
  StatusOr<std::unique_ptr<Engine>> made = MakeCudaEngine(0);
  if (!made.ok()) GTEST_SKIP() << made.status().message();
  const Engine& engine = **made;
  bool own = false;
  const cuda::DeviceProfile profile = ProfileOf(engine, &own);
  const cuda::ProfiledEngine planned(profile);
  EXPECT_EQ(planned.ActivationType(), engine.ActivationType());
  EXPECT_EQ(planned.TokenMultiple(), engine.TokenMultiple());
  EXPECT_EQ(planned.ReservedMemory(), engine.ReservedMemory());
  for (const int64_t tokens : {16, 2048, 8192}) {
    const AttentionShape attention{tokens, 32, 8, 128, 1.0f};
    EXPECT_EQ(planned.AttentionBackwardScratch(attention),
              engine.AttentionBackwardScratch(attention));
    for (const int32_t critical : {0, 16, 33}) {
      EXPECT_EQ(planned.PreparedInputBytes(tokens, 4096, critical),
                engine.PreparedInputBytes(tokens, 4096, critical));
    }
    // Rows of 28672 don't fit shared memory: their scratch goes by the multiprocessors.
    for (const int64_t widest : {4096, 28672}) {
      if (widest > 4096 && !own) continue;
      const ScratchShape scratch{tokens, 8192 * widest, widest, true};
      EXPECT_EQ(planned.ScratchBytes(scratch), engine.ScratchBytes(scratch));
    }
  }
  if (!own) return;
  const auto total = static_cast<double>(engine.Report().total_bytes);
  EXPECT_NEAR(static_cast<double>(profile.total_bytes), total, 0.01 * total);
}

}  // namespace
}  // namespace qft
