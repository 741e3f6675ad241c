#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace tts::testing {

/// A child process whose outputs are read. Killed by the destructor if it still runs.
class Process {
 public:
  /// `variables` are added to this process's environment.
  Process(const std::vector<std::string>& command, const std::map<std::string, std::string>& variables = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  /// Reads standard output until a line holds `words`; that line, or nullopt after the time or at the end.
  std::optional<std::string> wait_for_line(const std::string& words, std::chrono::milliseconds most);
  void signal(int number) const;
  /// The exit code, -1 when it did not end in time, 128 + n when signal n ended it. Both outputs are complete then.
  int wait(std::chrono::milliseconds most);

  std::string out, err;  ///< read so far

 private:
  /// Reads what there is, waiting up to `most`; false when both outputs are closed.
  bool read(std::chrono::milliseconds most);

  pid_t pid_ = -1;
  int out_fd_ = -1;
  int err_fd_ = -1;
};

}  // namespace tts::testing
