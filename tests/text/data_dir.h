#pragma once

#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "src/text/en_g2p.h"
#include "src/text/phonemes.h"
#include "tests/doctest.h"

namespace tts::test {

inline const char* const kData = "src/text/data";  // ctest runs in the source root

inline const EnglishG2p& english() {
  static const EnglishG2p instance = EnglishG2p::open(kData).value();
  return instance;
}

/// "HH AH0 L OW1"
inline std::string symbols(const std::vector<std::int32_t>& ids) {
  std::string text;
  for (const std::int32_t id : ids) {
    if (!text.empty()) text += ' ';
    text += phoneme_symbol(id);
  }
  return text;
}

/// Rows of a file of two columns; "#" begins a comment. An unreadable file fails the test.
inline std::vector<std::pair<std::string, std::string>> rows(const std::string& file) {
  std::ifstream in(file);
  REQUIRE_MESSAGE(in.good(), file);
  std::vector<std::pair<std::string, std::string>> result;
  for (std::string line; std::getline(in, line);) {
    const std::size_t tab = line.find('\t');
    if (tab == std::string::npos || line.starts_with("# ")) continue;
    result.emplace_back(line.substr(0, tab), line.substr(tab + 1));
  }
  return result;
}

}  // namespace tts::test
