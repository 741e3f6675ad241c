#include "models/t2s_options.h"

namespace tts {

const char* to_string(T2SPrecision precision) {
  switch (precision) {
    case T2SPrecision::automatic:
      return "auto";
    case T2SPrecision::fp32:
      return "fp32";
    case T2SPrecision::bf16:
      return "bf16";
    case T2SPrecision::int8:
      return "int8";
    case T2SPrecision::fp16:
      return "fp16";
  }
  return "";
}

std::optional<T2SPrecision> t2s_precision_of(std::string_view name) {
  for (const T2SPrecision p :
       {T2SPrecision::automatic, T2SPrecision::fp32, T2SPrecision::bf16, T2SPrecision::int8, T2SPrecision::fp16}) {
    if (name == to_string(p)) return p;
  }
  return std::nullopt;
}

}  // namespace tts
