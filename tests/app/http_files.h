#pragma once

#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>

namespace tts::testing {

/// A file server of its own thread on a free local port, one request a connection, with the faults a test asks for.
class HttpFiles {
 public:
  struct File {
    std::string body{};
    std::string etag{};
    std::string linked_etag{};  ///< told with a redirection, as Hugging Face does for large files
    std::string redirect_to{};  ///< path of this server; answered with 302
    bool knows_ranges = true;   ///< or sends everything, always
    std::size_t cut_after = 0;  ///< bytes of a body after which the connection breaks; 0: never
    int refusals = 0;           ///< so many requests are answered with `refusal` first
    int refusal = 503;
  };

  HttpFiles() : acceptor_(context_, {boost::asio::ip::address_v4::loopback(), 0}) {
    url_ = "http://127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port());
    thread_ = std::thread([this] { serve(); });
  }
  ~HttpFiles() {
    boost::system::error_code ignored;
    is_stopping_ = true;
    boost::asio::ip::tcp::socket knock(context_);
    knock.connect(acceptor_.local_endpoint(), ignored);
    thread_.join();
  }

  [[nodiscard]] const std::string& url() const { return url_; }
  void put(const std::string& path, File file) {
    const std::lock_guard lock(mutex_);
    files_[path] = std::move(file);
  }
  /// "PATH" or "PATH from N" of every request so far.
  [[nodiscard]] std::vector<std::string> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void serve() {
    while (true) {
      boost::system::error_code error;
      boost::asio::ip::tcp::socket socket(context_);
      acceptor_.accept(socket, error);
      if (is_stopping_) return;
      if (error) continue;
      boost::asio::streambuf buffer;
      const std::size_t n = boost::asio::read_until(socket, buffer, "\r\n\r\n", error);
      if (error) continue;
      const auto data = static_cast<const char*>(buffer.data().data());
      answer(socket, std::string(data, n));
    }
  }

  void answer(boost::asio::ip::tcp::socket& socket, const std::string& request) {
    const std::size_t begin = request.find(' ') + 1;
    const std::string path = request.substr(begin, request.find(' ', begin) - begin);
    std::size_t from = 0;
    const std::size_t range = request.find("Range: bytes=");
    if (range != std::string::npos) from = std::strtoull(request.c_str() + range + 13, nullptr, 10);
    File file;
    bool is_there = false;
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(path + (range != std::string::npos ? " from " + std::to_string(from) : ""));
      const auto found = files_.find(path);
      is_there = found != files_.end();
      if (is_there) {
        file = found->second;
        if (found->second.refusals > 0) --found->second.refusals;
      }
    }
    std::string head;
    std::string body{};
    if (!is_there) {
      head = "HTTP/1.1 404 Not Found\r\n";
      body = "no such file";
    } else if (file.refusals > 0) {
      head = "HTTP/1.1 " + std::to_string(file.refusal) + " Later\r\n";
      body = "not now";
    } else if (!file.redirect_to.empty()) {
      head = "HTTP/1.1 302 Found\r\nLocation: " + file.redirect_to + "\r\n";
      if (!file.linked_etag.empty()) head += "X-Linked-ETag: \"" + file.linked_etag + "\"\r\n";
      head += "X-Linked-Size: " + std::to_string(file.body.size()) + "\r\n";
    } else if (range != std::string::npos && file.knows_ranges) {
      const std::string whole = std::to_string(file.body.size());
      if (from >= file.body.size()) {
        head = "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */" + whole + "\r\n";
      } else {
        body = file.body.substr(from);
        head = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes " + std::to_string(from) + "-" +
               std::to_string(file.body.size() - 1) + "/" + whole + "\r\n";
      }
    } else {
      head = "HTTP/1.1 200 OK\r\n";
      body = file.body;
    }
    if (!file.etag.empty()) head += "ETag: \"" + file.etag + "\"\r\n";
    head += "Content-Length: " + std::to_string(file.redirect_to.empty() ? body.size() : 0) +
            "\r\nConnection: close\r\n\r\n";
    if (file.cut_after > 0 && body.size() > file.cut_after && head.find("20") == 9) body.resize(file.cut_after);
    boost::system::error_code ignored;
    boost::asio::write(socket, boost::asio::buffer(head + (file.redirect_to.empty() ? body : "")), ignored);
    socket.shutdown(boost::asio::ip::tcp::socket::shutdown_both, ignored);
  }

  boost::asio::io_context context_;
  boost::asio::ip::tcp::acceptor acceptor_;
  std::string url_;
  std::thread thread_;
  std::atomic<bool> is_stopping_ = false;
  std::mutex mutex_;
  std::map<std::string, File> files_;
  std::vector<std::string> requests_;
};

}  // namespace tts::testing
