#include "models/cuda/t2s_cuda.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "models/cuda/device.h"
#include "models/cuda/memory.h"
#include "models/cuda/t2s_kernels.h"
#include "models/sine_positions.h"

namespace tts::TTS_CUDA_NAMESPACE {
namespace {

constexpr std::int64_t kMostFloats = 1024;  ///< inputs of a linear layer that come in float32
constexpr std::int64_t kMostLow = 3584;     ///< inputs of any other: 32 rows of them fit into shared memory
constexpr int kFirstWithOverlap = 9;        ///< compute capability that knows programmatic dependent launch

std::size_t size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

struct Linear {
  const uint4* weight = nullptr;
  const float* bias = nullptr;
  std::int32_t in = 0;
  std::int32_t out = 0;
};

struct Layer {
  Linear qkv, out_proj, ffn1, ffn2;
  const float* gain1 = nullptr;
  const float* shift1 = nullptr;
  const float* gain2 = nullptr;
  const float* shift2 = nullptr;
};

/// Numbers of one kind in the device's memory, gathered on the host first.
template <class T>
class Store {
 public:
  /// Where `values` will be once uploaded, as an offset.
  std::size_t add(const std::vector<T>& values) {
    const std::size_t at = all_.size();
    all_.insert(all_.end(), values.begin(), values.end());
    return at;
  }
  void upload(const char* what) {
    memory_ = DeviceBuffer<T>(all_.size(), what);
    check(cudaMemcpy(memory_.data(), all_.data(), all_.size() * sizeof(T), cudaMemcpyHostToDevice), what);
    all_ = {};
  }
  [[nodiscard]] const T* at(std::size_t offset) const { return memory_.data() + offset; }

 private:
  std::vector<T> all_;
  DeviceBuffer<T> memory_;
};

/// What the entries of one pass through the layers leave behind.
struct Work {
  std::int64_t entries = 0;
  DeviceBuffer<Entry> entry;
  DeviceBuffer<float> y;  ///< [entries, hidden] before the second norm, or embedded
  DeviceBuffer<float> z;  ///< [entries, hidden] before the first norm
  DeviceBuffer<float> x;  ///< [entries, hidden] what enters the attention
  DeviceBuffer<float> u;  ///< [entries, hidden] what enters the feed-forward part
  DeviceBuffer<float> q;  ///< [entries, attended]
  DeviceBuffer<std::uint16_t> attended;
  DeviceBuffer<std::uint16_t> inner;  ///< [entries, ffn]

  void reserve(std::int64_t n, const T2SConfig& c) {
    if (n <= entries) return;
    entries = 0;
    const char* const what = "what the layers leave behind";
    entry = DeviceBuffer<Entry>(size(n), what);
    y = DeviceBuffer<float>(size(n * c.hidden), what);
    z = DeviceBuffer<float>(size(n * c.hidden), what);
    x = DeviceBuffer<float>(size(n * c.hidden), what);
    u = DeviceBuffer<float>(size(n * c.hidden), what);
    q = DeviceBuffer<float>(size(n * c.attended()), what);
    attended = DeviceBuffer<std::uint16_t>(size(n * c.attended()), what);
    inner = DeviceBuffer<std::uint16_t>(size(n * c.ffn()), what);
    entries = n;
  }
};

class CudaT2S;

class CudaState final : public TokenState {
 public:
  CudaState(const CudaT2S& model, std::int64_t rows, std::int64_t capacity);
  CudaState(const CudaState&) = delete;
  CudaState& operator=(const CudaState&) = delete;
  ~CudaState() override;

  [[nodiscard]] std::int64_t rows() const noexcept override { return rows_; }
  [[nodiscard]] std::int64_t capacity() const noexcept override { return capacity_; }
  [[nodiscard]] std::span<const float> logits(std::int64_t row) const override;
  void set_attention_probes(std::vector<Probe> probes) override;
  /// The text's columns alone.
  [[nodiscard]] std::span<const float> attention(std::size_t index, std::int64_t row) const override;

 private:
  friend class CudaT2S;

  /// Waits for the prefill under way, if there is one, or if it is this row's.
  void finish_prefill(std::optional<std::int64_t> row = std::nullopt) const;
  void check_row(std::int64_t row) const;

  const CudaT2S& model_;
  const std::int64_t rows_;
  const std::int64_t capacity_;
  Stream decode_;
  Stream prefill_;
  Event prefilled_;
  mutable std::int64_t under_way_ = -1;  ///< the row whose prefill has not been waited for
  DeviceBuffer<std::uint16_t> keys_;     ///< [layers, rows, heads, capacity, width]
  DeviceBuffer<std::uint16_t> values_;   ///< same
  Work step_work_;
  Work prefill_work_;
  HostBuffer<Entry> step_entries_;
  HostBuffer<Entry> prefill_entries_;
  HostBuffer<float> features_;  ///< of one prefill's text
  DeviceBuffer<float> features_there_;
  HostBuffer<float> logits_;                ///< [rows, stride]
  DeviceBuffer<std::int32_t> probe_table_;  ///< [layers, heads]: which probe, or -1
  std::vector<Probe> probes_;
  HostBuffer<float> weights_;             ///< [probes, rows, capacity]
  std::map<std::int64_t, Graph> graphs_;  ///< of decode steps, by entries
  std::vector<std::int64_t> text_;        ///< phonemes of a row
  std::vector<std::int64_t> kept_;        ///< text and prompt
  std::vector<std::int64_t> length_;      ///< kept and tokens
  std::vector<std::int64_t> position_;    ///< the next token's place among the audio tokens
};

class CudaT2S final : public TokenModel {
 public:
  CudaT2S(const T2SConfig& config, const ReadTensor& read, T2SPrecision precision, std::int64_t window, int device,
          bool overlap);

  [[nodiscard]] const T2SConfig& config() const noexcept override { return config_; }
  [[nodiscard]] T2SPrecision precision() const noexcept override { return precision_; }
  [[nodiscard]] std::int64_t window() const noexcept override { return window_; }
  [[nodiscard]] std::uint64_t row_bytes(std::int64_t positions) const override {
    return 4 * static_cast<std::uint64_t>(config_.layers * config_.attended() * positions);
  }
  [[nodiscard]] std::optional<std::uint64_t> device_memory() const override { return free_memory(device_); }
  [[nodiscard]] std::unique_ptr<TokenState> make_token_state(std::int64_t rows, std::int64_t capacity) const override;
  void start_row(std::span<const std::int32_t> phonemes, std::span<const float> bert,
                 std::span<const std::int32_t> prompt, TokenState& state, std::int64_t row) const override;
  void step_rows(std::span<const std::int64_t> rows, std::span<const std::int32_t> tokens,
                 TokenState& state) const override;

  /// Every thread has a current device of its own.
  void use_device() const { check(cudaSetDevice(device_), "the device"); }
  [[nodiscard]] int device() const noexcept { return device_; }
  [[nodiscard]] std::int64_t width() const noexcept { return config_.attended() / config_.heads; }
  /// Of a row's logits.
  [[nodiscard]] std::int64_t stride() const noexcept { return (config_.vocab + 7) / 8 * 8; }

 private:
  struct Pass {
    Work* work = nullptr;
    const Entry* from = nullptr;  ///< as the device sees it
    std::int64_t n = 0;
    bool is_prefill = false;
    const float* features = nullptr;  ///< [n_text, bert_dim], or null
    std::int64_t n_text = 0;
    bool overlaps = false;
    cudaStream_t stream = nullptr;
  };
  void enqueue(const Pass& pass, const CudaState& state) const;
  template <class F>
  void enqueue_in(const Pass& pass, const CudaState& state) const;
  template <class F, Input kIn, Output kOut>
  void linear(const Linear& layer, LinearArgs args, const Pass& pass) const;
  template <class F, int kWidth>
  void attend_width(const AttendArgs& args, const Pass& pass) const;
  void step_and_capture(std::int64_t n, CudaState& state) const;

  [[nodiscard]] std::vector<uint4> packed(const std::vector<float>& weight, std::int64_t out, std::int64_t in) const;

  const T2SConfig config_;
  const T2SPrecision precision_;
  const std::int64_t window_;
  const int device_;
  bool can_overlap_ = false;
  Store<uint4> weights_;
  Store<float> floats_;
  const float* text_ = nullptr;
  const float* audio_ = nullptr;
  const float* positions_ = nullptr;
  float text_alpha_ = 1;
  float audio_alpha_ = 1;
  Linear bert_;
  std::vector<Layer> layers_;
  Linear predict_;
};

template <class... Wanted, class... Given>
void launch(void (*kernel)(Wanted...), dim3 grid, unsigned threads, std::size_t shared, bool overlaps,
            cudaStream_t stream, Given&&... given) {
  constexpr std::size_t kFree = 48 * 1024;  // without asking
  if (shared > kFree) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)),
          "shared memory of a kernel");
  }
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3{threads, 1, 1};
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = overlaps ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Given>(given)...), "a kernel");
}

// ---- state

CudaState::CudaState(const CudaT2S& model, std::int64_t rows, std::int64_t capacity)
    : model_(model), rows_(rows), capacity_(capacity) {
  const T2SConfig& c = model.config();
  const std::int64_t n = c.layers * rows * capacity * c.attended();
  const std::string what = std::to_string(4 * n >> 20) + " MiB of keys and values";
  keys_ = DeviceBuffer<std::uint16_t>(size(n), what.c_str());
  values_ = DeviceBuffer<std::uint16_t>(size(n), what.c_str());
  std::int64_t most = 1;
  while (most < rows) most *= 2;
  step_work_.reserve(most, c);
  step_entries_ = HostBuffer<Entry>(size(most));
  logits_ = HostBuffer<float>(size(rows * model.stride()));
  probe_table_ = DeviceBuffer<std::int32_t>(size(c.layers * c.heads), "the watched heads");
  const std::vector<std::int32_t> none(size(c.layers * c.heads), -1);
  check(cudaMemcpy(probe_table_.data(), none.data(), none.size() * sizeof(none[0]), cudaMemcpyHostToDevice),
        "the watched heads");
  text_.assign(size(rows), 0);
  kept_.assign(size(rows), 0);
  length_.assign(size(rows), 0);
  position_.assign(size(rows), 0);
}

CudaState::~CudaState() {
  (void)cudaSetDevice(model_.device());
  (void)cudaStreamSynchronize(prefill_.get());
}

void CudaState::check_row(std::int64_t row) const {
  if (row < 0 || row >= rows_) throw std::out_of_range("T2S row " + std::to_string(row));
}

void CudaState::finish_prefill(std::optional<std::int64_t> row) const {
  if (under_way_ < 0 || (row && *row != under_way_)) return;
  under_way_ = -1;
  model_.use_device();
  check(cudaEventSynchronize(prefilled_.get()), "a prefill");
}

std::span<const float> CudaState::logits(std::int64_t row) const {
  check_row(row);
  finish_prefill(row);
  return {logits_.data() + row * model_.stride(), size(model_.config().vocab)};
}

void CudaState::set_attention_probes(std::vector<Probe> probes) {
  if (probes == probes_) return;
  const T2SConfig& c = model_.config();
  finish_prefill();
  model_.use_device();
  std::vector<std::int32_t> table(size(c.layers * c.heads), -1);
  for (std::size_t i = 0; i < probes.size(); ++i) {
    const Probe& p = probes[i];
    if (p.layer < 0 || p.layer >= c.layers || p.head < 0 || p.head >= c.heads) continue;
    table[size(p.layer * c.heads + p.head)] = static_cast<std::int32_t>(i);
  }
  if (probes.size() > probes_.size()) {
    graphs_.clear();  // they know the old memory
    weights_ = HostBuffer<float>(probes.size() * size(rows_ * capacity_));
  }
  check(cudaMemcpy(probe_table_.data(), table.data(), table.size() * sizeof(table[0]), cudaMemcpyHostToDevice),
        "the watched heads");
  probes_ = std::move(probes);
}

std::span<const float> CudaState::attention(std::size_t index, std::int64_t row) const {
  check_row(row);
  if (index >= probes_.size()) throw std::out_of_range("T2S probe " + std::to_string(index));
  finish_prefill(row);
  return {weights_.data() + (static_cast<std::int64_t>(index) * rows_ + row) * capacity_, size(text_[size(row)])};
}

// ---- weights

/// [tiles, in / 32, lanes] of 8 numbers, see LinearArgs::weight; outputs past the last one are zeros.
std::vector<uint4> CudaT2S::packed(const std::vector<float>& weight, std::int64_t out, std::int64_t in) const {
  const std::int64_t tiles = (out + kTileOutputs - 1) / kTileOutputs;
  const std::int64_t fragments = in / kFragment;
  std::vector<uint4> result(size(tiles * fragments * 32), uint4{0, 0, 0, 0});
  const auto pair = [&](const float* from) {
    return precision_ == T2SPrecision::bf16 ? Bf16::pack(from[0], from[1]) : Fp16::pack(from[0], from[1]);
  };
  for (std::int64_t o = 0; o < out; ++o) {
    for (std::int64_t f = 0; f < fragments; ++f) {
      for (std::int64_t part = 0; part < 4; ++part) {
        const float* from = weight.data() + o * in + f * kFragment + 8 * part;
        const std::int64_t lane = o % kTileOutputs * 4 + part;
        result[size((o / kTileOutputs * fragments + f) * 32 + lane)] = {pair(from), pair(from + 2), pair(from + 4),
                                                                        pair(from + 6)};
      }
    }
  }
  return result;
}

CudaT2S::CudaT2S(const T2SConfig& config, const ReadTensor& read, T2SPrecision precision, std::int64_t window,
                 int device, bool overlap)
    : config_(config), precision_(precision), window_(window), device_(device) {
  use_device();
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "the device");
  can_overlap_ = overlap && properties.major >= kFirstWithOverlap;

  const std::int64_t d = config.hidden;
  std::vector<float> text = read("ar_text_embedding.word_embeddings.weight", {config.phoneme_vocab, d});
  std::vector<float> features_bias = read("bert_proj.bias", {d});
  for (std::size_t i = 0; i < text.size() && !features_bias.empty(); ++i) text[i] += features_bias[i % size(d)];
  text_alpha_ = read("ar_text_position.alpha", {1}).at(0);
  audio_alpha_ = read("ar_audio_position.alpha", {1}).at(0);
  // Offsets until both stores are on the device.
  struct Offsets {
    std::size_t weight = 0, bias = 0;
    bool biased = false;
  };
  const auto add = [&](const std::string& weight, const std::string& bias, std::int64_t out, std::int64_t in) {
    Offsets at;
    at.weight = weights_.add(packed(read(weight, {out, in}), out, in));
    at.biased = !bias.empty();
    if (at.biased) at.bias = floats_.add(read(bias, {out}));
    return at;
  };
  const std::size_t text_at = floats_.add(text);
  const std::size_t audio_at = floats_.add(read("ar_audio_embedding.word_embeddings.weight", {config.vocab, d}));
  const std::size_t positions_at = floats_.add(sine_positions(kT2SPositions, d));
  Offsets bert;
  if (config.bert_dim > 0) bert = add("bert_proj.weight", "", d, config.bert_dim);
  struct LayerOffsets {
    Offsets qkv, out_proj, ffn1, ffn2;
    std::size_t norms[4];
  };
  std::vector<LayerOffsets> at(size(config.layers));
  for (std::int64_t i = 0; i < config.layers; ++i) {
    const std::string name = "h.layers." + std::to_string(i) + ".";
    LayerOffsets& l = at[size(i)];
    l.qkv = add(name + "self_attn.in_proj_weight", name + "self_attn.in_proj_bias", 3 * config.attended(), d);
    l.out_proj = add(name + "self_attn.out_proj.weight", name + "self_attn.out_proj.bias", d, config.attended());
    l.ffn1 = add(name + "linear1.weight", name + "linear1.bias", config.ffn(), d);
    l.ffn2 = add(name + "linear2.weight", name + "linear2.bias", d, config.ffn());
    int k = 0;
    for (const char* norm : {"norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"}) {
      l.norms[k++] = floats_.add(read(name + norm, {d}));
    }
  }
  const Offsets predict = add("ar_predict_layer.weight", "", config.vocab, d);
  weights_.upload("weights");
  floats_.upload("embeddings");

  const auto there = [&](const Offsets& o, std::int64_t out, std::int64_t in) {
    return Linear{weights_.at(o.weight), o.biased ? floats_.at(o.bias) : nullptr, static_cast<std::int32_t>(in),
                  static_cast<std::int32_t>(out)};
  };
  text_ = floats_.at(text_at);
  audio_ = floats_.at(audio_at);
  positions_ = floats_.at(positions_at);
  if (config.bert_dim > 0) bert_ = there(bert, d, config.bert_dim);
  for (const LayerOffsets& l : at) {
    layers_.push_back({there(l.qkv, 3 * config.attended(), d), there(l.out_proj, d, config.attended()),
                       there(l.ffn1, config.ffn(), d), there(l.ffn2, d, config.ffn()), floats_.at(l.norms[0]),
                       floats_.at(l.norms[1]), floats_.at(l.norms[2]), floats_.at(l.norms[3])});
  }
  predict_ = there(predict, config.vocab, d);
}

// ---- layers

template <class F, Input kIn, Output kOut>
void CudaT2S::linear(const Linear& layer, LinearArgs args, const Pass& pass) const {
  // Twice the outputs for each block where there are blocks enough for every multiprocessor.
  constexpr int kTiles = kOut == Output::qkv || kOut == Output::relu ? 2 : 1;
  args.weight = layer.weight;
  args.bias = layer.bias;
  args.in = layer.in;
  args.out = layer.out;
  args.slices = slices_of(layer.in);
  const int tiles = (layer.out + kTileOutputs - 1) / kTileOutputs;
  const auto in_widths = [&](auto quads) {
    constexpr int kQuads = decltype(quads)::value;
    if (args.n <= kSmallEntries) {
      launch(linear_small<F, kIn, kOut, kTiles, kQuads>,
             dim3{static_cast<unsigned>((tiles + kTiles - 1) / kTiles), 1, 1}, 32U * static_cast<unsigned>(args.slices),
             linear_small_bytes(args, kIn, kTiles), pass.overlaps, pass.stream, args);
    } else {
      launch(linear_large<F, kIn, kOut, kQuads>,
             dim3{static_cast<unsigned>((tiles + kLargeTiles - 1) / kLargeTiles),
                  static_cast<unsigned>((args.n + kLargeEntries - 1) / kLargeEntries), 1},
             128, linear_large_bytes(args), pass.overlaps, pass.stream, args);
    }
  };
  if (kIn == Input::low || layer.in <= 512) {
    in_widths(std::integral_constant<int, 4>());
  } else {
    in_widths(std::integral_constant<int, 8>());
  }
}

template <class F, int kWidth>
void CudaT2S::attend_width(const AttendArgs& args, const Pass& pass) const {
  const dim3 grid{static_cast<unsigned>(args.heads), static_cast<unsigned>(pass.n), 1};
  const std::size_t bytes = attend_bytes(args.capacity, kWidth);
  // Few entries: all of a multiprocessor for each head. Many: as many blocks at once as it holds.
  if (pass.is_prefill) {
    launch(attend<F, kWidth, true>, grid, 128, bytes, pass.overlaps, pass.stream, args);
  } else {
    launch(attend<F, kWidth, false>, grid, pass.n <= 8 ? 512 : 128, bytes, pass.overlaps, pass.stream, args);
  }
}

template <class F>
void CudaT2S::enqueue_in(const Pass& pass, const CudaState& state) const {
  const Work& w = *pass.work;
  const auto n = static_cast<std::int32_t>(pass.n);
  // What went before it in the stream is none of these kernels.
  launch(embed, dim3{static_cast<unsigned>(n), 1, 1}, 128, 0, /*overlaps=*/false, pass.stream,
         EmbedArgs{pass.from, w.entry.data(), text_, audio_, positions_, text_alpha_, audio_alpha_,
                   static_cast<std::int32_t>(config_.hidden), w.y.data()});
  if (pass.features != nullptr) {
    LinearArgs args{};
    args.n = static_cast<std::int32_t>(pass.n_text);
    args.x = pass.features;
    args.y = w.y.data();
    args.residual = w.y.data();
    linear<F, Input::plain, Output::residual>(bert_, args, pass);
  }
  const std::int64_t of_layer = state.rows_ * state.capacity_ * config_.attended();
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const auto offset = static_cast<std::int64_t>(i) * of_layer;
    LinearArgs qkv{};
    qkv.n = n;
    qkv.x = w.y.data();
    qkv.kept = w.x.data();
    qkv.entries = w.entry.data();
    qkv.y = w.q.data();
    qkv.keys = state.keys_.data() + offset;
    qkv.values = state.values_.data() + offset;
    qkv.heads = static_cast<std::int32_t>(config_.heads);
    qkv.width = static_cast<std::int32_t>(width());
    qkv.capacity = static_cast<std::int32_t>(state.capacity_);
    if (i == 0) {
      linear<F, Input::plain, Output::qkv>(layer.qkv, qkv, pass);
    } else {
      qkv.gain = layers_[i - 1].gain2;
      qkv.shift = layers_[i - 1].shift2;
      linear<F, Input::normed, Output::qkv>(layer.qkv, qkv, pass);
    }

    AttendArgs attention{};
    attention.entries = w.entry.data();
    attention.q = w.q.data();
    attention.keys = qkv.keys;
    attention.values = qkv.values;
    attention.out = w.attended.data();
    attention.heads = qkv.heads;
    attention.capacity = qkv.capacity;
    attention.scale = 1.44269504F / std::sqrt(static_cast<float>(width()));
    attention.probes = state.probe_table_.data() + static_cast<std::int64_t>(i) * config_.heads;
    attention.weights = state.weights_.on_device();
    attention.rows = static_cast<std::int32_t>(state.rows_);
    attention.watched = pass.is_prefill ? n - 1 : 0;
    switch (width()) {
      case 16:
        attend_width<F, 16>(attention, pass);
        break;
      case 32:
        attend_width<F, 32>(attention, pass);
        break;
      default:
        attend_width<F, 64>(attention, pass);
    }

    LinearArgs out{};
    out.n = n;
    out.low = w.attended.data();
    out.y = w.z.data();
    out.residual = w.x.data();
    linear<F, Input::low, Output::residual>(layer.out_proj, out, pass);

    LinearArgs inner{};
    inner.n = n;
    inner.x = w.z.data();
    inner.gain = layer.gain1;
    inner.shift = layer.shift1;
    inner.kept = w.u.data();
    inner.low_out = w.inner.data();
    linear<F, Input::normed, Output::relu>(layer.ffn1, inner, pass);

    LinearArgs outer{};
    outer.n = n;
    outer.low = w.inner.data();
    outer.y = w.y.data();
    outer.residual = w.u.data();
    linear<F, Input::low, Output::residual>(layer.ffn2, outer, pass);
  }
  LinearArgs logits{};
  const std::int32_t from = pass.is_prefill ? n - 1 : 0;
  logits.n = n - from;
  logits.x = w.y.data() + from * config_.hidden;
  logits.gain = layers_.back().gain2;
  logits.shift = layers_.back().shift2;
  logits.entries = w.entry.data() + from;
  logits.y = state.logits_.on_device();
  logits.stride = static_cast<std::int32_t>(stride());
  linear<F, Input::normed, Output::logits>(predict_, logits, pass);
}

void CudaT2S::enqueue(const Pass& pass, const CudaState& state) const {
  if (precision_ == T2SPrecision::bf16) {
    enqueue_in<Bf16>(pass, state);
  } else {
    enqueue_in<Fp16>(pass, state);
  }
}

/// The first step of a batch of this size, kernel by kernel, which also loads them; the graph is for the next one.
/// Where the driver makes none, all go this way.
void CudaT2S::step_and_capture(std::int64_t n, CudaState& state) const {
  Pass pass;
  pass.work = &state.step_work_;
  pass.from = state.step_entries_.on_device();
  pass.n = n;
  pass.stream = state.decode_.get();
  pass.overlaps = can_overlap_;
  enqueue(pass, state);
  check(cudaStreamSynchronize(pass.stream), "a decode step");
  for (const bool overlaps : {can_overlap_, false}) {
    try {
      pass.overlaps = overlaps;
      state.graphs_.emplace(n, Graph(pass.stream, [&] { enqueue(pass, state); }));
      return;
    } catch (const CudaError&) {  // perhaps its graphs know no edges within kernels
    }
  }
}

// ---- the interface

std::unique_ptr<TokenState> CudaT2S::make_token_state(std::int64_t rows, std::int64_t capacity) const {
  if (rows < 1 || capacity < 1) {
    throw std::invalid_argument("T2S state of " + std::to_string(rows) + " rows, capacity " + std::to_string(capacity));
  }
  use_device();
  return std::make_unique<CudaState>(*this, rows, capacity);
}

void CudaT2S::start_row(std::span<const std::int32_t> phonemes, std::span<const float> bert,
                        std::span<const std::int32_t> prompt, TokenState& of, std::int64_t row) const {
  auto& state = dynamic_cast<CudaState&>(of);
  const auto n_text = static_cast<std::int64_t>(phonemes.size());
  const auto n_prompt = static_cast<std::int64_t>(prompt.size());
  const std::int64_t n = n_text + n_prompt;
  state.check_row(row);
  check_input(config_, phonemes, bert, prompt);
  if (n > state.capacity_) {
    throw std::invalid_argument("T2S input of " + std::to_string(n) + " positions, the state holds " +
                                std::to_string(state.capacity_));
  }

  use_device();
  state.finish_prefill();  // its memory is wanted
  state.length_[size(row)] = 0;
  state.prefill_work_.reserve(n, config_);
  if (state.prefill_entries_.size() < size(n)) state.prefill_entries_ = HostBuffer<Entry>(size(n));
  for (std::int64_t i = 0; i < n; ++i) {
    const bool is_text = i < n_text;
    Entry& e = state.prefill_entries_.data()[i];
    e.row = static_cast<std::int32_t>(row);
    e.slot = static_cast<std::int32_t>(i);
    e.cached = static_cast<std::int32_t>(std::max(n_text, i + 1));
    e.id = is_text ? phonemes[size(i)] : prompt[size(i - n_text)];
    e.place = static_cast<std::int32_t>(is_text ? i : i - n_text);
    e.is_text = is_text ? 1 : 0;
    e.columns = static_cast<std::int32_t>(n_text);
    e.unused = 0;
  }
  Pass pass;
  pass.work = &state.prefill_work_;
  pass.from = state.prefill_entries_.on_device();
  pass.n = n;
  pass.is_prefill = true;
  pass.n_text = n_text;
  pass.overlaps = can_overlap_;
  pass.stream = state.prefill_.get();
  if (!bert.empty()) {
    if (state.features_.size() < bert.size()) {
      state.features_ = HostBuffer<float>(bert.size());
      state.features_there_ = DeviceBuffer<float>(bert.size(), "features of a text");
    }
    std::copy(bert.begin(), bert.end(), state.features_.data());
    check(cudaMemcpyAsync(state.features_there_.data(), state.features_.data(), bert.size() * sizeof(float),
                          cudaMemcpyHostToDevice, pass.stream),
          "features of a text");
    pass.features = state.features_there_.data();
  }
  state.text_[size(row)] = n_text;
  enqueue(pass, state);
  check(cudaEventRecord(state.prefilled_.get(), pass.stream), "a prefill");
  state.under_way_ = row;
  state.length_[size(row)] = n;
  state.kept_[size(row)] = n;
  state.position_[size(row)] = n_prompt;
}

void CudaT2S::step_rows(std::span<const std::int64_t> rows, std::span<const std::int32_t> tokens,
                        TokenState& of) const {
  auto& state = dynamic_cast<CudaState&>(of);
  const auto n = static_cast<std::int64_t>(rows.size());
  if (rows.size() != tokens.size() || n > state.rows_) {
    throw std::invalid_argument("T2S step of " + std::to_string(rows.size()) + " rows and " +
                                std::to_string(tokens.size()) + " tokens; the state has " +
                                std::to_string(state.rows_) + " rows");
  }
  if (n == 0) return;
  std::int64_t entries = 1;
  while (entries < n) entries *= 2;
  std::vector<bool> seen(size(state.rows_));
  for (std::int64_t b = 0; b < entries; ++b) {
    Entry& e = state.step_entries_.data()[b];
    if (b >= n) {
      e = {-1, 0, 0, 0, 0, 0, 0, 0};
      continue;
    }
    const std::int64_t row = rows[size(b)];
    if (row < 0 || row >= state.rows_ || state.length_[size(row)] == 0) {
      throw std::invalid_argument("T2S row " + std::to_string(row) + " has no prefill");
    }
    const std::int64_t length = state.length_[size(row)];
    const std::int64_t kept = state.kept_[size(row)];
    const std::int64_t slot = window_ == 0 ? length : kept + (length - kept) % window_;
    if (slot >= state.capacity_ || state.position_[size(row)] >= kT2SPositions) {
      throw std::invalid_argument("T2S row " + std::to_string(row) + " is full at " + std::to_string(length) +
                                  " positions");
    }
    check_token(config_, tokens[size(b)]);
    if (seen[size(row)]) throw std::invalid_argument("T2S row " + std::to_string(row) + " is stepped twice at once");
    seen[size(row)] = true;
    e.row = static_cast<std::int32_t>(row);
    e.slot = static_cast<std::int32_t>(slot);
    e.cached = static_cast<std::int32_t>(window_ == 0 ? length + 1 : std::min(length + 1, kept + window_));
    e.id = tokens[size(b)];
    e.place = static_cast<std::int32_t>(state.position_[size(row)]);
    e.is_text = 0;
    e.columns = static_cast<std::int32_t>(state.text_[size(row)]);
    e.unused = 0;
  }
  for (const std::int64_t row : rows) state.finish_prefill(row);
  use_device();
  if (const auto graph = state.graphs_.find(entries); graph != state.graphs_.end()) {
    graph->second.launch(state.decode_.get());
    check(cudaStreamSynchronize(state.decode_.get()), "a decode step");
  } else {
    step_and_capture(entries, state);
  }
  for (const std::int64_t row : rows) {
    ++state.length_[size(row)];
    ++state.position_[size(row)];
  }
}

}  // namespace

int device_count() {
  int n = 0;
  if (cudaGetDeviceCount(&n) != cudaSuccess) {
    (void)cudaGetLastError();
    return 0;
  }
  int usable = 0;
  for (; usable < n; ++usable) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, usable) != cudaSuccess || properties.major < 8) break;
  }
  return usable;
}

std::string device_name(int device) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "the device");
  return properties.name;
}

std::uint64_t free_memory(int device) {
  check(cudaSetDevice(device), "the device");
  std::size_t free = 0;
  std::size_t total = 0;
  check(cudaMemGetInfo(&free, &total), "the free memory");
  return free;
}

std::string unfit(const T2SConfig& c) {
  const std::int64_t width = c.attended() / c.heads;
  if (c.hidden % 128 != 0 || c.hidden > kMostFloats) {
    return "hidden " + std::to_string(c.hidden) + " is not a multiple of 128 up to " + std::to_string(kMostFloats);
  }
  if (c.bert_dim % 128 != 0 || c.bert_dim > kMostFloats) {
    return "bert_dim " + std::to_string(c.bert_dim) + " is not a multiple of 128 up to " + std::to_string(kMostFloats);
  }
  if (width != 16 && width != 32 && width != 64) return "heads of " + std::to_string(width) + " columns; 16, 32 or 64";
  for (const std::int64_t in : {c.attended(), c.ffn()}) {
    if (in % kFragment != 0 || in > kMostLow) {
      return "a width of " + std::to_string(in) + " is not a multiple of 32 up to " + std::to_string(kMostLow);
    }
  }
  return {};
}

std::unique_ptr<const TokenModel> make_cuda_t2s(const T2SConfig& config, const ReadTensor& read, T2SPrecision precision,
                                                std::int64_t window, int device, bool overlap) {
  if (precision != T2SPrecision::bf16 && precision != T2SPrecision::fp16) {
    throw std::invalid_argument("the T2S on a GPU is bf16 or fp16");
  }
  if (const std::string why = unfit(config); !why.empty()) throw std::invalid_argument("T2S on a GPU: " + why);
  return std::make_unique<const CudaT2S>(config, read, precision, window, device, overlap);
}

}  // namespace tts::TTS_CUDA_NAMESPACE
