#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace tts {

struct ServeCommand {};

struct SayCommand {
  std::string text;           ///< "-": read from standard input
  std::filesystem::path out;  ///< .wav, .opus or .ogg; "-": WAV to standard output
  std::string voice = "starter";
  std::string lang = "auto";
  float speed = 1.0F;
  std::optional<std::uint64_t> seed;
  std::string cut;  ///< "cut0" to "cut5": pieces as GPT-SoVITS makes them; empty: sentences as the server finds them
};

struct VoicesCommand {
  bool json = false;
};

struct AddVoiceCommand {
  std::string model;
  std::filesystem::path reference;
  std::vector<std::filesystem::path> more;
  std::string text;  ///< empty: the words of the recording are not used
  std::string lang = "auto";
  std::string id;    ///< empty: made of the model's name and the content
  std::string name;  ///< empty: the id
};

struct RemoveVoiceCommand {
  std::string id;
};

struct BenchCommand {
  int runs = 20;
  std::string voice = "starter";
  std::string lang = "en";
  std::string text;  ///< empty: a fixed one
  bool json = false;
  bool socket = false;  ///< also through a WebSocket and an in-process server

  bool stages = false;  ///< also the stages alone

  std::vector<int> streams;  ///< numbers of live streams to measure, each for itself; empty: none
  bool search = false;       ///< find the largest number that holds
  double seconds = 20;       ///< of each load
  double ramp_seconds = 2;   ///< before it, for the streams to start in
  int pause_ms = 0;          ///< between the replies a stream hears
  int jitter_ms = 0;         ///< what the player buffers before it starts
  int credit_ms = 0;         ///< how far the server may be ahead of the listener; 0: as far as it likes
  double words_per_second = 20;
  std::string commit;  ///< kept in the report
  int attach = 0;      ///< port of a server on this machine that is measured instead of one of our own; 0: none
  int attach_pid = 0;  ///< its process, for its CPU time; 0: not known
};

struct ConvertCommand {
  std::vector<std::filesystem::path> files;
  std::filesystem::path out;
  std::string version;  ///< empty: what the files say
  std::string id;       ///< empty: the name of the folder
  std::string name;
  std::string license;
  std::filesystem::path models_dir;  ///< empty: the usual place
  bool replace = false;
};

struct FetchModelsCommand {
  std::vector<std::string> versions;  ///< empty: all
  std::filesystem::path dir;          ///< empty: the usual place
  std::vector<std::string> mirrors;   ///< empty: the public home
  bool dry_run = false;
  bool keep_as_they_are = false;  ///< convert nothing
};

/// What the command line asks for.
struct Invocation {
  std::variant<ServeCommand, SayCommand, VoicesCommand, AddVoiceCommand, RemoveVoiceCommand, BenchCommand,
               ConvertCommand, FetchModelsCommand>
      command;
  std::optional<std::filesystem::path> config_file;
  std::vector<std::pair<std::string, std::string>> settings;  ///< flags that set a key of Config
};

/// The command line says all there is to do: print `text` and leave with `code` (0: help or version, on standard
/// output; 1: one line on standard error).
struct Exit {
  int code = 0;
  std::string text;
};

/// `args` without the program's name.
[[nodiscard]] std::variant<Invocation, Exit> parse_command_line(std::span<const std::string> args);

}  // namespace tts
