#include "src/core/digest.h"

#include <array>
#include <stdexcept>

#include <openssl/evp.h>

namespace tts {
namespace {

void check(int done) {
  if (done != 1) throw std::runtime_error("checksum: the cryptographic library refuses");
}

}  // namespace

void Digest::Free::operator()(void* context) const noexcept {
  EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context));
}

Digest::Digest(const void* algorithm) : context_(EVP_MD_CTX_new()) {
  if (context_ == nullptr) throw std::bad_alloc();
  check(EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(context_.get()), static_cast<const EVP_MD*>(algorithm), nullptr));
}

Digest Digest::sha256() {
  return Digest(EVP_sha256());
}
Digest Digest::md5() {
  return Digest(EVP_md5());
}

void Digest::update(std::span<const std::byte> bytes) {
  check(EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_.get()), bytes.data(), bytes.size()));
}

std::string Digest::finish() {
  static constexpr char kHex[] = "0123456789abcdef";
  std::array<unsigned char, EVP_MAX_MD_SIZE> raw{};
  unsigned int size = 0;
  check(EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(context_.get()), raw.data(), &size));
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    hex += kHex[raw[i] >> 4U];
    hex += kHex[raw[i] & 0xFU];
  }
  return hex;
}

std::string sha256_hex(std::span<const std::byte> bytes) {
  Digest digest = Digest::sha256();
  digest.update(bytes);
  return digest.finish();
}

}  // namespace tts
