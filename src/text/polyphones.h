#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tts {

/// Chooses among the readings of Chinese characters by their sentence, as a G2PW network does. Without one, phrases
/// choose. Const and thread-safe.
class PolyphoneModel {
 public:
  virtual ~PolyphoneModel() = default;
  /// `sentence` holds simplified characters and at its end perhaps a mark. Per character its pinyin with tone,
  /// "zhong4", 5 for neutral, "lv4" for lü; empty, or a shorter vector, where it leaves the choice to the phrases.
  [[nodiscard]] virtual std::vector<std::string> readings(std::u32string_view sentence) const = 0;
};

}  // namespace tts
