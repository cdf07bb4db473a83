#include "runtime/data/protobuf.h"

#include <bit>

namespace qft {
namespace {

using Wire = ProtobufField::Wire;

constexpr int kMaxVarintBytes = 10;
constexpr uint64_t kMaxFieldNumber = (uint64_t{1} << 29) - 1;

uint64_t LittleEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = bytes.size(); i > 0; --i) {
    value = value << 8 | static_cast<uint8_t>(bytes[i - 1]);
  }
  return value;
}

Status CheckWire(const char* what, Wire wire, Wire expected) {
  if (wire == expected) return absl::OkStatus();
  return BadData(what, " is of another type");
}

void AppendVarint(uint64_t value, std::string* message) {
  for (; value >= 0x80; value >>= 7) message->push_back(static_cast<char>(value | 0x80));
  message->push_back(static_cast<char>(value));
}

void AppendTag(uint32_t number, Wire wire, std::string* message) {
  AppendVarint(uint64_t{number} << 3 | static_cast<uint64_t>(wire), message);
}

}  // namespace

Status ProtobufField::Read(const char* what, std::string_view* result) const {
  QFT_RETURN_IF_ERROR(CheckWire(what, wire, Wire::kBytes));
  *result = bytes;
  return absl::OkStatus();
}

Status ProtobufField::Read(const char* what, std::string* result) const {
  QFT_RETURN_IF_ERROR(CheckWire(what, wire, Wire::kBytes));
  *result = bytes;
  return absl::OkStatus();
}

Status ProtobufField::Read(const char* what, bool* result) const {
  QFT_RETURN_IF_ERROR(CheckWire(what, wire, Wire::kVarint));
  *result = value != 0;
  return absl::OkStatus();
}

Status ProtobufField::Read(const char* what, int64_t* result) const {
  QFT_RETURN_IF_ERROR(CheckWire(what, wire, Wire::kVarint));
  *result = static_cast<int64_t>(value);
  return absl::OkStatus();
}

Status ProtobufField::Read(const char* what, float* result) const {
  QFT_RETURN_IF_ERROR(CheckWire(what, wire, Wire::kFixed32));
  *result = std::bit_cast<float>(static_cast<uint32_t>(value));
  return absl::OkStatus();
}

StatusOr<uint64_t> ProtobufReader::Varint() {
  uint64_t value = 0;
  for (int i = 0; i < kMaxVarintBytes && static_cast<size_t>(i) < rest_.size(); ++i) {
    const auto byte = static_cast<uint8_t>(rest_[static_cast<size_t>(i)]);
    value |= uint64_t{byte & 0x7Fu} << (7 * i);
    if (byte < 0x80) {
      rest_.remove_prefix(static_cast<size_t>(i) + 1);
      return value;
    }
  }
  return BadData("a number of the protobuf message has no end");
}

StatusOr<std::string_view> ProtobufReader::Take(uint64_t size) {
  if (size > rest_.size()) {
    return BadData("the protobuf message is cut off: a field of ", size, " bytes, ", rest_.size(),
                   " are left");
  }
  const std::string_view bytes = rest_.substr(0, size);
  rest_.remove_prefix(size);
  return bytes;
}

StatusOr<ProtobufField> ProtobufReader::Next() {
  QFT_ASSIGN_OR_RETURN(const uint64_t tag, Varint());
  const uint64_t number = tag >> 3;
  if (number == 0 || number > kMaxFieldNumber) {
    return BadData("not a protobuf message: field number ", number);
  }
  ProtobufField field;
  field.number = static_cast<uint32_t>(number);
  field.wire = static_cast<Wire>(tag & 7);
  switch (field.wire) {
    case Wire::kVarint: {
      QFT_ASSIGN_OR_RETURN(field.value, Varint());
      return field;
    }
    case Wire::kBytes: {
      QFT_ASSIGN_OR_RETURN(const uint64_t size, Varint());
      QFT_ASSIGN_OR_RETURN(field.bytes, Take(size));
      return field;
    }
    case Wire::kFixed64:
    case Wire::kFixed32: {
      QFT_ASSIGN_OR_RETURN(const std::string_view bytes,
                           Take(field.wire == Wire::kFixed64 ? 8 : 4));
      field.value = LittleEndian(bytes);
      return field;
    }
  }
  return BadData("not a protobuf message: wire type ", tag & 7);
}

void AppendVarintField(uint32_t number, uint64_t value, std::string* message) {
  AppendTag(number, Wire::kVarint, message);
  AppendVarint(value, message);
}

void AppendBytesField(uint32_t number, std::string_view bytes, std::string* message) {
  AppendTag(number, Wire::kBytes, message);
  AppendVarint(bytes.size(), message);
  message->append(bytes);
}

void AppendFloatField(uint32_t number, float value, std::string* message) {
  AppendTag(number, Wire::kFixed32, message);
  const auto bits = std::bit_cast<uint32_t>(value);
  for (int shift = 0; shift < 32; shift += 8) message->push_back(static_cast<char>(bits >> shift));
}

}  // namespace qft
