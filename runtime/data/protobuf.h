// The wire format of protocol buffers, read field by field and written the same way.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace qft {

struct ProtobufField {
  enum class Wire { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
  uint32_t number = 0;
  Wire wire = Wire::kVarint;
  uint64_t value = 0;      // of a number
  std::string_view bytes;  // of kBytes

  // kBadData unless the field is of that kind. `what` names it in errors.
  Status Read(const char* what, std::string_view* result) const;
  Status Read(const char* what, std::string* result) const;
  Status Read(const char* what, bool* result) const;
  Status Read(const char* what, int64_t* result) const;
  Status Read(const char* what, float* result) const;
};

// The fields of one message, which must outlive it.
class ProtobufReader {
 public:
  explicit ProtobufReader(std::string_view message) : rest_(message) {}

  bool done() const { return rest_.empty(); }
  // The next field. kBadData when the message is cut off or is none.
  StatusOr<ProtobufField> Next();

 private:
  StatusOr<uint64_t> Varint();
  StatusOr<std::string_view> Take(uint64_t size);

  std::string_view rest_;
};

void AppendVarintField(uint32_t number, uint64_t value, std::string* message);
void AppendBytesField(uint32_t number, std::string_view bytes, std::string* message);
void AppendFloatField(uint32_t number, float value, std::string* message);

}  // namespace qft
