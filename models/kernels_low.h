#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "models/bf16.h"
#include "models/kernels.h"

namespace tts {

/// What the weight of a LowLinear is kept as.
enum class LowFormat {
  bf16,   ///< rounded to bfloat16, as are the rows it is multiplied with; sums in float32
  int16,  ///< one scale for each output, rows in runs with a power of two each (fixed_point.h): finer than bf16
  int8,   ///< one scale for each output; rows are rounded to eight bits or more with one scale each, sums are exact
};

/// The T2S loops at reduced precision for one instruction set: half or a quarter of the memory traffic of float32, and
/// on CPUs that multiply bf16 pairs or bytes several times the arithmetic. Every set gives the same numbers up to the
/// rounding of float32 sums. Single-threaded and without state. A row's result is the same to the last bit whatever
/// rows it shares a call with.
///
/// Weights lie in panels of kPanel outputs or in strips of kStrip: [panel][group][kPanel] 32-bit groups, a group being
/// two 16-bit numbers or the four bytes of neighbouring inputs; rows are sequences of such groups. Missing inputs and
/// outputs are zeros.
struct LowKernels {
  static constexpr std::int64_t kPanel = 64;
  static constexpr std::int64_t kStrip = 16;
  static constexpr std::int32_t kWordLevels = 2047;  ///< rows of 8192 of them times 127 have sums of 31 bits
  /// Cached keys and values lie head by head. A head's keys: [position / 16][width / 2][16][2] bf16, its values:
  /// [position / 2][width][2] bf16. Capacities are multiples of kBlock.
  static constexpr std::int64_t kBlock = 16;
  static constexpr std::int64_t kMaxWidth = 256;  ///< of a head; widths are multiples of 16

  const char* name;  ///< "avx512_bf16", "avx512_vnni", "avx2" or "base"
  LowFormat half;       ///< of the formats of 16 bits the one there are products for: bf16 or int16
  std::int64_t strip;   ///< outputs whose weights lie beside each other: kPanel or kStrip
  std::int64_t spread;  ///< of a row for int8: words for each group, 2 where it is kept as two pairs of 16 bits
  bool fast_half;       ///< a step in `half` takes less time than in float32
  bool fast_int8;       ///< a step in int8 takes less time than in `half`

  /// `m` rows of `in` floats (ldx apart) to integers with one scale each. Row i at q + i * ldq; beyond `in` are zeros.
  /// Bytes (spread 1): 0..255 of rows that are `positive`, at least 0; otherwise -127..127, kept with 128 added.
  /// Pairs of 16 bits (spread 2): within kWordLevels.
  void (*quantise)(const float* x, std::int64_t ldx, std::int64_t m, std::int64_t in, bool positive, std::uint32_t* q,
                   std::int64_t ldq, float* scales);
  /// The same to bf16, rounded to nearest even. Null with int16.
  void (*round)(const float* x, std::int64_t ldx, std::int64_t m, std::int64_t in, std::uint32_t* q, std::int64_t ldq);

  /// y[m, out] = (x - shift) W^T * row scale * output scale + bias; `shift` [out] is what the added 128 contributes, or
  /// null where none was added. relu: max(y, 0) afterwards. `groups` is in / 4, rounded up.
  void (*linear_int8)(const std::uint32_t* x, std::int64_t ldx, const float* row_scales, std::int64_t m,
                      const std::uint32_t* packed, const float* scales, const std::int32_t* shift, const float* bias,
                      std::int64_t groups, std::int64_t out, float* y, std::int64_t ldy, bool relu);
  /// y[m, out] = x W^T + bias. `groups` is in / 2, rounded up. Null with int16.
  void (*linear_bf16)(const std::uint32_t* x, std::int64_t ldx, std::int64_t m, const std::uint32_t* packed,
                      const float* bias, std::int64_t groups, std::int64_t out, float* y, std::int64_t ldy, bool relu);
  /// Rows to int16 with a power of two for each run, of row i at powers + i * runs. Null with bf16.
  void (*fix)(const float* x, std::int64_t ldx, std::int64_t m, std::int64_t in, std::uint32_t* q, std::int64_t ldq,
              float* powers);
  /// y[m, out] = x W^T * powers of the rows' runs * output scale + bias. Null with bf16.
  void (*linear_int16)(const std::uint32_t* x, std::int64_t ldx, const float* powers, std::int64_t m,
                       const std::uint32_t* packed, const float* scales, const float* bias, std::int64_t groups,
                       std::int64_t out, float* y, std::int64_t ldy, bool relu);

  /// Puts `count` keys and values (rows `ld` apart) into the cache from slot `first` on. `fresh`: nothing is cached in
  /// the slot after the last one.
  void (*cache)(const float* k, const float* v, std::int64_t ld, std::int64_t first, std::int64_t count, bool fresh,
                std::int64_t hidden, std::int64_t heads, std::int64_t capacity, std::uint16_t* keys,
                std::uint16_t* values);
  /// `m` queries (ldq apart) over the first lengths[i] cached positions each: heads of contiguous columns, softmax over
  /// q k^T / sqrt(width) with weights rounded to bf16, weighted sum of the values into out (ldo apart).
  /// `scratch`: attend_scratch floats. `weights` [heads, lengths[0]] of the only query, or null.
  void (*attend)(const float* q, std::int64_t ldq, std::int64_t m, const std::int32_t* lengths,
                 const std::uint16_t* keys, const std::uint16_t* values, std::int64_t hidden, std::int64_t heads,
                 std::int64_t capacity, float* scratch, float* out, std::int64_t ldo, float* weights);
  [[nodiscard]] static std::size_t attend_scratch(std::int64_t capacity) {
    return static_cast<std::size_t>(8 * (capacity + kBlock));
  }
};

/// The best set this CPU runs; chosen once.
[[nodiscard]] const LowKernels& low_kernels();
/// All sets this CPU runs, best first; for tests.
[[nodiscard]] std::vector<const LowKernels*> supported_low_kernels();

/// Rows of a LowLinear's input in its format; grows as needed.
class LowRows {
 public:
  /// Makes room for `rows` rows of up to `in` inputs.
  void reserve(std::int64_t rows, std::int64_t in);

 private:
  friend class LowLinear;
  AlignedBuffer<std::uint32_t> groups_;
  FloatBuffer scales_;
};

/// A linear layer's weight at reduced precision. The packed weight lies where the owner of all of a model's weights
/// says, so that a step reads one piece of memory from end to end.
class LowLinear {
 public:
  LowLinear() = default;
  /// Bytes of a packed weight, a multiple of 64.
  [[nodiscard]] static std::size_t bytes(LowFormat format, std::int64_t out, std::int64_t in);
  /// format: int8 or kernels.half. weight: row-major [out, in]; bias: [out] or empty. `memory`: bytes(), aligned to 64,
  /// outlives this.
  /// positive: inputs are never below 0.
  LowLinear(const LowKernels& kernels, LowFormat format, const float* weight, std::int64_t out, std::int64_t in,
            std::span<const float> bias, bool positive, std::uint32_t* memory);

  /// y[m, out] = x[m, in] W^T + b; x and y contiguous rows of ldx and ldy floats. `rows` has room for them.
  void apply(const float* x, std::int64_t ldx, std::int64_t m, float* y, std::int64_t ldy, LowRows& rows,
             bool relu = false) const {
    take(x, ldx, m, rows);
    multiply(m, y, ldy, rows, relu, 0, out_);
  }
  /// The two halves of it, the second for outputs [first, end) only, whose columns of y it writes: `first` is a
  /// multiple of LowKernels::kPanel, `end` as well or `out`.
  void take(const float* x, std::int64_t ldx, std::int64_t m, LowRows& rows) const;
  void multiply(std::int64_t m, float* y, std::int64_t ldy, const LowRows& rows, bool relu, std::int64_t first,
                std::int64_t end) const;
  [[nodiscard]] std::int64_t out() const noexcept { return out_; }
  [[nodiscard]] bool empty() const noexcept { return out_ == 0; }

 private:
  const LowKernels* kernels_ = nullptr;
  LowFormat format_ = LowFormat::bf16;
  bool positive_ = false;
  std::int64_t in_ = 0;
  std::int64_t out_ = 0;
  const std::uint32_t* packed_ = nullptr;
  FloatBuffer bias_;                   ///< padded to whole panels, as the others
  FloatBuffer scales_;                 ///< int8 and int16: of each output
  AlignedBuffer<std::int32_t> shift_;  ///< int8, rows of bytes: 128 times the sum of each output's weights
};

}  // namespace tts
