#include "src/app/config.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <optional>
#include <system_error>
#include <utility>
#include <variant>

#include <toml++/toml.h>

namespace tts {
namespace {

namespace fs = std::filesystem;

using Field = std::variant<std::string*, int*, fs::path*, std::chrono::milliseconds*>;

struct Setting {
  const char* key;
  Field (*field)(Config&);
  std::int64_t least = 0;  // of numbers
  std::int64_t most = 0;
};

constexpr std::array kSettings{
    Setting{"server.host", [](Config& c) -> Field { return &c.server.host; }},
    Setting{"server.port", [](Config& c) -> Field { return &c.server.port; }, 0, 65535},
    Setting{"server.threads", [](Config& c) -> Field { return &c.server.threads; }, 1, 64},
    Setting{"server.web_dir", [](Config& c) -> Field { return &c.server.web_dir; }},
    Setting{"server.grace_ms", [](Config& c) -> Field { return &c.server.grace; }, 0, 600'000},
    Setting{"server.max_sessions", [](Config& c) -> Field { return &c.server.max_sessions; }, 1, 100'000},
    Setting{"server.max_text_chars", [](Config& c) -> Field { return &c.server.max_text_chars; }, 1, 10'000'000},
    Setting{"server.voice_upload", [](Config& c) -> Field { return &c.server.voice_upload; }},
    Setting{"server.upload_token", [](Config& c) -> Field { return &c.server.upload_token; }},
    Setting{"server.max_upload_mb", [](Config& c) -> Field { return &c.server.max_upload_mb; }, 1, 256},
    Setting{"engine.voices_dir", [](Config& c) -> Field { return &c.engine.voices_dir; }},
    Setting{"engine.text_data_dir", [](Config& c) -> Field { return &c.engine.text_data_dir; }},
    Setting{"engine.models_dir", [](Config& c) -> Field { return &c.engine.models_dir; }},
    Setting{"engine.fit_rounds", [](Config& c) -> Field { return &c.engine.fit_rounds; }, 0, 1000},
    Setting{"engine.memory_mb", [](Config& c) -> Field { return &c.engine.memory_mb; }, 0, 1'048'576},
    Setting{"engine.preload", [](Config& c) -> Field { return &c.engine.preload; }},
    Setting{"engine.threads", [](Config& c) -> Field { return &c.engine.threads; }, 1, 64},
    Setting{"engine.audio_threads", [](Config& c) -> Field { return &c.engine.audio_threads; }, 0, 64},
    Setting{"engine.render_batch", [](Config& c) -> Field { return &c.engine.render_batch; }, 0, 256},
    Setting{"engine.guard", [](Config& c) -> Field { return &c.engine.guard; }},
    Setting{"engine.device", [](Config& c) -> Field { return &c.engine.device; }},
    Setting{"engine.slots", [](Config& c) -> Field { return &c.engine.slots; }, 0, 1024},
    Setting{"engine.max_load_percent", [](Config& c) -> Field { return &c.engine.max_load_percent; }, 1, 1000},
    Setting{"engine.max_wait_ms", [](Config& c) -> Field { return &c.engine.max_wait; }, 0, 600'000},
    Setting{"engine.reduce_above_percent", [](Config& c) -> Field { return &c.engine.reduce_above_percent; }, 0, 1000},
    Setting{"engine.reduce_below_percent", [](Config& c) -> Field { return &c.engine.reduce_below_percent; }, 0, 1000},
    Setting{"engine.reduce_hold_ms", [](Config& c) -> Field { return &c.engine.reduce_hold; }, 0, 600'000},
    Setting{"engine.lighter_voices", [](Config& c) -> Field { return &c.engine.lighter_voices; }},
    Setting{"engine.reduced_flow_steps", [](Config& c) -> Field { return &c.engine.reduced_flow_steps; }, 0, 1000},
    Setting{"engine.t2s_precision", [](Config& c) -> Field { return &c.engine.t2s_precision; }},
    Setting{"engine.t2s_window", [](Config& c) -> Field { return &c.engine.t2s_window; }, 0, 4000},
    Setting{"engine.acoustic_precision", [](Config& c) -> Field { return &c.engine.acoustic_precision; }},
    Setting{"engine.bert_precision", [](Config& c) -> Field { return &c.engine.bert_precision; }},
    Setting{"engine.flow_steps", [](Config& c) -> Field { return &c.engine.flow_steps; }, 0, 128},
    Setting{"engine.flow_solver", [](Config& c) -> Field { return &c.engine.flow_solver; }},
    Setting{"engine.flow_grid", [](Config& c) -> Field { return &c.engine.flow_grid; }},
    Setting{"engine.flow_guidance", [](Config& c) -> Field { return &c.engine.flow_guidance; }},
    Setting{"engine.flow_temperature", [](Config& c) -> Field { return &c.engine.flow_temperature; }},
    Setting{"engine.flow_prompt_frames", [](Config& c) -> Field { return &c.engine.flow_prompt_frames; }, 0, 500},
    Setting{"engine.max_utterances", [](Config& c) -> Field { return &c.engine.max_utterances; }, 1, 4096},
    Setting{"engine.max_queued_segments", [](Config& c) -> Field { return &c.engine.max_queued_segments; }, 1, 65'536},
    Setting{"engine.max_ahead_ms", [](Config& c) -> Field { return &c.engine.max_ahead; }, 100, 3'600'000},
    Setting{"log.level", [](Config& c) -> Field { return &c.log.level; }},
};

constexpr std::array kLevels{"trace", "debug", "info", "warn", "error", "off"};

Error bad(std::string detail) {
  return Error{Errc::bad_file, std::move(detail)};
}

bool is_number(const Field& field) {
  return std::holds_alternative<int*>(field) || std::holds_alternative<std::chrono::milliseconds*>(field);
}

std::string range(const Setting& setting) {
  return "a whole number from " + std::to_string(setting.least) + " to " + std::to_string(setting.most);
}

std::int64_t number(const Field& field) {
  if (const auto* value = std::get_if<int*>(&field)) return **value;
  return std::get<std::chrono::milliseconds*>(field)->count();
}

// `place` is where the value was written: the file and line, the variable or the flag.
Result<void> set_number(Config& config, const Setting& setting, std::int64_t value, const std::string& place) {
  if (value < setting.least || value > setting.most) {
    return bad(place + ": got " + std::to_string(value) + ", want " + range(setting));
  }
  const Field field = setting.field(config);
  if (const auto* target = std::get_if<int*>(&field)) **target = static_cast<int>(value);
  if (const auto* target = std::get_if<std::chrono::milliseconds*>(&field)) {
    **target = std::chrono::milliseconds(value);
  }
  return {};
}

void set_text(Config& config, const Setting& setting, std::string value) {
  const Field field = setting.field(config);
  if (const auto* target = std::get_if<std::string*>(&field)) **target = std::move(value);
  if (const auto* target = std::get_if<fs::path*>(&field)) **target = std::move(value);
}

// A value written as text: environment and flags.
Result<void> set_written(Config& config, const Setting& setting, std::string_view text, const std::string& place) {
  if (!is_number(setting.field(config))) {
    set_text(config, setting, std::string(text));
    return {};
  }
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return bad(place + ": got \"" + std::string(text) + "\", want " + range(setting));
  }
  return set_number(config, setting, value, place);
}

const Setting* find_setting(std::string_view key) {
  const auto* found = std::find_if(kSettings.begin(), kSettings.end(), [&](const Setting& s) { return s.key == key; });
  return found == kSettings.end() ? nullptr : found;
}

std::string variable(std::string_view key) {
  std::string name = "SONORANT_";
  for (const char c : key) {
    name += c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

Result<void> apply_table(Config& config, const toml::table& table, const std::string& prefix, const std::string& name) {
  for (const auto& [toml_key, node] : table) {
    const std::string key = prefix + std::string(toml_key.str());
    const std::string place = name + ":" + std::to_string(node.source().begin.line) + ": " + key;
    const bool is_section = prefix.empty() && std::any_of(kSettings.begin(), kSettings.end(), [&](const Setting& s) {
                              return std::string_view(s.key).starts_with(key + ".");
                            });
    if (is_section) {
      const toml::table* section = node.as_table();
      if (section == nullptr) return bad(place + ": want a table");
      if (auto done = apply_table(config, *section, key + ".", name); !done) return done;
      continue;
    }
    const Setting* setting = find_setting(key);
    if (setting == nullptr) return bad(place + ": unknown key");
    if (is_number(setting->field(config))) {
      const auto value = node.value_exact<std::int64_t>();
      if (!value) return bad(place + ": want " + range(*setting));
      if (auto done = set_number(config, *setting, *value, place); !done) return done;
    } else {
      auto value = node.value_exact<std::string>();
      if (!value) return bad(place + ": want a string");
      set_text(config, *setting, std::move(*value));
    }
  }
  return {};
}

Result<void> want_folder(const char* key, const fs::path& path) {
  std::error_code ignored;
  if (path.empty()) return bad(std::string(key) + ": not set, and the program is not in its source tree or installed");
  if (!fs::is_directory(path, ignored)) return bad(std::string(key) + ": " + path.string() + " is not a folder");
  return {};
}

}  // namespace

Config make_config(const DataPaths& data) {
  Config config;
  config.server.web_dir = data.web_dir;
  config.engine.voices_dir = data.voices_dir;
  config.engine.text_data_dir = data.text_data_dir;
  return config;
}

Result<void> apply_file(Config& config, const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return bad(path.string() + ": no such config file");
  toml::parse_result parsed;
  try {
    parsed = toml::parse_file(path.string());
  } catch (const toml::parse_error& error) {
    return bad(path.string() + ":" + std::to_string(error.source().begin.line) + ": " +
               std::string(error.description()));
  }
  return apply_table(config, parsed, "", path.string());
}

Result<void> apply_toml(Config& config, std::string_view text, const std::string& name) {
  try {
    return apply_table(config, toml::parse(text), "", name);
  } catch (const toml::parse_error& error) {
    return bad(name + ":" + std::to_string(error.source().begin.line) + ": " + std::string(error.description()));
  }
}

Result<void> apply_environment(Config& config, const GetEnv& get_env) {
  for (const Setting& setting : kSettings) {
    const std::string name = variable(setting.key);
    const char* value = get_env(name.c_str());
    if (value == nullptr) continue;
    if (auto done = set_written(config, setting, value, name); !done) return done;
  }
  return {};
}

Result<void> apply_flags(Config& config, const std::vector<std::pair<std::string, std::string>>& flags) {
  for (const auto& [key, value] : flags) {
    const Setting* setting = find_setting(key);
    if (setting == nullptr) return bad(key + ": unknown key");
    if (auto done = set_written(config, *setting, value, key); !done) return done;
  }
  return {};
}

Result<FlowChoice> flow_choice(const Config::Engine& engine) {
  FlowChoice choice{.steps = engine.flow_steps};
  if (!engine.flow_solver.empty()) {
    auto solver = parse_flow_solver(engine.flow_solver);
    if (!solver) return bad("engine.flow_solver: " + solver.error().detail);
    choice.solver = *solver;
  }
  if (!engine.flow_grid.empty()) {
    auto grid = parse_flow_grid(engine.flow_grid);
    if (!grid) return bad("engine.flow_grid: " + grid.error().detail);
    choice.grid = std::move(*grid);
  }
  const auto number = [](const std::string& text, double most) -> std::optional<double> {
    double value = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !(value >= 0 && value <= most)) return std::nullopt;
    return value;
  };
  if (const std::string& text = engine.flow_guidance; !text.empty()) {
    choice.guidance = number(text, 10);
    if (!choice.guidance) return bad("engine.flow_guidance: got \"" + text + "\", want a number from 0 to 10");
  }
  if (const std::string& text = engine.flow_temperature; !text.empty()) {
    choice.temperature = number(text, 2);
    if (!choice.temperature) return bad("engine.flow_temperature: got \"" + text + "\", want a number from 0 to 2");
  }
  return choice;
}

Result<LighterVoices> lighter_voices(const Config::Engine& engine) {
  const auto trimmed = [](std::string_view text) {
    while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
    while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
    return text;
  };
  LighterVoices lighter;
  std::string_view rest = trimmed(engine.lighter_voices);
  for (bool more = !rest.empty(); more;) {
    const std::size_t comma = rest.find(',');
    const std::string_view entry = trimmed(rest.substr(0, comma));
    const std::size_t equals = entry.find('=');
    const std::string_view voice = trimmed(entry.substr(0, equals));
    const std::string_view instead = equals == std::string_view::npos ? "" : trimmed(entry.substr(equals + 1));
    if (voice.empty() || instead.empty()) {
      return bad("engine.lighter_voices: got \"" + std::string(entry) + "\", want VOICE=LIGHTER_VOICE, ..");
    }
    if (!lighter.emplace(voice, instead).second) {
      return bad("engine.lighter_voices: \"" + std::string(voice) + "\" is there twice");
    }
    more = comma != std::string_view::npos;
    if (more) rest.remove_prefix(comma + 1);
  }
  return lighter;
}

Result<void> validate(const Config& config) {
  Config copy = config;
  for (const Setting& setting : kSettings) {
    const Field field = setting.field(copy);
    if (!is_number(field)) continue;
    const std::int64_t value = number(field);
    if (value < setting.least || value > setting.most) {
      return bad(std::string(setting.key) + ": got " + std::to_string(value) + ", want " + range(setting));
    }
  }
  if (config.server.host.empty()) return bad("server.host: empty, want an address as 127.0.0.1");
  if (config.engine.guard != "on" && config.engine.guard != "off") {
    return bad("engine.guard: got \"" + config.engine.guard + "\", want on or off");
  }
  if (config.server.voice_upload != "auto" && config.server.voice_upload != "off") {
    return bad("server.voice_upload: got \"" + config.server.voice_upload + "\", want auto or off");
  }
  const std::string& token = config.server.upload_token;  // goes into a header
  if (!std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < '\x7F'; })) {
    return bad("server.upload_token: want printable ASCII without spaces");
  }
  if (config.engine.preload.empty()) return bad("engine.preload: empty, want all, none or the id of a voice");
  if (!device_choice_of(config.engine.device)) {
    return bad("engine.device: got \"" + config.engine.device + "\", want auto, cpu, cuda or cuda:N");
  }
  if (!t2s_precision_of(config.engine.t2s_precision)) {
    return bad("engine.t2s_precision: got \"" + config.engine.t2s_precision +
               "\", want auto, fp32, bf16, int8 or fp16");
  }
  for (const auto& [key, value] : {std::pair{"engine.acoustic_precision: got \"", config.engine.acoustic_precision},
                                   std::pair{"engine.bert_precision: got \"", config.engine.bert_precision}}) {
    if (!precision_choice_of(value)) return bad(key + value + "\", want auto, fp32 or bf16");
  }
  if (const auto flow = flow_choice(config.engine); !flow) return flow.error();
  if (const auto lighter = lighter_voices(config.engine); !lighter) return lighter.error();
  if (config.engine.reduce_below_percent > config.engine.reduce_above_percent) {
    return bad("engine.reduce_below_percent: got " + std::to_string(config.engine.reduce_below_percent) +
               ", want at most engine.reduce_above_percent, " + std::to_string(config.engine.reduce_above_percent));
  }
  if (std::find(kLevels.begin(), kLevels.end(), config.log.level) == kLevels.end()) {
    return bad("log.level: got \"" + config.log.level + "\", want trace, debug, info, warn, error or off");
  }
  if (auto done = want_folder("engine.voices_dir", config.engine.voices_dir); !done) return done;
  if (auto done = want_folder("engine.text_data_dir", config.engine.text_data_dir); !done) return done;
  if (!config.engine.models_dir.empty()) return want_folder("engine.models_dir", config.engine.models_dir);
  return {};
}

std::vector<std::pair<std::string, std::string>> describe(const Config& config) {
  Config copy = config;
  std::vector<std::pair<std::string, std::string>> out;
  for (const Setting& setting : kSettings) {
    const Field field = setting.field(copy);
    std::string value;
    if (const auto* text = std::get_if<std::string*>(&field)) value = **text;
    if (const auto* path = std::get_if<fs::path*>(&field)) value = (*path)->string();
    if (is_number(field)) value = std::to_string(number(field));
    out.emplace_back(setting.key, std::move(value));
  }
  return out;
}

}  // namespace tts
