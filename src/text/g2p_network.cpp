#include "src/text/g2p_network.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "src/core/safetensors.h"
#include "src/text/phonemes.h"

namespace tts {
namespace {

constexpr std::size_t kLetters = 26;

float dot(const float* a, const float* b, std::size_t n) {
  // Eight sums, so that the compiler may use vectors without reordering ours.
  std::array<float, 8> sums{};
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (std::size_t k = 0; k < 8; ++k) sums[k] += a[i + k] * b[i + k];
  }
  float sum = 0;
  for (const float part : sums) sum += part;
  for (; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

float sigmoid(float x) {
  return 1.0F / (1.0F + std::exp(-x));
}

}  // namespace

void G2pNetwork::Gru::step(const float* input, std::vector<float>& state) const {
  std::vector<float> next(size);
  for (std::size_t j = 0; j < size; ++j) {
    const auto from_input = [&](std::size_t row) { return dot(&w_ih[row * inputs], input, inputs) + b_ih[row]; };
    const auto from_state = [&](std::size_t row) { return dot(&w_hh[row * size], state.data(), size) + b_hh[row]; };
    const float r = sigmoid(from_input(j) + from_state(j));
    const float z = sigmoid(from_input(size + j) + from_state(size + j));
    const float n = std::tanh(from_input(2 * size + j) + r * from_state(2 * size + j));
    next[j] = (1.0F - z) * n + z * state[j];
  }
  state.swap(next);
}

Result<G2pNetwork> G2pNetwork::open(const std::filesystem::path& file) {
  auto opened = SafeTensors::open(file);
  if (!opened) return opened.error();
  const SafeTensors& tensors = *opened;
  const auto bad = [&](const std::string& what) { return Error{Errc::bad_file, file.string() + ": " + what}; };

  G2pNetwork network;
  const auto listed = tensors.metadata().find("chunks");
  if (listed == tensors.metadata().end()) return bad("metadata has no \"chunks\"");
  for (std::size_t at = 0; at <= listed->second.size();) {
    const std::size_t comma = std::min(listed->second.find(',', at), listed->second.size());
    std::vector<std::int32_t> chunk;
    for (std::size_t from = at; from < comma;) {
      const std::size_t space = std::min(listed->second.find(' ', from), comma);
      const std::string symbol = listed->second.substr(from, space - from);
      const auto id = phoneme_id(symbol);
      if (!id) return bad("unknown phoneme \"" + symbol + "\"");
      chunk.push_back(*id);
      from = space + 1;
    }
    network.chunks_.push_back(std::move(chunk));
    at = comma + 1;
  }

  const auto load = [&](const char* name, std::vector<std::int64_t> shape, std::vector<float>& into) -> Result<void> {
    auto view = tensors.get(name, shape);
    if (!view) return view.error();
    auto values = to_floats(*view);
    if (!values) return values.error();
    into = std::move(*values);
    return {};
  };
  const auto axis = [&](const char* name, std::size_t rank, std::size_t which) -> std::int64_t {
    const TensorView* view = tensors.find(name);
    return view != nullptr && view->shape.size() == rank ? view->shape[which] : 0;
  };
  const auto n_chunks = static_cast<std::int64_t>(network.chunks_.size());
  const std::int64_t dim = axis("letter.weight", 2, 1);
  const std::int64_t hidden = axis("encoder.weight_hh_l0", 2, 1);
  const std::int64_t decoder = axis("decoder.weight_hh_l0", 2, 1);
  constexpr std::int64_t kMost = 4096;
  if (dim < 1 || hidden < 1 || decoder < 1 || dim > kMost || hidden > kMost || decoder > kMost) {
    return bad("letter.weight, encoder.weight_hh_l0 or decoder.weight_hh_l0 is missing or has no sensible shape");
  }
  network.dim_ = static_cast<std::size_t>(dim);
  struct Wanted {
    std::string name;
    std::vector<std::int64_t> shape;
    std::vector<float>* into;
  };
  std::vector<Wanted> wanted = {{"letter.weight", {kLetters, dim}, &network.letter_},
                                {"chunk.weight", {n_chunks + 1, dim}, &network.chunk_},
                                {"out.weight", {n_chunks, decoder}, &network.out_w_},
                                {"out.bias", {n_chunks}, &network.out_b_}};
  const auto want_gru = [&](const std::string& name, const std::string& suffix, std::int64_t inputs, std::int64_t size,
                            Gru& gru) {
    gru.inputs = static_cast<std::size_t>(inputs);
    gru.size = static_cast<std::size_t>(size);
    wanted.push_back({name + ".weight_ih_l0" + suffix, {3 * size, inputs}, &gru.w_ih});
    wanted.push_back({name + ".weight_hh_l0" + suffix, {3 * size, size}, &gru.w_hh});
    wanted.push_back({name + ".bias_ih_l0" + suffix, {3 * size}, &gru.b_ih});
    wanted.push_back({name + ".bias_hh_l0" + suffix, {3 * size}, &gru.b_hh});
  };
  want_gru("encoder", "", dim, hidden, network.forward_);
  want_gru("encoder", "_reverse", dim, hidden, network.backward_);
  want_gru("decoder", "", 2 * hidden + dim, decoder, network.decoder_);
  for (const Wanted& one : wanted) {
    if (auto done = load(one.name.c_str(), one.shape, *one.into); !done) return done.error();
  }
  return network;
}

void G2pNetwork::piece(std::string_view letters, std::vector<std::int32_t>& out) const {
  const std::size_t n = letters.size();
  const std::size_t hidden = forward_.size;
  const auto embedding = [&](std::size_t i) { return &letter_[static_cast<std::size_t>(letters[i] - 'a') * dim_]; };
  // [n, 2 * hidden + dim]: both readings, then room for the chunk before.
  const std::size_t width = decoder_.inputs;
  std::vector<float> inputs(n * width);
  std::vector<float> state(hidden, 0.0F);
  for (std::size_t i = 0; i < n; ++i) {
    forward_.step(embedding(i), state);
    std::copy(state.begin(), state.end(), inputs.begin() + static_cast<std::ptrdiff_t>(i * width));
  }
  std::fill(state.begin(), state.end(), 0.0F);
  for (std::size_t i = n; i-- > 0;) {
    backward_.step(embedding(i), state);
    std::copy(state.begin(), state.end(), inputs.begin() + static_cast<std::ptrdiff_t>(i * width + hidden));
  }
  state.assign(decoder_.size, 0.0F);
  std::size_t seen = chunks_.size();  // nothing before
  for (std::size_t i = 0; i < n; ++i) {
    const float* before = &chunk_[seen * dim_];
    std::copy(before, before + dim_, inputs.begin() + static_cast<std::ptrdiff_t>(i * width + 2 * hidden));
    decoder_.step(&inputs[i * width], state);
    float best = 0;
    for (std::size_t k = 0; k < chunks_.size(); ++k) {
      const float score = dot(&out_w_[k * decoder_.size], state.data(), decoder_.size) + out_b_[k];
      if (k == 0 || score > best) {
        best = score;
        seen = k;
      }
    }
    out.insert(out.end(), chunks_[seen].begin(), chunks_[seen].end());
  }
}

std::vector<std::int32_t> G2pNetwork::phonemes(std::string_view word) const {
  std::string letters;
  for (const char c : word) {
    if (letters.size() == 4 * max_letters_) break;
    if (c >= 'a' && c <= 'z') letters += c;
    if (c >= 'A' && c <= 'Z') letters += static_cast<char>(c + 32);
  }
  std::vector<std::int32_t> out;
  for (std::size_t at = 0; at < letters.size(); at += max_letters_) {
    piece(std::string_view(letters).substr(at, max_letters_), out);
  }
  return out;
}

}  // namespace tts
