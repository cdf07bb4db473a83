// Reading and setting single tensors of a session, to and from dense fp32 or codes in host memory.
#pragma once

#include "runtime/session.h"

namespace qft {

enum class TensorPart { kWeight, kGrid, kMomentum, kGradient };

// out [rows * cols] (kGrid: [rows]). Errors: STATE (no such part now), UNSUPPORTED.
Status ReadTensor(Session& session, int tensor, TensorPart part, float* out);
// The codes of an INT8 weight. Errors: UNSUPPORTED (fp32 weight).
Status ReadTensorCodes(Session& session, int tensor, int8_t* out);
// values [rows * cols], finite. kWeight: quantised as at open; kMomentum: to nearest, a grid per
// block.
Status WriteTensor(Session& session, int tensor, TensorPart part, const float* values);

}  // namespace qft
