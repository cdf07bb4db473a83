// What people type for a model: a path, or a name in the local cache of Hugging Face.
#pragma once

#include <string>

namespace qft::cli {

// `name` itself if there is such a path; for "org/name" the folder of its snapshot that refs/main
// names in the cache ($HF_HUB_CACHE, $HF_HOME/hub, or ~/.cache/huggingface/hub). Anything else that
// does not exist is given back as it is, to be refused where it is opened. A name that is not
// cached is a Failure that tells which are. Never goes to the network.
std::string FindModel(const std::string& name);

}  // namespace qft::cli
