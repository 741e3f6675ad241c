#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace tts {

/// Memory on a 64-byte boundary; `huge` asks the system for large pages, for what is read from end to end again and
/// again. Throws std::bad_alloc.
[[nodiscard]] void* allocate_aligned(std::size_t bytes, bool huge);
void free_aligned(void* memory) noexcept;

/// Numbers on a 64-byte boundary; uninitialised, so that a large buffer costs memory only where it is written.
template <class T>
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size, bool huge = false)
      : data_(static_cast<T*>(allocate_aligned(size * sizeof(T), huge))), size_(size) {}
  [[nodiscard]] T* data() noexcept { return data_.get(); }
  [[nodiscard]] const T* data() const noexcept { return data_.get(); }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  void fill(T value) noexcept {
    for (std::size_t i = 0; i < size_; ++i) data_[i] = value;
  }

 private:
  struct Free {
    void operator()(T* memory) const noexcept { free_aligned(memory); }
  };
  std::unique_ptr<T[], Free> data_;
  std::size_t size_ = 0;
};
using FloatBuffer = AlignedBuffer<float>;

/// The float32 loops of the T2S decode step for one instruction set. At its size the call overhead of tensor
/// operators is larger than the arithmetic, and a one-row product must run at memory speed, so these are plain C++ on
/// vector types, compiled once per instruction set. Single-threaded and without state.
struct Kernels {
  const char* name;    ///< "avx512", "avx2" or "base"
  std::int64_t panel;  ///< output columns per packed panel

  /// y[m, out] = x[m, in] W^T + bias, with W packed by PackedLinear. `bias` may be null. relu: max(y, 0) afterwards.
  /// A row of y is the same to the last bit whatever m is and whatever the other rows hold. Row i of x starts at x + i
  /// * ldx, likewise y.
  void (*linear)(const float* x, std::int64_t ldx, std::int64_t m, const float* packed, const float* bias,
                 std::int64_t in, std::int64_t out, float* y, std::int64_t ldy, bool relu);
  /// The same with weights in IEEE half, widened exactly; null where the instruction set cannot.
  void (*linear_half)(const float* x, std::int64_t ldx, std::int64_t m, const std::uint16_t* packed, const float* bias,
                      std::int64_t in, std::int64_t out, float* y, std::int64_t ldy, bool relu);
  /// One query over `length` cached rows (row t at k + t * hidden): heads of contiguous columns, softmax over
  /// q k^T / sqrt(hidden / heads), weighted sum of v into `out` [hidden].
  /// `scores` [heads * length] is scratch and holds the attention weights afterwards, head by head.
  void (*attend)(const float* q, const float* k, const float* v, std::int64_t length, std::int64_t hidden,
                 std::int64_t heads, float* scores, float* out);
  /// row[0..n) = softmax(row * scale), in place.
  void (*softmax)(float* row, std::int64_t n, float scale);
  /// x = LayerNorm(x + residual) * gain + bias over `n` values, eps 1e-5, in place. (Ba et al. 2016, eq. 4)
  void (*add_norm)(float* x, const float* residual, const float* gain, const float* bias, std::int64_t n);
};

/// The widest kernels this CPU runs; chosen once.
[[nodiscard]] const Kernels& kernels();
/// All kernels this CPU runs, widest first; for tests.
[[nodiscard]] std::vector<const Kernels*> supported_kernels();

/// A linear layer's weight, repacked once: panels of `kernels.panel` output columns, each [in][panel], the last one
/// padded with zeros. A weight whose every value is exactly a half, as those of half-precision checkpoints are, is kept
/// as halves: the same numbers at half the memory traffic, which is what a decode step costs.
class PackedLinear {
 public:
  PackedLinear() = default;
  /// weight: row-major [out, in]; bias: [out] or empty.
  PackedLinear(const Kernels& kernels, const float* weight, std::int64_t out, std::int64_t in,
               std::span<const float> bias);

  /// y[m, out] = x[m, in] W^T + b; x and y contiguous rows of ldx and ldy floats.
  void apply(const float* x, std::int64_t ldx, std::int64_t m, float* y, std::int64_t ldy, bool relu = false) const;
  [[nodiscard]] std::int64_t in() const noexcept { return in_; }
  [[nodiscard]] std::int64_t out() const noexcept { return out_; }
  [[nodiscard]] bool empty() const noexcept { return out_ == 0; }
  [[nodiscard]] bool is_half() const noexcept { return !half_.empty(); }

 private:
  const Kernels* kernels_ = nullptr;
  std::int64_t in_ = 0;
  std::int64_t out_ = 0;
  FloatBuffer packed_;  ///< one of the two is empty
  std::vector<std::uint16_t> half_;
  FloatBuffer bias_;  ///< padded to whole panels; zeros without a bias
};

/// Floats that `count` packed columns of depth `in` take.
[[nodiscard]] std::size_t packed_size(const Kernels& kernels, std::int64_t out, std::int64_t in);
/// Packs columns: element (o, i) of the weight is at weight[o * stride_out + i * stride_in].
void pack(const Kernels& kernels, const float* weight, std::int64_t out, std::int64_t in, std::int64_t stride_out,
          std::int64_t stride_in, float* packed);

/// The half equal to `value`, or nothing when there is none (too fine, too large, infinite or NaN).
[[nodiscard]] std::optional<std::uint16_t> exact_half(float value) noexcept;

}  // namespace tts
