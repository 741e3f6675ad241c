#include "src/app/models.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "src/app/convert.h"
#include "src/convert/convert.h"
#include "src/core/digest.h"
#include "src/core/mapped_file.h"

namespace tts {
namespace {

namespace fs = std::filesystem;

/// One run at a time in a folder; let go with the object.
class FolderLock {
 public:
  static Result<std::unique_ptr<FolderLock>> take(const fs::path& dir) {
    const int fd = ::open((dir / ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return Error{Errc::bad_file, dir.string() + ": cannot be written"};
    std::unique_ptr<FolderLock> lock(new FolderLock(fd));
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
      return Error{Errc::bad_file, dir.string() + ": another `sonorant models fetch` is at work there"};
    }
    return lock;
  }
  ~FolderLock() { ::close(fd_); }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  explicit FolderLock(int fd) : fd_(fd) {}
  int fd_;
};

/// The lines of SHA256SUMS: path to checksum.
std::map<std::string, std::string> read_sums(const fs::path& file) {
  std::map<std::string, std::string> sums;
  std::ifstream in(file, std::ios::binary);
  std::string line;
  while (std::getline(in, line)) {
    if (line.size() > 66 && line.substr(64, 2) == "  ") sums[line.substr(66)] = line.substr(0, 64);
  }
  return sums;
}

Result<void> write_sums(const fs::path& file, const std::map<std::string, std::string>& sums) {
  fs::path part = file;
  part += ".part";
  {
    std::ofstream out(part, std::ios::binary | std::ios::trunc);
    for (const auto& [path, sum] : sums) out << sum << "  " << path << '\n';
    out.close();
    if (!out) return Error{Errc::bad_file, part.string() + ": cannot be written"};
  }
  std::error_code error;
  fs::rename(part, file, error);
  if (error) return Error{Errc::bad_file, file.string() + ": cannot be written: " + error.message()};
  return {};
}

std::string sum_of(const fs::path& file) {
  const auto mapped = MappedFile::open(file);
  return mapped ? sha256_hex((*mapped)->bytes()) : std::string();
}

struct PlannedFile {
  PretrainedFile file;
  fs::path to;
  bool is_there = false;      ///< with the size it should have
  std::uint64_t begun = 0;    ///< bytes of an earlier transfer
  std::uint64_t missing = 0;  ///< bytes to come, about
};

const char* words_for(Proof proof) {
  switch (proof) {
    case Proof::listed:
      return "checksum as listed";
    case Proof::server:
      return "checksum as the server tells it";
    case Proof::size:
      return "only its size could be checked";
  }
  return "";
}

/// One line on a terminal that is written over and over.
class FetchLine {
 public:
  FetchLine(std::ostream* out, std::string name) : out_(out), name_(std::move(name)) {}
  ~FetchLine() {
    if (out_ != nullptr) *out_ << "\r\033[K" << std::flush;
  }
  void show(std::uint64_t done, std::uint64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (!begun_) {
      begun_ = true;
      first_ = done;
      begin_ = now;
    }
    if (out_ == nullptr || now - last_ < std::chrono::milliseconds(200)) return;
    last_ = now;
    const double seconds = std::chrono::duration<double>(now - begin_).count();
    const double rate = seconds > 0 ? static_cast<double>(done - std::min(first_, done)) / seconds : 0;
    std::string line = name_ + ": " + bytes_text(done);
    if (total > 0) {
      line += " of " + bytes_text(total) + ", " + std::to_string(100 * done / total) + " %";
    }
    line += ", " + bytes_text(static_cast<std::uint64_t>(rate)) + "/s";
    if (rate > 0 && total > done) {
      const auto left = static_cast<std::uint64_t>(static_cast<double>(total - done) / rate);
      line += ", " + std::to_string(left / 60) + " min " + std::to_string(left % 60) + " s left";
    }
    *out_ << "\r\033[K" << line << std::flush;
  }

 private:
  std::ostream* out_;
  std::string name_;
  bool begun_ = false;
  std::uint64_t first_ = 0;
  std::chrono::steady_clock::time_point begin_, last_;
};

std::vector<PlannedFile> make_plan(const std::vector<PretrainedFile>& files, const fs::path& dir) {
  std::vector<PlannedFile> plan;
  for (const PretrainedFile& file : files) {
    PlannedFile planned{file, dir / file.path};
    std::error_code error;
    const auto size = fs::file_size(planned.to, error);
    planned.is_there = !error && (file.sha256[0] == '\0' ? size > 0 : size == file.bytes);
    if (!planned.is_there) {
      planned.begun = bytes_there(planned.to);
      planned.missing = file.bytes - std::min(file.bytes, planned.begun);
    }
    plan.push_back(std::move(planned));
  }
  return plan;
}

void print_plan(const std::vector<PlannedFile>& plan, const fs::path& dir, std::uint64_t missing, std::uint64_t free,
                std::ostream& out) {
  out << "Official files of GPT-SoVITS, in " << dir.string() << ":\n";
  for (const PlannedFile& planned : plan) {
    const bool is_known = planned.file.sha256[0] != '\0';
    std::string state = planned.is_there    ? "there"
                        : planned.begun > 0 ? bytes_text(planned.begun) + " there"
                                            : "to fetch";
    if (!is_known && !planned.is_there) state += ", checksum from the server";
    const std::string size = (is_known ? "" : "about ") + bytes_text(planned.file.bytes);
    char line[256];
    std::snprintf(line, sizeof line, "  %-34s %14s  %s\n", planned.file.what, size.c_str(), state.c_str());
    out << line;
  }
  out << "To fetch: " << bytes_text(missing) << "; free on that disk: " << bytes_text(free) << "\n" << std::flush;
}

/// The networks that prepare references and texts, as safetensors beside the originals.
Result<void> convert_networks(const fs::path& dir, std::ostream& out, std::ostream* progress) {
  for (const auto& [from, to] : {std::pair{"chinese-hubert-base/pytorch_model.bin", "hubert.safetensors"},
                                 {"chinese-roberta-wwm-ext-large/pytorch_model.bin", "bert.safetensors"},
                                 {"sv/pretrained_eres2netv2w24s4ep4.ckpt", "eres2netv2.safetensors"}}) {
    std::error_code error;
    if (!fs::exists(dir / from, error) || fs::exists(dir / to, error)) continue;
    ConvertRequest request;
    request.files = {dir / from};
    request.out = dir / to;
    ProgressLine line(progress);
    auto report = convert(request, line.callback());
    if (!report) return report.error();
    line.clear();
    out << to << ": converted, " << bytes_text(report->files[0].bytes) << "\n" << std::flush;
  }
  return {};
}

}  // namespace

fs::path default_models_dir(const GetEnv& get_env) {
  const char* data = get_env("XDG_DATA_HOME");
  if (data != nullptr && data[0] == '/') return fs::path(data) / "sonorant" / "models";
  const char* home = get_env("HOME");
  if (home != nullptr && home[0] != '\0') return fs::path(home) / ".local" / "share" / "sonorant" / "models";
  return {};
}

Result<void> fetch_models(const FetchModelsCommand& command, const fs::path& dir,
                          const std::vector<PretrainedFile>& files, const FetchOptions& options, std::ostream& out,
                          std::ostream* progress) {
  std::vector<std::string> bases;
  for (const std::string& mirror : command.mirrors) {
    const auto base = base_url(mirror);
    if (!base) {
      return Error{Errc::unsupported_format,
                   "--mirror: got " + mirror + ", wanted http(s)://HOST or http(s)://HOST/PATH/"};
    }
    bases.push_back(*base);
  }
  if (bases.empty()) bases.push_back(*base_url(kPretrainedHost));

  std::error_code error;
  if (!command.dry_run) fs::create_directories(dir, error);
  if (error) return Error{Errc::bad_file, dir.string() + ": cannot be made: " + error.message()};
  const std::vector<PlannedFile> plan = make_plan(files, dir);
  std::uint64_t missing = 0;
  for (const PlannedFile& planned : plan) missing += planned.missing;
  fs::path disk = fs::absolute(dir);
  while (!fs::exists(disk, error) && disk.has_relative_path()) disk = disk.parent_path();
  const auto space = fs::space(disk, error);
  const std::uint64_t free = error ? 0 : space.available;
  print_plan(plan, dir, missing, free, out);
  if (command.dry_run) return {};
  if (!error && missing > free) {
    return Error{Errc::bad_file, dir.string() + ": wants " + bytes_text(missing) + ", but only " + bytes_text(free) +
                                     " are free there (--dir for another place, --version for fewer files)"};
  }
  auto lock = FolderLock::take(dir);
  if (!lock) return lock.error();

  const fs::path sums_file = dir / "SHA256SUMS";
  auto sums = read_sums(sums_file);
  for (const PlannedFile& planned : plan) {
    const std::string path = planned.file.path;
    const std::string wanted = planned.file.sha256[0] != '\0' ? planned.file.sha256 : sums[path];
    if (planned.is_there && wanted.empty()) {
      out << path << ": there; nothing here tells its checksum, so it is taken as it is\n" << std::flush;
      continue;
    }
    if (planned.is_there) {
      if (progress != nullptr) *progress << "\r\033[Kchecking " << path << std::flush;
      const std::string got = sum_of(planned.to);
      if (progress != nullptr) *progress << "\r\033[K" << std::flush;
      if (got == wanted) {
        sums[path] = got;
        continue;
      }
      out << path << ": there, but damaged; fetched anew\n" << std::flush;
    }
    Download download;
    for (const std::string& base : bases) download.urls.push_back(base + escaped_path(path));
    download.to = planned.to;
    download.sha256 = planned.file.sha256;
    if (!download.sha256.empty()) download.bytes = planned.file.bytes;
    Result<Fetched> fetched = Error{};
    {
      FetchLine line(progress, path);
      fetched = fetch(download, options, [&](std::uint64_t done, std::uint64_t total) { line.show(done, total); });
    }
    if (!fetched) return fetched.error();
    out << path << ": " << bytes_text(fetched->bytes) << ", " << words_for(fetched->proof) << "\n" << std::flush;
    sums[path] = fetched->sha256;
    if (auto done = write_sums(sums_file, sums); !done) return done;
  }
  if (auto done = write_sums(sums_file, sums); !done) return done;
  return command.keep_as_they_are ? Result<void>() : convert_networks(dir, out, progress);
}

}  // namespace tts
