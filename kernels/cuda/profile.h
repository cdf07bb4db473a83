// The CUDA engine's part of a plan without a device: what the engine on such a device would say.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/ops.h"

namespace qft::cuda {

struct DeviceProfile {
  const char* name;        // "h100-80gb"
  const char* device;      // as the driver calls it
  int compute_capability;  // 10 * major + minor
  int multiprocessors;
  int64_t total_bytes;    // as the driver reports them
  int64_t context_bytes;  // in use once an engine exists
  bool measured;          // total_bytes and context_bytes, on such a device
  int integer_tops;       // INT8, dense, from the makers' data sheets, and
  int memory_gbs;         // GB a second
};

// All of them, `count` [out].
const DeviceProfile* DeviceProfiles(int* count);
// nullptr: there is none of that name.
const DeviceProfile* FindDeviceProfile(const std::string& name);
// nullptr: there is none for what the driver calls so.
const DeviceProfile* FindProfileOfDevice(const std::string& device);
Speeds SpeedsOf(const DeviceProfile& profile);
// What is planned for where nobody says which device.
const DeviceProfile& DefaultDeviceProfile();

class ProfiledEngine final : public EngineProfile {
 public:
  explicit ProfiledEngine(const DeviceProfile& profile);

  const char* Name() const override { return "cuda"; }
  const char* Description() const override { return description_.c_str(); }
  int64_t AvailableMemory() const override;
  int64_t OccupiedMemory() const override;
  int64_t ReservedMemory() const override;
  size_t ScratchBytes(const ScratchShape& shape) const override;
  size_t AttentionBackwardScratch(const AttentionShape& shape) const override;
  size_t PreparedInputBytes(int64_t rows, int64_t cols, int32_t critical_count) const override;
  DType ActivationType() const override;
  Speeds BestSpeeds() const override;
  int64_t TokenMultiple() const override;

 private:
  DeviceProfile profile_;
  std::string description_;
};

}  // namespace qft::cuda
