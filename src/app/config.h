#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/device_choice.h"
#include "models/fit_options.h"
#include "models/flow_schedule.h"
#include "models/precision_choice.h"
#include "models/t2s_options.h"
#include "src/app/cpu_environment.h"
#include "src/app/paths.h"
#include "src/core/result.h"
#include "src/engine/quality.h"

namespace tts {

/// Everything that can be set. Defaults here, then the TOML file, then the environment, then flags; const after
/// validate(). In the file each struct is a table and each field a key: server.port is `port` in `[server]`, and
/// SONORANT_SERVER_PORT in the environment (SONORANT_ + the key in capitals, dots as underscores).
struct Config {
  struct Server {
    std::string host = "127.0.0.1";           ///< the address to listen on; 0.0.0.0 for every interface
    int port = 8080;                          ///< 0: any free one, printed at start
    int threads = 1;                          ///< of input and output, 1 .. 64
    std::filesystem::path web_dir;            ///< static files
    std::chrono::milliseconds grace{10'000};  ///< after SIGTERM, for running utterances to end; 0 .. 10 min
    int max_sessions = 64;                    ///< sockets at once, 1 .. 100000
    int max_text_chars = 100'000;             ///< code points on one context, 1 .. 10000000
    /// Voices over HTTP: "auto" where `host` is this machine or there is a token, "off" nowhere.
    std::string voice_upload = "auto";
    std::string upload_token;  ///< wanted of who makes or removes voices; empty: none
    int max_upload_mb = 32;    ///< of one upload, 1 .. 256
  };
  struct Engine {
    std::filesystem::path voices_dir;
    std::filesystem::path text_data_dir;
    std::filesystem::path models_dir;  ///< of `sonorant models fetch`; empty: the usual place
    int fit_rounds = FitOptions{}.rounds;  ///< of fitting a starter-form voice to its recording, 0: none, .. 1000
    int memory_mb = 0;                 ///< of weights, 0: no limit, .. 1048576
    std::string preload = "all";       ///< before the first utterance: "all" there is room for, "none", an id
    int threads = 1;                   ///< of linear algebra, for each thread of the engine, 1 .. 64
    int audio_threads = 0;             ///< turn tokens into audio; 0: as many as there are processors, .. 64
    int render_batch = 0;              ///< chunks of audio of different streams made in one call; 0: what suits, .. 256
    std::string guard = "on";          ///< tokens are watched, and drawn again where they are faulty: "on" or "off"
    std::string device = "auto";       ///< of the networks: "auto", "cpu", "cuda", "cuda:1" (models/device_choice.h)
    int slots = 0;  ///< segments whose tokens are drawn together, of each model; 0: 32, on a GPU 256, .. 1024
    /// Live streams take no more than this of the machine together; the next one waits, 1 .. 1000.
    int max_load_percent = 85;
    std::chrono::milliseconds max_wait{2000};  ///< for room, then "overloaded", 0 .. 10 min
    /// While the load stays above this, quality takes one step down every reduce_hold_ms, 0 .. 1000,
    int reduce_above_percent = 70;
    int reduce_below_percent = 55;  ///< and one back up while it stays below this, 0 .. reduce_above_percent
    std::chrono::milliseconds reduce_hold{500};  ///< 0 .. 10 min
    int reduced_flow_steps = 0;          ///< of flow matching, the first step down; 0: there is no such step, .. 1000
    std::string lighter_voices;          ///< the further steps, for new utterances: "anna=anna_small, anna_small=tiny"
    std::string t2s_precision = "auto";  ///< of the token model, see models/t2s_options.h
    int t2s_window = 0;                  ///< tokens back that it attends to beside text and prompt, 0: all, .. 4000
    std::string acoustic_precision = "auto";  ///< of the networks after the tokens: "auto", "fp32", "bf16"
    std::string bert_precision = "auto";      ///< of the network that reads Chinese text: "auto", "fp32", "bf16"
    int flow_steps = 0;             ///< of all voices' flow matching, 1 .. 128; 0: the voice's own, as for the next
    std::string flow_solver;        ///< "euler", "midpoint", "heun" (models/flow_schedule.h)
    std::string flow_grid;          ///< "uniform", "cosine", "sway:-0.5", or the times, "0,0.1,0.4,1"
    std::string flow_guidance;      ///< rate of classifier-free guidance of v3 and v4, "0" (off) .. "10"
    std::string flow_temperature;   ///< of the noise a flow starts from, "0" .. "2"; below 1 sound is cleaner
    int flow_prompt_frames = 0;     ///< of the reference, that a window of v3 and v4 sees, .. 500
    int max_utterances = 64;        ///< live at once, 1 .. 4096
    int max_queued_segments = 256;  ///< per utterance, 1 .. 65536
    std::chrono::milliseconds max_ahead{20'000};  ///< audio made but not taken, per utterance, 100 ms .. 1 h
  };
  struct Log {
    std::string level = "info";  ///< trace, debug, info, warn, error, off
  };
  Server server;
  Engine engine;
  Log log;
};

/// The defaults with the program's own folders.
[[nodiscard]] Config make_config(const DataPaths& data);

/// Each of these changes `config` only where something is set, and gives Errc::bad_file naming the key, what was got
/// and what is wanted. Durations are integers in ms under keys that end in `_ms`.
[[nodiscard]] Result<void> apply_file(Config& config, const std::filesystem::path& path);
/// `name` is for messages.
[[nodiscard]] Result<void> apply_toml(Config& config, std::string_view text, const std::string& name);
/// Reads the variables of the keys; other SONORANT_ variables are not looked at (scripts have theirs).
[[nodiscard]] Result<void> apply_environment(Config& config, const GetEnv& get_env);
/// Flags as key and value: {"server.port", "8081"}.
[[nodiscard]] Result<void> apply_flags(Config& config, const std::vector<std::pair<std::string, std::string>>& flags);

/// The flow's schedule as `engine.flow_*` wants it.
[[nodiscard]] Result<FlowChoice> flow_choice(const Config::Engine& engine);

/// `engine.lighter_voices` by id; whether they are there is for the engine to say.
[[nodiscard]] Result<LighterVoices> lighter_voices(const Config::Engine& engine);

/// Ranges, and that the folders are there.
[[nodiscard]] Result<void> validate(const Config& config);

/// Every key and its value, in the order of the structs.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> describe(const Config& config);

}  // namespace tts
