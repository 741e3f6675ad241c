#pragma once

#include <span>
#include <string_view>

#include "src/text/en_normalize.h"

namespace tts {

/// Pronunciation of a word with several ("read", "record", "close"), chosen from the words around it: ARPAbet separated
/// by spaces. Empty for all other words. `i` indexes a word of `tokens`; `low` is its text in lower case.
/// Looks at most four tokens to either side.
[[nodiscard]] std::string_view choose_homograph(std::span<const SpokenToken> tokens, std::size_t i,
                                                std::string_view low);

}  // namespace tts
