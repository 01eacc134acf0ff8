// JSON: one object a line in metrics.jsonl, one document in manifest.json. The only file that
// includes the library, which takes seconds to compile.
#pragma once

#include <nlohmann/json.hpp>

namespace ptb {

// Names keep the order in which they were added, because people read these files, too.
using Json = nlohmann::ordered_json;

}  // namespace ptb
