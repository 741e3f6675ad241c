#include "src/app/fetch.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include <curl/curl.h>

#include "src/core/digest.h"
#include "src/core/log.h"

namespace tts {
namespace {

namespace fs = std::filesystem;

struct CurlFree {
  void operator()(CURL* handle) const noexcept { curl_easy_cleanup(handle); }
};
using CurlHandle = std::unique_ptr<CURL, CurlFree>;

CurlHandle make_curl() {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  return CurlHandle(curl_easy_init());
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

std::optional<std::uint64_t> to_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// The text between the quotes of an ETag, weak or not.
std::string tag_of(std::string_view value) {
  const std::size_t begin = value.find('"');
  const std::size_t end = value.rfind('"');
  if (begin == std::string_view::npos || end <= begin) return std::string(value);
  return std::string(value.substr(begin + 1, end - begin - 1));
}

bool is_sha256(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

fs::path with(const fs::path& path, const char* suffix) {
  fs::path out = path;
  out += suffix;
  return out;
}

std::string read_line(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::string line;
  std::getline(in, line);
  return line;
}

/// Whether another attempt may help.
bool is_passing(CURLcode code) {
  constexpr std::array kPassing = {CURLE_COULDNT_RESOLVE_HOST,
                                   CURLE_COULDNT_RESOLVE_PROXY,
                                   CURLE_COULDNT_CONNECT,
                                   CURLE_PARTIAL_FILE,
                                   CURLE_OPERATION_TIMEDOUT,
                                   CURLE_GOT_NOTHING,
                                   CURLE_SEND_ERROR,
                                   CURLE_RECV_ERROR,
                                   CURLE_HTTP2,
                                   CURLE_HTTP2_STREAM,
                                   CURLE_SSL_CONNECT_ERROR};
  return std::ranges::find(kPassing, code) != kPassing.end();
}
bool is_passing(long status) {
  return status == 408 || status == 425 || status == 429 || (status >= 500 && status != 501);
}

/// The transfer of one file from one URL, attempt after attempt.
class Transfer {
 public:
  enum class Ending { complete, passing, final };

  Transfer(const Download& download, const FetchOptions& options, const FetchProgress& progress, std::string url)
      : download_(download),
        options_(options),
        progress_(progress),
        url_(std::move(url)),
        part_(with(download.to, ".part")),
        id_file_(with(download.to, ".part.id")) {}

  Result<Fetched> run() {
    std::chrono::milliseconds wait = options_.first_wait;
    bool has_begun_anew = false;
    for (int attempt = 1;;) {
      const std::uint64_t before = have_;
      const Ending ending = attempt_once();
      if (ending == Ending::complete) {
        auto fetched = accept();
        if (fetched || !was_resumed_ || has_begun_anew) return fetched;
        has_begun_anew = true;  // the part was of another file after all
        continue;
      }
      if (must_begin_anew_ && !has_begun_anew) {
        has_begun_anew = true;
        remove_part();
        continue;
      }
      if (ending == Ending::final) return given_up(reason_);
      if (have_ > before) {
        attempt = 1;
        wait = options_.first_wait;
      } else if (++attempt > options_.attempts) {
        return given_up(reason_ + " (" + std::to_string(options_.attempts) + " attempts)");
      }
      std::this_thread::sleep_for(wait);
      wait *= 2;
    }
  }

 private:
  /// What has come stays for another run; a part without a byte is of no use.
  Error given_up(const std::string& reason) const {
    if (have_ == 0) remove_part();
    return failed(reason);
  }
  Error failed(const std::string& reason) const { return {Errc::bad_file, url_ + ": " + reason}; }

  void remove_part() const {
    std::error_code ignored;
    fs::remove(part_, ignored);
    fs::remove(id_file_, ignored);
  }

  Ending attempt_once() {
    status_ = 0;
    content_length_.reset();
    linked_size_.reset();
    whole_size_.reset();
    range_begin_.reset();
    etag_.clear();
    linked_etag_.clear();
    has_body_ = false;
    must_begin_anew_ = false;
    reason_.clear();
    if (!open_part()) return Ending::final;
    was_resumed_ = have_ > 0;

    const CurlHandle curl = make_curl();
    if (!curl) {
      reason_ = "the transfer library refuses";
      return Ending::final;
    }
    CURL* handle = curl.get();
    std::array<char, CURL_ERROR_SIZE> words{};
    const bool is_https = lower(url_).starts_with("https:");
    curl_easy_setopt(handle, CURLOPT_URL, url_.c_str());
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(handle, CURLOPT_REDIR_PROTOCOLS_STR, is_https ? "https" : "http,https");
    curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(handle, CURLOPT_MAXREDIRS, 5L);
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT, 30L);
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, options_.low_speed_bytes);
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME, options_.low_speed_s);
    curl_easy_setopt(handle, CURLOPT_USERAGENT, options_.user_agent.c_str());
    curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, words.data());
    curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, &Transfer::on_header);
    curl_easy_setopt(handle, CURLOPT_HEADERDATA, this);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, &Transfer::on_body);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, this);
    const std::string range = std::to_string(have_) + "-";
    if (have_ > 0) curl_easy_setopt(handle, CURLOPT_RANGE, range.c_str());

    const CURLcode code = curl_easy_perform(handle);
    const bool is_closed = close_part();
    if (!reason_.empty()) return Ending::final;  // said by a callback
    if (!is_closed) {
      reason_ = part_.string() + " cannot be written";
      return Ending::final;
    }
    if (status_ == 416 && have_ > 0) {
      // Nothing follows what is there: all of it, or of another file.
      if (total() != 0 && total() == have_) return Ending::complete;
      reason_ = "the server has no bytes after " + std::to_string(have_);
      must_begin_anew_ = true;
      return Ending::final;
    }
    if (status_ >= 400) {
      reason_ = "the server answers " + std::to_string(status_);
      return is_passing(status_) ? Ending::passing : Ending::final;
    }
    if (code != CURLE_OK) {
      reason_ = words[0] != '\0' ? words.data() : curl_easy_strerror(code);
      return is_passing(code) ? Ending::passing : Ending::final;
    }
    if (status_ != 200 && status_ != 206) {
      reason_ = "the server answers " + std::to_string(status_);
      return Ending::final;
    }
    if (total() != 0 && have_ < total()) {
      reason_ = "the transfer ended after " + std::to_string(have_) + " of " + std::to_string(total()) + " bytes";
      return Ending::passing;
    }
    return Ending::complete;
  }

  /// What is there goes through the checksum again; a part whose origin is not known is not trusted.
  bool open_part() {
    std::error_code error;
    digest_ = Digest::sha256();
    have_ = 0;
    part_id_ = read_line(id_file_);
    if (part_id_.empty()) remove_part();
    if (fs::exists(part_, error)) {
      std::ifstream in(part_, std::ios::binary);
      std::vector<char> block(1U << 20U);
      while (in.read(block.data(), static_cast<std::streamsize>(block.size())), in.gcount() > 0) {
        const auto n = static_cast<std::size_t>(in.gcount());
        digest_.update(std::as_bytes(std::span(block.data(), n)));
        have_ += n;
      }
    }
    fs::create_directories(part_.parent_path(), error);
    file_.reset(std::fopen(part_.c_str(), "ab"));
    if (file_ == nullptr) reason_ = part_.string() + " cannot be written: " + std::system_category().message(errno);
    return file_ != nullptr;
  }

  bool close_part() {
    if (file_ == nullptr) return true;
    const bool is_flushed = std::fflush(file_.get()) == 0 && ::fsync(::fileno(file_.get())) == 0;
    return std::fclose(file_.release()) == 0 && is_flushed;
  }

  /// The whole size, as well as it is known; 0: not at all.
  std::uint64_t total() const {
    if (download_.bytes != 0) return download_.bytes;
    if (linked_size_) return *linked_size_;
    if (whole_size_) return *whole_size_;
    return status_ == 200 && content_length_ ? *content_length_ : 0;
  }

  static std::size_t on_header(char* data, std::size_t size, std::size_t n, void* self) {
    static_cast<Transfer*>(self)->header(std::string_view(data, size * n));
    return size * n;
  }
  static std::size_t on_body(char* data, std::size_t size, std::size_t n, void* self) {
    return static_cast<Transfer*>(self)->body(std::as_bytes(std::span(data, size * n))) ? size * n : 0;
  }

  void header(std::string_view line) {
    while (!line.empty() && (line.back() == '\r' || line.back() == '\n' || line.back() == ' ')) line.remove_suffix(1);
    if (line.starts_with("HTTP/")) {  // of the first answer, or of one it redirected to
      const std::size_t space = line.find(' ');
      const auto status = space == std::string_view::npos ? std::nullopt : to_number(line.substr(space + 1, 3));
      status_ = static_cast<long>(status.value_or(0));
      content_length_.reset();
      etag_.clear();
      range_begin_.reset();
      return;
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return;
    const std::string name = lower(line.substr(0, colon));
    std::string_view value = line.substr(colon + 1);
    while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    if (name == "content-length") content_length_ = to_number(value);
    if (name == "etag") etag_ = tag_of(value);
    if (name == "x-linked-etag") linked_etag_ = lower(tag_of(value));
    if (name == "x-linked-size") linked_size_ = to_number(value);
    if (name == "content-range" && lower(value).starts_with("bytes ")) {
      value.remove_prefix(6);
      range_begin_ = to_number(value.substr(0, value.find('-')));
      whole_size_ = to_number(value.substr(value.find('/') + 1));
    }
  }

  /// What tells this version of the file from others.
  std::string identity() const {
    if (!download_.sha256.empty()) return "sha256 " + download_.sha256;
    if (!linked_etag_.empty()) return "linked " + linked_etag_;
    return etag_.empty() ? "size " + std::to_string(total()) : "etag " + etag_;
  }

  bool body(std::span<const std::byte> bytes) {
    if (status_ != 200 && status_ != 206) return true;  // the words of an error: not kept
    if (!std::exchange(has_body_, true) && !begin()) return false;
    if (total() != 0 && bytes.size() > total() - std::min(total(), have_)) {
      reason_ = "got more bytes than the " + std::to_string(total()) + " wanted";
      remove_part();
      return false;
    }
    if (std::fwrite(bytes.data(), 1, bytes.size(), file_.get()) != bytes.size()) {
      reason_ = part_.string() + " cannot be written: " + std::system_category().message(errno);
      return false;
    }
    digest_.update(bytes);
    have_ += bytes.size();
    if (progress_) progress_(have_, total());
    return true;
  }

  /// The first bytes of the file are about to come.
  bool begin() {
    const std::string id = identity();
    if (status_ == 206 && (range_begin_ != have_ || (have_ > 0 && part_id_ != id))) {
      reason_ = range_begin_ != have_ ? "the server sends another part than asked for" : "the file has changed there";
      must_begin_anew_ = true;
      return false;
    }
    if (status_ == 200) {  // from the start, whatever was asked for
      if (have_ > 0 && ::ftruncate(::fileno(file_.get()), 0) != 0) {
        reason_ = part_.string() + " cannot be begun anew";
        return false;
      }
      have_ = 0;
      was_resumed_ = false;
      digest_ = Digest::sha256();
    }
    const std::uint64_t offered = linked_size_.value_or(status_ == 200 ? content_length_.value_or(0) : 0);
    if (download_.bytes != 0 && offered != 0 && offered != download_.bytes) {
      reason_ = "the server offers " + std::to_string(offered) + " bytes, wanted " + std::to_string(download_.bytes);
      return false;
    }
    std::ofstream out(id_file_, std::ios::binary | std::ios::trunc);
    out << id << '\n';
    return true;
  }

  /// All bytes are there: are they the right ones?
  Result<Fetched> accept() {
    Fetched fetched;
    fetched.bytes = have_;
    fetched.sha256 = digest_.finish();
    std::string wanted = download_.sha256;
    fetched.proof = Proof::listed;
    if (wanted.empty()) {
      fetched.proof = Proof::server;
      if (is_sha256(linked_etag_)) {
        wanted = linked_etag_;
      } else if (is_sha256(lower(etag_))) {
        wanted = lower(etag_);
      } else {
        fetched.proof = Proof::size;
      }
    }
    if (total() != 0 && have_ != total()) {
      remove_part();
      return failed("got " + std::to_string(have_) + " bytes, wanted " + std::to_string(total()));
    }
    if (!wanted.empty() && fetched.sha256 != wanted) {
      remove_part();
      return failed("its SHA-256 is " + fetched.sha256 + ", wanted " + wanted + "; what came was removed");
    }
    std::error_code error;
    fs::rename(part_, download_.to, error);
    if (error) return failed(download_.to.string() + " cannot be put in place: " + error.message());
    fs::remove(id_file_, error);
    return fetched;
  }

  struct FileFree {
    void operator()(std::FILE* file) const noexcept { (void)std::fclose(file); }
  };

  const Download& download_;
  const FetchOptions& options_;
  const FetchProgress& progress_;
  std::string url_;
  fs::path part_;
  fs::path id_file_;
  std::unique_ptr<std::FILE, FileFree> file_;
  Digest digest_ = Digest::sha256();
  std::string part_id_;
  std::uint64_t have_ = 0;
  bool was_resumed_ = false;

  // Of the answer.
  long status_ = 0;
  std::optional<std::uint64_t> content_length_, linked_size_, range_begin_, whole_size_;
  std::string etag_, linked_etag_;
  bool has_body_ = false;
  bool must_begin_anew_ = false;
  std::string reason_;
};

}  // namespace

Result<Fetched> fetch(const Download& download, const FetchOptions& options, const FetchProgress& progress) {
  Error error{Errc::bad_file, download.to.string() + ": no URL to fetch it from"};
  for (const std::string& url : download.urls) {
    auto fetched = Transfer(download, options, progress, url).run();
    if (fetched) return fetched;
    error = fetched.error();
  }
  return error;
}

std::uint64_t bytes_there(const fs::path& to) {
  std::error_code error;
  if (read_line(with(to, ".part.id")).empty()) return 0;
  const auto bytes = fs::file_size(with(to, ".part"), error);
  return error ? 0 : bytes;
}

std::string escaped_path(std::string_view path) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                          std::string_view("-._~/").find(c) != std::string_view::npos;
    if (is_plain) {
      out += c;
    } else {
      out += '%';
      out += kHex[byte >> 4U];
      out += kHex[byte & 0xFU];
    }
  }
  return out;
}

}  // namespace tts
