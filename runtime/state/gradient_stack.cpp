#include "runtime/state/gradient_stack.h"

#include <cassert>

namespace qft {
namespace {

constexpr int64_t kAlignment = 64;

int64_t Align(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

int64_t DataBytes(const TensorSpec& spec, bool codes) {
  return Align(spec.elements() * static_cast<int64_t>(codes ? 1 : sizeof(float)));
}

int64_t FloatBytes(int64_t count) {
  return Align(count * static_cast<int64_t>(sizeof(float)));
}

int64_t SumBytes(int64_t rows) {
  return Align(rows * static_cast<int64_t>(sizeof(double)));
}

}  // namespace

int64_t GradientStack::EntryBytes(const TensorSpec& spec, const StateFormat& format) {
  const bool codes = spec.quantised && format.int8;
  if (!codes) return DataBytes(spec, codes);
  return DataBytes(spec, codes) + FloatBytes(spec.rows) +
         FloatBytes(spec.rows * format.critical_count) + SumBytes(spec.rows);
}

void GradientStack::Allocate(int64_t capacity_bytes, int capacity_entries, Arena& arena) {
  memory_ = arena.Allocate<char>(Purpose::kGradients, capacity_bytes);
  capacity_ = capacity_bytes;
  entries_.reserve(capacity_entries);
  offsets_.reserve(capacity_entries);
}

StackEntry& GradientStack::Push(int tensor, const TensorSpec& spec, const StateFormat& format) {
  const bool codes = spec.quantised && format.int8;
  StackEntry entry;
  entry.tensor = tensor;
  Gradient& gradient = entry.gradient;
  gradient.dtype = codes ? DType::kI8 : DType::kF32;
  gradient.rows = spec.rows;
  gradient.cols = spec.cols;
  gradient.data = memory_ + top_;
  if (codes) {
    char* grid = memory_ + top_ + DataBytes(spec, codes);
    char* critical = grid + FloatBytes(spec.rows);
    char* sums = critical + FloatBytes(spec.rows * format.critical_count);
    gradient.grid = reinterpret_cast<float*>(grid);
    gradient.critical = {format.critical_columns, reinterpret_cast<float*>(critical),
                         format.critical_count};
    gradient.square_sums = reinterpret_cast<double*>(sums);
  }
  offsets_.push_back(top_);
  top_ += EntryBytes(spec, format);
  assert(top_ <= capacity_);
  entries_.push_back(entry);
  return entries_.back();
}

StackEntry GradientStack::Pop() {
  const StackEntry entry = entries_.back();
  entries_.pop_back();
  top_ = offsets_.back();
  offsets_.pop_back();
  return entry;
}

StackEntry* GradientStack::Find(int tensor) {
  for (StackEntry& entry : entries_) {
    if (entry.tensor == tensor) return &entry;
  }
  return nullptr;
}

void GradientStack::Clear() {
  entries_.clear();
  offsets_.clear();
  top_ = 0;
}

Gradient GradientRows(const Gradient& gradient, int64_t row_begin, int64_t row_count) {
  Gradient rows = gradient;
  const int64_t element = gradient.dtype == DType::kI8 ? 1 : sizeof(float);
  rows.data = static_cast<char*>(gradient.data) + row_begin * gradient.cols * element;
  if (gradient.grid != nullptr) rows.grid = gradient.grid + row_begin;
  rows.critical.values = gradient.critical.values + row_begin * gradient.critical.count;
  if (gradient.square_sums != nullptr) rows.square_sums = gradient.square_sums + row_begin;
  rows.rows = row_count;
  return rows;
}

}  // namespace qft
