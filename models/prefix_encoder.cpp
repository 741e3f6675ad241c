#include "models/prefix_encoder.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include "models/layers.h"

namespace tts {

std::int64_t PrefixPolicy::block_end(std::int64_t index) const {
  std::int64_t end = first;
  double size = static_cast<double>(next);
  for (std::int64_t i = 0; i < index; ++i) {
    end += std::min(max, static_cast<std::int64_t>(std::lround(size)));
    size = std::min(size * growth, static_cast<double>(max));
  }
  return end;
}

std::int64_t PrefixPolicy::settled(std::int64_t n) const {
  std::int64_t end = 0;
  for (std::int64_t i = 0; lookahead && block_end(i) + *lookahead <= n; ++i) {
    end = block_end(i);
  }
  return end;
}

std::int64_t PrefixPolicy::useful(std::int64_t n, std::int64_t count) const {
  if (!lookahead) {
    return count;
  }
  std::int64_t found = 0;
  for (std::int64_t i = 0;; ++i) {
    const std::int64_t more = block_end(i) + *lookahead - n;
    if (found > 0 && more > count) {
      return found;
    }
    found = more;
  }
}

PrefixEncoder::PrefixEncoder(const SovitsFront& front, std::span<const std::int32_t> phonemes,
                             const SovitsFront::Speaker& speaker, const PrefixPolicy& policy, double speed)
    : front_(&front),
      ge_(speaker.text_ge),
      text_(front.encoder().encode_text(to_index(phonemes))),
      policy_(policy),
      speed_(speed),
      stretch_(speed) {
  check_speed(speed);
}

at::Tensor PrefixEncoder::encode(std::int64_t begin, std::int64_t end, std::int64_t known) const {
  const std::int64_t first = policy_.lookahead ? std::max<std::int64_t>(0, begin - policy_.context) : 0;
  return front_->encoder()
      .encode(quantized_.slice(2 * first, 2 * known), text_, ge_)
      .narrow(0, 2 * (begin - first), 2 * (end - begin));
}

at::Tensor PrefixEncoder::push(std::span<const std::int32_t> tokens, bool last) {
  if (ended_) {
    throw ModelError("acoustic stream: got tokens after the last, wanted none");
  }
  ended_ = last;
  const at::Tensor frames = encode_settled(tokens, last);
  if (policy_.lookahead) {
    return stretch_.push(frames, last);
  }
  return speed_ == 1.0 || frames.size(0) == 0 ? frames : resize_linear(frames, frames_at_speed(frames.size(0), speed_));
}

at::Tensor PrefixEncoder::encode_settled(std::span<const std::int32_t> tokens, bool last) {
  if (!tokens.empty()) {
    quantized_.append(front_->quantize(to_index(tokens)));
  }
  const std::int64_t known = this->tokens();
  std::vector<at::Tensor> out;
  while (policy_.lookahead && policy_.block_end(block_) + *policy_.lookahead <= known) {
    const std::int64_t end = policy_.block_end(block_++);
    out.push_back(encode(done_, end, end + *policy_.lookahead));
    done_ = end;
  }
  if (last && done_ < known) {
    out.push_back(encode(done_, known, known));
    done_ = known;
  }
  if (policy_.lookahead) {
    quantized_.drop_before(2 * (done_ - policy_.context));
  }
  return out.empty() ? at::zeros({0, front_->encoder().hidden()}, at::kFloat) : out.size() == 1 ? out[0] : at::cat(out);
}

}  // namespace tts
