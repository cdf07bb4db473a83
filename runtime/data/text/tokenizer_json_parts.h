// The parts of a tokenizer.json around its model. Errors: kBadData; kUnsupported, naming the part.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "base/status.h"
#include "runtime/data/text/tokenizer_spec.h"

namespace qft {

// One of "added_tokens", or of "added_tokens_decoder".
StatusOr<AddedToken> ReadAddedToken(const nlohmann::json& value, int32_t id);
Status ReadNormalizer(const nlohmann::json& value, std::vector<NormalizerStep>* steps);
// Fills either *metaspace or *steps, which then end with the only ByteLevel.
Status ReadPreTokenizer(const nlohmann::json& value, std::vector<PreTokenizerStep>* steps,
                        std::optional<Metaspace>* metaspace);
StatusOr<DecoderOptions> ReadDecoder(const nlohmann::json& value);
// Ids are not checked against the vocabulary.
Status ReadPostProcessor(const nlohmann::json& value, TextFrame* frame);

}  // namespace qft
