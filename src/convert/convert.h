#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/convert/forms.h"
#include "src/core/result.h"

namespace tts {

/// What a checkpoint holds.
enum class NetworkKind { t2s, acoustic, lora, bigvgan, hifigan, hubert, bert, speaker_net };

/// "text-to-semantic model", ..
[[nodiscard]] const char* to_string(NetworkKind kind) noexcept;

/// Sizes that differ from the published ones, for small networks in tests.
struct SizeOverrides {
  std::optional<VoiceSizes> voice;
  std::optional<HubertSizes> hubert;
  std::optional<BertSizes> bert;
  std::optional<SpeakerNetSizes> speaker_net;
};

struct ConvertRequest {
  /// Upstream's files in any order; what each holds is seen from its tensors. Either one network that prepares
  /// references or texts (HuBERT, BERT, ERes2NetV2) or a vocoder alone, or a voice: the T2S, the acoustic checkpoint or
  /// a LoRA, and optionally the LoRA's base and the vocoder.
  std::vector<std::filesystem::path> files;
  std::filesystem::path out;  ///< a single network: FILE.safetensors; a voice: its folder
  std::optional<Form> form;   ///< instead of what the files say; refused when their tensors contradict it
  std::string id;             ///< of the voice; empty: the folder's name
  std::string name;           ///< empty: the id
  std::string license;        ///< may be empty
  /// Folder of the official files as `sonorant models fetch` leaves them, where a LoRA's base and the vocoders are
  /// looked for when they are not among `files`. May be empty.
  std::filesystem::path models_dir;
  bool replace = false;  ///< an `out` that exists
  SizeOverrides sizes;
};

struct ConvertedFile {
  std::filesystem::path path;
  std::uint64_t bytes = 0;
  std::string sha256;
};

struct ConvertReport {
  std::optional<Form> form;  ///< of a voice
  std::vector<ConvertedFile> files;
  std::vector<std::string> notes;  ///< what was assumed or left out, a sentence each
};

/// Hears what is done and how much of it; total 0: not known.
using ConvertProgress = std::function<void(std::string_view what, std::uint64_t done, std::uint64_t total)>;

/// Converts upstream's checkpoints to what models/README.md documents. Everything is checked before anything is
/// written: nothing of the files is executed, and tensors must be there, have their shapes and be finite. The result
/// appears at once by a rename: after an error, a crash or a full disk there is no half folder under its name.
/// Errc::bad_file (and unsupported_format for what the request asks) with one sentence naming file, tensor, got and
/// wanted.
[[nodiscard]] Result<ConvertReport> convert(const ConvertRequest& request, const ConvertProgress& progress = {});

}  // namespace tts
