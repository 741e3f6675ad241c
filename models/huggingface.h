#pragma once

#include <filesystem>
#include <string_view>

#include "models/bert.h"
#include "models/hubert.h"
#include "src/core/result.h"
#include "src/text/wordpiece.h"

// The small files beside the weights of HuBERT and BERT, in the form they are published in. All errors are
// Errc::bad_file and name file, key, got and wanted.

namespace tts {

/// config.json of a BERT. Sizes are required; an activation other than exact GELU, or positions other than absolute
/// ones, are refused.
[[nodiscard]] Result<BertConfig> parse_bert_config(std::string_view json);
/// config.json of a HuBERT. Sizes are required; the variants this build does not compute (norms before the blocks,
/// layer norm or biases in the convolutions, ..) are refused.
[[nodiscard]] Result<HubertConfig> parse_hubert_config(std::string_view json);
/// tokenizer.json: WordPiece with BERT's normaliser.
[[nodiscard]] Result<WordPiece> parse_tokenizer(std::string_view json);

[[nodiscard]] Result<BertConfig> read_bert_config(const std::filesystem::path& file);
[[nodiscard]] Result<HubertConfig> read_hubert_config(const std::filesystem::path& file);
/// The tokeniser of a model's folder: tokenizer.json, or vocab.txt where there is none.
[[nodiscard]] Result<WordPiece> load_tokenizer(const std::filesystem::path& folder);

}  // namespace tts
