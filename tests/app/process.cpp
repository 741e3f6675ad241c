#include "tests/app/process.h"

#include <csignal>
#include <stdexcept>
#include <thread>

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

namespace tts::testing {
namespace {

using Clock = std::chrono::steady_clock;

std::chrono::milliseconds left(Clock::time_point end) {
  const auto rest = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
  return rest.count() > 0 ? rest : std::chrono::milliseconds(0);
}

void take(int& fd, std::string& text) {
  char block[4096];
  const ssize_t n = ::read(fd, block, sizeof block);
  if (n > 0) {
    text.append(block, static_cast<std::size_t>(n));
  } else {
    ::close(fd);
    fd = -1;
  }
}

}  // namespace

Process::Process(const std::vector<std::string>& command, const std::map<std::string, std::string>& variables) {
  int out_pipe[2];
  int err_pipe[2];
  if (::pipe2(out_pipe, O_CLOEXEC) != 0 || ::pipe2(err_pipe, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ < 0) throw std::runtime_error("no process");
  if (pid_ == 0) {
    ::dup2(out_pipe[1], STDOUT_FILENO);
    ::dup2(err_pipe[1], STDERR_FILENO);
    for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ::close(out_pipe[1]);
  ::close(err_pipe[1]);
  out_fd_ = out_pipe[0];
  err_fd_ = err_pipe[0];
}

Process::~Process() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  for (const int fd : {out_fd_, err_fd_}) {
    if (fd >= 0) ::close(fd);
  }
}

bool Process::read(std::chrono::milliseconds most) {
  if (out_fd_ < 0 && err_fd_ < 0) return false;
  pollfd fds[2] = {{out_fd_, POLLIN, 0}, {err_fd_, POLLIN, 0}};
  if (::poll(fds, 2, static_cast<int>(most.count())) > 0) {
    if (out_fd_ >= 0 && fds[0].revents != 0) take(out_fd_, out);
    if (err_fd_ >= 0 && fds[1].revents != 0) take(err_fd_, err);
  }
  return true;
}

std::optional<std::string> Process::wait_for_line(const std::string& words, std::chrono::milliseconds most) {
  const auto end = Clock::now() + most;
  for (;;) {
    for (std::size_t at = 0, stop = out.find('\n'); stop != std::string::npos;
         at = stop + 1, stop = out.find('\n', at)) {
      const std::string line = out.substr(at, stop - at);
      if (line.find(words) != std::string::npos) return line;
    }
    if (Clock::now() >= end || !read(left(end))) return std::nullopt;
  }
}

void Process::signal(int number) const {
  ::kill(pid_, number);
}

int Process::wait(std::chrono::milliseconds most) {
  const auto end = Clock::now() + most;
  while (Clock::now() < end && read(left(end))) {
  }
  for (;;) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    if (Clock::now() >= end) return -1;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

}  // namespace tts::testing
