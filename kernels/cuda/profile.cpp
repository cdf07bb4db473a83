#include "kernels/cuda/profile.h"

#include "kernels/cuda/sizes.h"

namespace qft::cuda {
namespace {

// From a context on an H100 (driver 580, CUDA 13.0); with kDriverBytes the 0.887 GB of
// bench/results/gpu/h100_checks.txt. It grows with the number of multiprocessors,
// of which the others have fewer.
constexpr int64_t kContextBytes = int64_t{526} << 20;

// Thousandths of a GiB.
constexpr int64_t Total(int64_t milli) {
  return milli * (int64_t{1} << 30) / 1000;
}

constexpr DeviceProfile kProfiles[] = {
    {"h100-80gb", "NVIDIA H100 80GB HBM3", 90, 132, Total(79180), kContextBytes, true, 1979, 3350},
    {"a100-80gb", "NVIDIA A100-SXM4-80GB", 80, 108, Total(79150), kContextBytes, false, 624, 2039},
    {"a100-40gb", "NVIDIA A100-SXM4-40GB", 80, 108, Total(39390), kContextBytes, false, 624, 1555},
    {"a6000-48gb", "NVIDIA RTX A6000", 86, 84, Total(47530), kContextBytes, false, 310, 768},
    {"4090-24gb", "NVIDIA GeForce RTX 4090", 89, 128, Total(23640), kContextBytes, false, 661,
     1008},
    {"3090-24gb", "NVIDIA GeForce RTX 3090", 86, 82, Total(23680), kContextBytes, false, 284, 936},
    {"4080-16gb", "NVIDIA GeForce RTX 4080", 89, 76, Total(15700), kContextBytes, false, 390, 717},
    {"3060-12gb", "NVIDIA GeForce RTX 3060", 86, 28, Total(11750), kContextBytes, false, 102, 360},
};

}  // namespace

const DeviceProfile* DeviceProfiles(int* count) {
  *count = static_cast<int>(sizeof(kProfiles) / sizeof(kProfiles[0]));
  return kProfiles;
}

const DeviceProfile* FindDeviceProfile(const std::string& name) {
  for (const DeviceProfile& profile : kProfiles) {
    if (name == profile.name) return &profile;
  }
  return nullptr;
}

const DeviceProfile* FindProfileOfDevice(const std::string& device) {
  for (const DeviceProfile& profile : kProfiles) {
    if (device == profile.device) return &profile;
  }
  return nullptr;
}

// Of PCIe's sixteen lanes momentum took 55 GB/s each way on an H100, of the fifth generation
// (docs/offload.md); the fourth has half.
Speeds SpeedsOf(const DeviceProfile& profile) {
  const double host_gbs = profile.compute_capability >= 90 ? 50 : 25;
  return {profile.integer_tops * 1e12, profile.memory_gbs * 1e9, host_gbs * 1e9};
}

const DeviceProfile& DefaultDeviceProfile() {
  return kProfiles[0];
}

ProfiledEngine::ProfiledEngine(const DeviceProfile& profile)
    : profile_(profile),
      description_(std::string(profile.device) + ", sm_" +
                   std::to_string(profile.compute_capability) + ", " +
                   std::to_string(profile.multiprocessors) + " multiprocessors, not present") {}

int64_t ProfiledEngine::AvailableMemory() const {
  return profile_.total_bytes - OccupiedMemory() - ReservedMemory();
}

int64_t ProfiledEngine::OccupiedMemory() const {
  return profile_.context_bytes;
}

int64_t ProfiledEngine::ReservedMemory() const {
  return kDriverBytes;
}

size_t ProfiledEngine::ScratchBytes(const ScratchShape& shape) const {
  return cuda::ScratchBytes(shape, profile_.multiprocessors);
}

size_t ProfiledEngine::AttentionBackwardScratch(const AttentionShape& shape) const {
  return cuda::AttentionBackwardScratch(shape);
}

size_t ProfiledEngine::PreparedInputBytes(int64_t rows, int64_t cols,
                                          int32_t critical_count) const {
  return LayoutOfPrepared(rows, cols, critical_count).Bytes();
}

DType ProfiledEngine::ActivationType() const {
  return kActivationType;
}

Speeds ProfiledEngine::BestSpeeds() const {
  return SpeedsOf(profile_);
}

int64_t ProfiledEngine::TokenMultiple() const {
  return kTokenMultiple;
}

}  // namespace qft::cuda
