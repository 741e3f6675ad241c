// phonemize DATA_DIR < lines > table
//
// For each line of text: the text as it is spoken, a tab, its phoneme symbols separated by spaces, with SP between
// words. The training and evaluation scripts use it so that they see what the engine will.

#include <iostream>
#include <string>

#include "src/text/frontend.h"
#include "src/text/phonemes.h"

int main(int argc, char** argv) {
  if (argc > 2) {
    std::cerr << "usage: phonemize [DATA_DIR, default src/text/data] < lines > table\n";
    return 2;
  }
  std::ios::sync_with_stdio(false);
  try {
    const tts::TextFrontend frontend(argc == 2 ? argv[1] : "src/text/data");
    tts::FrontendOptions options;
    options.word_separator = "SP";
    for (std::string line; std::getline(std::cin, line);) {
      const tts::Phonemized spoken = frontend.phonemize(line, options);
      std::cout << spoken.normalized << '\t';
      for (std::size_t i = 0; i < spoken.phonemes.size(); ++i) {
        if (i > 0) std::cout << ' ';
        std::cout << tts::phoneme_symbol(spoken.phonemes[i]);
      }
      std::cout << '\n';
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
