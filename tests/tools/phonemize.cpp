// phonemize [DATA_DIR] [--lang L] [--reference] [--languages A,B] [--polyphones]
//           [--separator SYMBOL] [--cut cut0..cut5] < lines > table
//
// For each line of text: the text as it is spoken, a tab, its phoneme symbols separated by spaces, by default with SP
// between English words. The training and evaluation scripts use it so that they see what the engine will. With --cut,
// instead, the pieces that the line is cut into, separated by tabs.

#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "src/text/cut.h"
#include "src/text/frontend.h"
#include "src/text/phonemes.h"
#include "src/text/polyphones.h"

namespace {

struct NoOpinion : tts::PolyphoneModel {
  [[nodiscard]] std::vector<std::string> readings(std::u32string_view) const override { return {}; }
};

}  // namespace

int main(int argc, char** argv) try {
  std::ios::sync_with_stdio(false);
  std::string data_dir = "src/text/data";
  std::string cut;
  std::shared_ptr<const tts::PolyphoneModel> polyphones;
  tts::FrontendOptions options;
  options.word_separator = "SP";
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--reference") {
      options.reference = true;
    } else if (name == "--polyphones") {
      polyphones = std::make_shared<const NoOpinion>();
    } else if (!name.starts_with("--")) {
      data_dir = name;
    } else if (i + 1 == argc) {
      throw std::runtime_error("no value or unknown: " + name);
    } else if (name == "--lang") {
      options.lang = argv[++i];
    } else if (name == "--languages") {
      std::istringstream list(argv[++i]);
      for (std::string code; std::getline(list, code, ',');) options.languages.push_back(code);
    } else if (name == "--separator") {
      options.word_separator = argv[++i];
    } else if (name == "--cut") {
      cut = argv[++i];
    } else {
      throw std::runtime_error("unknown option " + name);
    }
  }
  const tts::TextFrontend frontend(data_dir, polyphones);
  for (std::string line; std::getline(std::cin, line);) {
    if (!cut.empty()) {
      bool first = true;
      for (const std::string& piece : tts::cut_text(line, options.lang, tts::parse_cut_method(cut).value())) {
        std::cout << (first ? "" : "\t") << piece;
        first = false;
      }
      std::cout << '\n';
      continue;
    }
    const tts::Phonemized spoken = frontend.phonemize(line, options);
    std::cout << spoken.normalized << '\t';
    for (std::size_t i = 0; i < spoken.phonemes.size(); ++i) {
      if (i > 0) std::cout << ' ';
      std::cout << tts::phoneme_symbol(spoken.phonemes[i]);
    }
    std::cout << '\n';
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
