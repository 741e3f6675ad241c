#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include <unistd.h>

#include "src/app/run.h"
#include "src/engine/engine.h"

namespace {

tts::EngineConfig engine_config(const tts::Config& config) {
  tts::EngineConfig engine;
  engine.voices_dir = config.engine.voices_dir;
  engine.text_data_dir = config.engine.text_data_dir;
  engine.models_dir = config.engine.models_dir;
  engine.fit_rounds = config.engine.fit_rounds;
  engine.memory_bytes = static_cast<std::uint64_t>(config.engine.memory_mb) * 1'000'000;
  engine.preload = config.engine.preload;
  engine.threads = config.engine.threads;
  engine.networks.t2s = {tts::t2s_precision_of(config.engine.t2s_precision).value(),  // validated
                         config.engine.t2s_window};
  engine.networks.acoustic = tts::precision_choice_of(config.engine.acoustic_precision).value();
  engine.networks.bert = tts::precision_choice_of(config.engine.bert_precision).value();
  engine.networks.flow = tts::flow_choice(config.engine).value();  // validated
  engine.networks.prompt_frames = config.engine.flow_prompt_frames;
  engine.audio_threads = config.engine.audio_threads;
  engine.render_batch = config.engine.render_batch;
  engine.networks.device = tts::device_choice_of(config.engine.device).value();  // validated
  engine.networks.slots = config.engine.slots > 0 ? config.engine.slots : tts::usual_slots(engine.networks.device);
  engine.networks.guard = config.engine.guard != "off";
  engine.admission.max_load = config.engine.max_load_percent / 100.0;
  engine.admission.max_wait = config.engine.max_wait;
  engine.admission.reduce_above = config.engine.reduce_above_percent / 100.0;
  engine.admission.reduce_below = config.engine.reduce_below_percent / 100.0;
  engine.admission.reduce_hold = config.engine.reduce_hold;
  engine.admission.lighter_voices = tts::lighter_voices(config.engine).value();  // validated
  engine.admission.reduced_flow_steps = config.engine.reduced_flow_steps;
  engine.limits.max_utterances = config.engine.max_utterances;
  engine.limits.max_queued_segments = config.engine.max_queued_segments;
  engine.limits.max_ahead = config.engine.max_ahead;
  return engine;
}

}  // namespace

int main(int argc, char** argv) {
  tts::prepare_cpu_environment(argv);
  tts::Surroundings surroundings{
      .get_env = [](const char* name) { return std::getenv(name); },
      .data = tts::find_data(tts::executable_path()),
      .make_synthesizer = [](const tts::Config& config) { return tts::make_engine(engine_config(config)); },
      .measure_stages =
          [](const tts::Config& config, const tts::BenchCommand& command, const std::string& text,
             const std::function<void(std::string_view)>& progress, const std::atomic<bool>& stop) {
            return tts::measure_stages(engine_config(config), command.voice, text, command.lang, progress, stop);
          },
      .in = std::cin,
      .out = std::cout,
      .err = std::cerr,
      .show_progress = ::isatty(STDERR_FILENO) != 0,
      .libraries = {{"libtorch", SONORANT_TORCH_VERSION}},
  };
  return tts::run(std::vector<std::string>(argv + 1, argv + argc), surroundings);
}
