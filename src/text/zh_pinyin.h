#pragma once

#include <string_view>
#include <vector>

#include "src/text/zh_data.h"

namespace tts {

/// A reading for each character by the phrases in the text, longest first from the left (pypinyin's way), else the
/// first reading of the character. Marks have none.
[[nodiscard]] std::vector<ZhReading> phrase_readings(const ZhData& data, std::u32string_view text);

}  // namespace tts
