#pragma once

#include <cstdint>

#include "models/cuda/device.h"

// The kernels of T2S decoding. An *entry* is one position of one utterance that goes through the layers: in a decode
// step each entry is another utterance's newest token, in a prefill the entries are the positions of one.
//
// All numbers of an entry are the same bits however many entries there are: both kinds of linear layer add the products
// of a fixed slice of the inputs in one order, then the slices in one order, and attention does so with fixed chunks of
// positions.

namespace tts::TTS_CUDA_NAMESPACE {

/// Written by the host; two loads of 16 bytes.
struct alignas(16) Entry {
  std::int32_t row;      ///< of the cache; negative: nobody, for filling up a batch
  std::int32_t slot;     ///< where its key and value go
  std::int32_t cached;   ///< slots that it sees, its own included
  std::int32_t id;       ///< of the token or phoneme
  std::int32_t place;    ///< its position in the table of positions
  std::int32_t is_text;  ///< a phoneme
  std::int32_t columns;  ///< of the attention that the host wants to see
  std::int32_t unused;
};

struct EmbedArgs {
  const Entry* from;       ///< [n] memory of the host, or of the device
  Entry* entries;          ///< [n] for the kernels after this one
  const float* text;       ///< [phonemes, hidden], the bias of the text's features already added
  const float* audio;      ///< [vocab, hidden]
  const float* positions;  ///< [positions, hidden]
  float text_alpha;
  float audio_alpha;
  std::int32_t hidden;
  float* y;  ///< [n, hidden]
};

/// A block an entry.
static __global__ void embed(const EmbedArgs a) {
  wait_for_previous();
  let_next_begin();
  const std::int64_t i = blockIdx.x;
  const Entry e = a.from[i];
  if (threadIdx.x == 0) a.entries[i] = e;
  const float* table = (e.is_text != 0 ? a.text : a.audio) + static_cast<std::int64_t>(e.id) * a.hidden;
  const float* position = a.positions + static_cast<std::int64_t>(e.place) * a.hidden;
  const float alpha = e.is_text != 0 ? a.text_alpha : a.audio_alpha;
  for (int c = static_cast<int>(threadIdx.x); c < a.hidden; c += static_cast<int>(blockDim.x)) {
    a.y[i * a.hidden + c] = e.row < 0 ? 0.0F : table[c] + alpha * position[c];
  }
}

/// What enters a linear layer.
enum class Input {
  normed,  ///< float32 through a layer norm
  plain,   ///< float32
  low,     ///< sixteen bits
};
/// What becomes of what leaves it.
enum class Output {
  qkv,       ///< queries to a buffer, keys and values into the cache
  residual,  ///< added to the residual, float32
  relu,      ///< sixteen bits
  logits,    ///< float32, at the entry's row
};

struct LinearArgs {
  /// [tiles of 8 outputs, in / 32, 32 lanes] of 8 numbers: lane 4 g + t has inputs 8 t .. 8 t + 7 of output g of the
  /// tile. That order of inputs is not the one of mma.m16n8k16, but the other factor comes in the same.
  const uint4* weight;
  const float* bias;  ///< [out], or null
  std::int32_t n;     ///< entries
  std::int32_t in;    ///< a multiple of 32; of 128 for float32 inputs, which may be 1024 at most
  std::int32_t out;
  std::int32_t slices;  ///< of the inputs, in which the sum is made

  const float* x;            ///< [n, in] of Input::normed and plain
  const float* gain;         ///< [in]
  const float* shift;        ///< [in]
  float* kept;               ///< [n, in] the input in float32, after the norm: the next residual
  const std::uint16_t* low;  ///< [n, in] of Input::low

  const Entry* entries;    ///< [n] of Output::qkv and logits
  float* y;                ///< Output::residual: [n, out]; logits: [rows, stride]; qkv: the queries [n, out / 3]
  const float* residual;   ///< [n, out]
  std::uint16_t* low_out;  ///< [n, out] of Output::relu
  std::uint16_t* keys;     ///< [rows, heads, capacity, width]
  std::uint16_t* values;   ///< same
  std::int32_t stride;
  std::int32_t heads;
  std::int32_t width;
  std::int32_t capacity;
};

constexpr int kTileOutputs = 8;
constexpr int kFragment = 32;      ///< inputs that one load of a lane's weights belongs to, with three other lanes
constexpr int kSmallEntries = 16;  ///< most entries of linear_small
constexpr int kLargeEntries = 32;  ///< of a block of linear_large
constexpr int kLargeTiles = 8;     ///< of a block of linear_large: two for each of its four warps
constexpr int kAhead = 4;          ///< loads of weights in flight, for each tile of a warp
/// Numbers between the rows of inputs in shared memory, so that eight lanes' 16 bytes lie in different banks.
constexpr int kRowPadding = 32;

__device__ __forceinline__ float warp_sum(float v) {
  for (int mask = 16; mask > 0; mask /= 2) v += __shfl_xor_sync(0xFFFFFFFFU, v, mask);
  return v;
}

/// A layer norm's gain and shift as a lane needs them.
template <int kQuads>
struct Norm {
  float4 gain[kQuads];
  float4 shift[kQuads];

  __device__ __forceinline__ void load(const LinearArgs& a) {
    const int first = 4 * (static_cast<int>(threadIdx.x) % 32);
    TTS_UNROLL
    for (int c = 0; c < kQuads; ++c) {
      if (128 * c < a.in) {
        gain[c] = *reinterpret_cast<const float4*>(a.gain + 128 * c + first);
        shift[c] = *reinterpret_cast<const float4*>(a.shift + 128 * c + first);
      }
    }
  }
};

/// Puts rows of up to 128 kQuads float32, through the layer norm if there is one, into shared memory as numbers of
/// sixteen bits: a warp a row. (Ba et al. 2016, eq. 4)
template <class F, int kQuads>
__device__ __forceinline__ void fill_rows(const LinearArgs& a, const Norm<kQuads>* norm, std::int64_t first, int n,
                                          bool keep, std::uint16_t* rows) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto width = static_cast<float>(a.in);
  for (int i = static_cast<int>(threadIdx.x) / 32; i < n; i += static_cast<int>(blockDim.x) / 32) {
    const float* x = a.x + (first + i) * a.in + 4 * lane;
    float4 v[kQuads];
    TTS_UNROLL
    for (int c = 0; c < kQuads; ++c) {
      if (128 * c < a.in) v[c] = *reinterpret_cast<const float4*>(x + 128 * c);
    }
    if (norm != nullptr) {
      float sum = 0;
      TTS_UNROLL
      for (int c = 0; c < kQuads; ++c) {
        if (128 * c < a.in) sum += (v[c].x + v[c].y) + (v[c].z + v[c].w);
      }
      const float mean = warp_sum(sum) / width;
      float squares = 0;
      TTS_UNROLL
      for (int c = 0; c < kQuads; ++c) {
        if (128 * c < a.in) {
          v[c].x -= mean;
          v[c].y -= mean;
          v[c].z -= mean;
          v[c].w -= mean;
          squares += (v[c].x * v[c].x + v[c].y * v[c].y) + (v[c].z * v[c].z + v[c].w * v[c].w);
        }
      }
      const float scale = rsqrtf(warp_sum(squares) / width + 1e-5F);
      TTS_UNROLL
      for (int c = 0; c < kQuads; ++c) {
        if (128 * c < a.in) {
          v[c].x = v[c].x * scale * norm->gain[c].x + norm->shift[c].x;
          v[c].y = v[c].y * scale * norm->gain[c].y + norm->shift[c].y;
          v[c].z = v[c].z * scale * norm->gain[c].z + norm->shift[c].z;
          v[c].w = v[c].w * scale * norm->gain[c].w + norm->shift[c].w;
        }
      }
    }
    std::uint16_t* row = rows + i * (a.in + kRowPadding) + 4 * lane;
    float* kept = a.kept + (first + i) * a.in + 4 * lane;
    TTS_UNROLL
    for (int c = 0; c < kQuads; ++c) {
      if (128 * c < a.in) {
        *reinterpret_cast<uint2*>(row + 128 * c) = {F::pack(v[c].x, v[c].y), F::pack(v[c].z, v[c].w)};
        if (keep) *reinterpret_cast<float4*>(kept + 128 * c) = v[c];
      }
    }
  }
}

/// The lane's weights of kTiles tiles from `tile` on, of the kAhead fragments from `from` on; zeros where there is no
/// such tile and from fragment `end` on.
template <int kTiles>
__device__ __forceinline__ void load_weights(const LinearArgs& a, int tile, int from, int end,
                                             uint4 (&w)[kTiles][kAhead]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int fragments = a.in / kFragment;
  const int tiles = (a.out + kTileOutputs - 1) / kTileOutputs;
  TTS_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    TTS_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      if (tile + t < tiles && from + i < end) {
        w[t][i] = load_once(a.weight + (static_cast<std::int64_t>(tile + t) * fragments + from + i) * 32 + lane);
      } else {
        w[t][i] = uint4{0, 0, 0, 0};
      }
    }
  }
}

/// One output of one entry: what it takes beside the sum is read early, so that storing it waits for nothing.
template <class F, Output kOut>
struct Result {
  std::int64_t at = -1;  ///< in the output; negative: nowhere
  float bias = 0;
  float residual = 0;
  std::uint16_t* cache = nullptr;  ///< of Output::qkv, for keys and values

  /// After wait_for_previous().
  __device__ __forceinline__ void load(const LinearArgs& a, std::int64_t i, int o) {
    if (o >= a.out) return;
    if (a.bias != nullptr) bias = a.bias[o];
    if constexpr (kOut == Output::residual) {
      at = i * a.out + o;
      residual = a.residual[at];
    } else if constexpr (kOut == Output::relu) {
      at = i * a.out + o;
    } else if constexpr (kOut == Output::logits) {
      const std::int64_t row = a.entries[i].row;
      if (row >= 0) at = row * a.stride + o;
    } else {
      const int attended = a.heads * a.width;
      if (o < attended) {
        at = i * attended + o;
        return;
      }
      const std::int64_t row = a.entries[i].row;
      const std::int64_t slot = a.entries[i].slot;
      if (row < 0) return;
      const int column = (o - attended) % attended;
      cache = o < 2 * attended ? a.keys : a.values;
      at = ((row * a.heads + column / a.width) * a.capacity + slot) * a.width + column % a.width;
    }
  }
  __device__ __forceinline__ void store(const LinearArgs& a, float sum) const {
    if (at < 0) return;
    const float v = sum + bias;
    if constexpr (kOut == Output::residual) {
      a.y[at] = residual + v;
    } else if constexpr (kOut == Output::relu) {
      a.low_out[at] = F::narrow(v > 0 ? v : v != v ? v : 0.0F);
    } else if (kOut == Output::qkv && cache != nullptr) {
      cache[at] = F::narrow(v);
    } else {
      a.y[at] = v;
    }
  }
};

/// A linear layer for up to sixteen entries, bound by the reading of its weights: each block has kTiles times eight
/// outputs, each of its `slices` warps a slice of the inputs. Weights of the first kAhead fragments are on their way
/// before the kernel waits for the one before it. Shared memory: linear_small_bytes.
template <class F, Input kIn, Output kOut, int kTiles, int kQuads>
static __global__ void __launch_bounds__(512) linear_small(const LinearArgs a) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int group = lane / 4;
  const int part = lane % 4;
  const int fragments = a.in / kFragment;
  const int per_slice = (fragments + a.slices - 1) / a.slices;
  const int first = warp * per_slice;
  const int last = first + per_slice < fragments ? first + per_slice : fragments;
  const int first_tile = static_cast<int>(blockIdx.x) * kTiles;
  uint4 w[kTiles][kAhead];
  load_weights(a, first_tile, first, last, w);
  Norm<kQuads> norm;
  if (kIn == Input::normed && warp < a.n) norm.load(a);
  wait_for_previous();
  let_next_begin();

  // Each thread's first result; there are seldom more of them than threads.
  const int of_tile = a.n * kTileOutputs;
  const auto load_result = [&](int i) {
    Result<F, kOut> result;
    if (i < kTiles * of_tile) {
      result.load(a, i % of_tile / kTileOutputs, (first_tile + i / of_tile) * kTileOutputs + i % kTileOutputs);
    }
    return result;
  };
  Result<F, kOut> result = load_result(static_cast<int>(threadIdx.x));

  auto* const rows = reinterpret_cast<std::uint16_t*>(shared_memory());
  float* sums = reinterpret_cast<float*>(shared_memory());
  const int pitch = kIn == Input::low ? a.in : a.in + kRowPadding;
  const std::uint16_t* input = rows;
  if constexpr (kIn == Input::low) {
    input = a.low;
  } else {
    sums += a.n * pitch / 2;
    fill_rows<F, kQuads>(a, kIn == Input::normed ? &norm : nullptr, 0, a.n, a.kept != nullptr && blockIdx.x == 0, rows);
    __syncthreads();
  }
  float c[kTiles][4] = {};
  for (int from = first; from < last; from += kAhead) {
    if (from != first) load_weights(a, first_tile, from, last, w);
    TTS_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      if (from + i >= last) break;
      uint4 upper{0, 0, 0, 0};
      uint4 lower{0, 0, 0, 0};
      const std::uint16_t* at = input + (from + i) * kFragment + 8 * part;
      if (group < a.n) upper = *reinterpret_cast<const uint4*>(at + group * pitch);
      if (group + 8 < a.n) lower = *reinterpret_cast<const uint4*>(at + (group + 8) * pitch);
      TTS_UNROLL
      for (int t = 0; t < kTiles; ++t) {
        F::multiply(c[t], upper.x, lower.x, upper.y, lower.y, w[t][i].x, w[t][i].y);
        F::multiply(c[t], upper.z, lower.z, upper.w, lower.w, w[t][i].z, w[t][i].w);
      }
    }
  }
  // sums [slices, tiles, 16 entries, 8 outputs]
  TTS_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    float* to = sums + ((warp * kTiles + t) * kSmallEntries + group) * kTileOutputs + 2 * part;
    if (group < a.n) *reinterpret_cast<float2*>(to) = {c[t][0], c[t][1]};
    if (group + 8 < a.n) *reinterpret_cast<float2*>(to + 8 * kTileOutputs) = {c[t][2], c[t][3]};
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kTiles * of_tile; i += static_cast<int>(blockDim.x)) {
    if (i != static_cast<int>(threadIdx.x)) result = load_result(i);
    const float* from =
        sums + (i / of_tile * kSmallEntries + i % of_tile / kTileOutputs) * kTileOutputs + i % kTileOutputs;
    float total = from[0];
    for (int s = 1; s < a.slices; ++s) total += from[s * kTiles * kSmallEntries * kTileOutputs];
    result.store(a, total);
  }
}

/// The same for many entries, 32 for each block along y, whose inputs lie in shared memory; each of four warps has all
/// of them and two tiles, and goes through the slices one after the other. Shared memory: linear_large_bytes.
template <class F, Input kIn, Output kOut, int kQuads>
static __global__ void __launch_bounds__(128) linear_large(const LinearArgs a) {
  constexpr int kTiles = 2;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int group = lane / 4;
  const int part = lane % 4;
  const int fragments = a.in / kFragment;
  const int per_slice = (fragments + a.slices - 1) / a.slices;
  const int tile = static_cast<int>(blockIdx.x) * kLargeTiles + warp * kTiles;
  uint4 next[kTiles][kAhead];
  load_weights(a, tile, 0, fragments, next);
  Norm<kQuads> norm;
  if (kIn == Input::normed) norm.load(a);
  wait_for_previous();
  let_next_begin();

  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * kLargeEntries;
  const int n = a.n - first < kLargeEntries ? static_cast<int>(a.n - first) : kLargeEntries;
  auto* const rows = reinterpret_cast<std::uint16_t*>(shared_memory());
  const int pitch = a.in + kRowPadding;
  if constexpr (kIn == Input::low) {
    const int eighths = a.in / 8;
    for (int i = static_cast<int>(threadIdx.x); i < n * eighths; i += static_cast<int>(blockDim.x)) {
      *reinterpret_cast<uint4*>(rows + i / eighths * pitch + i % eighths * 8) =
          *reinterpret_cast<const uint4*>(a.low + (first + i / eighths) * a.in + i % eighths * 8);
    }
  } else {
    fill_rows<F, kQuads>(a, kIn == Input::normed ? &norm : nullptr, first, n, a.kept != nullptr && blockIdx.x == 0,
                         rows);
  }
  const int eighths = a.in / 8;
  for (int i = n * eighths + static_cast<int>(threadIdx.x); i < kLargeEntries * eighths;
       i += static_cast<int>(blockDim.x)) {
    *reinterpret_cast<uint4*>(rows + i / eighths * pitch + i % eighths * 8) = uint4{0, 0, 0, 0};
  }
  __syncthreads();

  float total[2][kTiles][4] = {};
  float c[2][kTiles][4] = {};
  int in_slice = 0;
  bool first_slice = true;
  for (int from = 0; from < fragments; from += kAhead) {
    uint4 w[kTiles][kAhead];
    TTS_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      TTS_UNROLL
      for (int i = 0; i < kAhead; ++i) w[t][i] = next[t][i];
    }
    load_weights(a, tile, from + kAhead, fragments, next);
    TTS_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      if (from + i >= fragments) break;
      const std::uint16_t* at = rows + group * pitch + (from + i) * kFragment + 8 * part;
      TTS_UNROLL
      for (int half = 0; half < 2; ++half) {
        const uint4 upper = *reinterpret_cast<const uint4*>(at + 16 * half * pitch);
        const uint4 lower = *reinterpret_cast<const uint4*>(at + (16 * half + 8) * pitch);
        TTS_UNROLL
        for (int t = 0; t < kTiles; ++t) {
          F::multiply(c[half][t], upper.x, lower.x, upper.y, lower.y, w[t][i].x, w[t][i].y);
          F::multiply(c[half][t], upper.z, lower.z, upper.w, lower.w, w[t][i].z, w[t][i].w);
        }
      }
      if (++in_slice == per_slice || from + i + 1 == fragments) {
        in_slice = 0;
        TTS_UNROLL
        for (int half = 0; half < 2; ++half) {
          TTS_UNROLL
          for (int t = 0; t < kTiles; ++t) {
            TTS_UNROLL
            for (int k = 0; k < 4; ++k) {
              total[half][t][k] = first_slice ? c[half][t][k] : total[half][t][k] + c[half][t][k];
              c[half][t][k] = 0;
            }
          }
        }
        first_slice = false;
      }
    }
  }
  TTS_UNROLL
  for (int half = 0; half < 2; ++half) {
    TTS_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      TTS_UNROLL
      for (int k = 0; k < 4; ++k) {
        const int entry = 16 * half + 8 * (k / 2) + group;
        if (entry >= n) continue;
        Result<F, kOut> result;
        result.load(a, first + entry, (tile + t) * kTileOutputs + 2 * part + k % 2);
        result.store(a, total[half][t][k]);
      }
    }
  }
}

struct AttendArgs {
  const Entry* entries;         ///< [n]
  const float* q;               ///< [n, heads * width]
  const std::uint16_t* keys;    ///< [rows, heads, capacity, width]
  const std::uint16_t* values;  ///< same
  std::uint16_t* out;           ///< [n, heads * width]
  std::int32_t heads;
  std::int32_t capacity;
  float scale;  ///< of the scores, times log2(e)
  /// [heads]: which probe a head is, or -1. Weights of an entry go to weights[(probe * rows + row) * capacity].
  const std::int32_t* probes;
  float* weights;
  std::int32_t rows;
  std::int32_t watched;  ///< the first entry whose weights are wanted
};

/// What a warp takes at once, keys or values: eight loads of 16 bytes a lane.
constexpr int kChunkNumbers = 2048;

/// softmax(q k^T) v of one head (x) of one entry (y). Each warp takes every so-manieth chunk of positions; what the
/// chunks gave is put together in their order (Milakov & Gimelshein 2018; Dao et al. 2023, sec. 5). Shared memory:
/// attend_bytes. kFresh: the kernel before this one wrote more than the entry's own slot, so nothing is read before it
/// is complete.
template <class F, int kWidth, bool kFresh>
static __global__ void __launch_bounds__(512) attend(const AttendArgs a) {
  constexpr int kLanes = kWidth / 8;  // that share a position
  constexpr int kAtOnce = 32 / kLanes;
  constexpr int kLoads = 8;
  constexpr int kChunk = kLoads * kAtOnce;
  static_assert(kChunk * kWidth == kChunkNumbers);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(blockDim.x) / 32;
  const int part = lane % kLanes;
  const int head = static_cast<int>(blockIdx.x);
  const std::int64_t entry = blockIdx.y;
  if constexpr (kFresh) wait_for_previous();
  const Entry e = a.entries[entry];
  const int probe = a.probes[head];
  const int cached = e.row < 0 ? 0 : e.cached;
  const int chunks = (cached + kChunk - 1) / kChunk;
  const std::int64_t at = (static_cast<std::int64_t>(e.row < 0 ? 0 : e.row) * a.heads + head) * a.capacity;
  const std::uint16_t* const keys = a.keys + at * kWidth + 8 * part;
  const std::uint16_t* const values = a.values + at * kWidth + 8 * part;
  uint4 k[kLoads];
  uint4 v[kLoads];
  const auto position = [&](int chunk, int i) { return chunk * kChunk + i * kAtOnce + lane / kLanes; };
  const auto load = [&](int chunk, bool own) {
    TTS_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      const int p = position(chunk, i);
      k[i] =
          p < cached && (own || p != e.slot) ? *reinterpret_cast<const uint4*>(keys + p * kWidth) : uint4{0, 0, 0, 0};
    }
    TTS_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      const int p = position(chunk, i);
      v[i] =
          p < cached && (own || p != e.slot) ? *reinterpret_cast<const uint4*>(values + p * kWidth) : uint4{0, 0, 0, 0};
    }
  };
  // partial [chunks of capacity, width + 2]: output, largest score, sum; then the weights of this head
  auto* const partial = reinterpret_cast<float*>(shared_memory());
  float* const weights = partial + (a.capacity + kChunk - 1) / kChunk * (kWidth + 2);
  load(warp, kFresh);
  if constexpr (!kFresh) {
    wait_for_previous();
  }
  let_next_begin();
  if constexpr (!kFresh) {
    TTS_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      if (position(warp, i) == e.slot && e.slot < cached) {
        k[i] = *reinterpret_cast<const uint4*>(keys + e.slot * kWidth);
        v[i] = *reinterpret_cast<const uint4*>(values + e.slot * kWidth);
      }
    }
  }
  float q[8];
  {
    const float* from = a.q + (entry * a.heads + head) * kWidth + 8 * part;
    const float4 low = *reinterpret_cast<const float4*>(from);
    const float4 high = *reinterpret_cast<const float4*>(from + 4);
    q[0] = low.x, q[1] = low.y, q[2] = low.z, q[3] = low.w;
    q[4] = high.x, q[5] = high.y, q[6] = high.z, q[7] = high.w;
  }
  for (int chunk = warp; chunk < chunks; chunk += warps) {
    if (chunk != warp) load(chunk, true);
    float score[kLoads];
    float largest = -INFINITY;
    TTS_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      const float2 k0 = F::widen(k[i].x);
      const float2 k1 = F::widen(k[i].y);
      const float2 k2 = F::widen(k[i].z);
      const float2 k3 = F::widen(k[i].w);
      float s = ((q[0] * k0.x + q[1] * k0.y) + (q[2] * k1.x + q[3] * k1.y)) +
                ((q[4] * k2.x + q[5] * k2.y) + (q[6] * k3.x + q[7] * k3.y));
      TTS_UNROLL
      for (int mask = kLanes / 2; mask > 0; mask /= 2) s += __shfl_xor_sync(0xFFFFFFFFU, s, mask);
      score[i] = position(chunk, i) < cached ? s * a.scale : -INFINITY;
      largest = fmaxf(largest, score[i]);
    }
    TTS_UNROLL
    for (int mask = 16; mask >= kLanes; mask /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, mask));
    }
    float sum = 0;
    float out[8] = {};
    TTS_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      const float weight = exp2f(score[i] - largest);
      sum += weight;
      if (probe >= 0 && part == 0 && position(chunk, i) < cached) weights[position(chunk, i)] = weight;
      const float2 v0 = F::widen(v[i].x);
      const float2 v1 = F::widen(v[i].y);
      const float2 v2 = F::widen(v[i].z);
      const float2 v3 = F::widen(v[i].w);
      out[0] += weight * v0.x, out[1] += weight * v0.y, out[2] += weight * v1.x, out[3] += weight * v1.y;
      out[4] += weight * v2.x, out[5] += weight * v2.y, out[6] += weight * v3.x, out[7] += weight * v3.y;
    }
    TTS_UNROLL
    for (int mask = 16; mask >= kLanes; mask /= 2) {
      sum += __shfl_xor_sync(0xFFFFFFFFU, sum, mask);
      TTS_UNROLL
      for (int j = 0; j < 8; ++j) out[j] += __shfl_xor_sync(0xFFFFFFFFU, out[j], mask);
    }
    float* const mine = partial + chunk * (kWidth + 2);
    if (lane < kLanes) {
      TTS_UNROLL
      for (int j = 0; j < 8; ++j) mine[8 * part + j] = out[j];
    }
    if (lane == 0) {
      mine[kWidth] = largest;
      mine[kWidth + 1] = sum;
    }
  }
  __syncthreads();
  if (static_cast<int>(threadIdx.x) >= kWidth && probe < 0) return;
  float largest = -INFINITY;
  for (int c = 0; c < chunks; ++c) largest = fmaxf(largest, partial[c * (kWidth + 2) + kWidth]);
  float sum = 0;
  float out = 0;
  const int column = static_cast<int>(threadIdx.x) % kWidth;
  for (int c = 0; c < chunks; ++c) {
    const float* from = partial + c * (kWidth + 2);
    const float share = exp2f(from[kWidth] - largest);
    sum += share * from[kWidth + 1];
    out += share * from[column];
  }
  if (static_cast<int>(threadIdx.x) < kWidth) {
    a.out[(entry * a.heads + head) * kWidth + column] = F::narrow(chunks > 0 ? out / sum : 0.0F);
  }
  if (probe < 0 || e.row < 0 || entry < a.watched) return;
  float* const to = a.weights + (static_cast<std::int64_t>(probe) * a.rows + e.row) * a.capacity;
  const int columns = e.columns < cached ? e.columns : cached;
  for (int p = static_cast<int>(threadIdx.x); p < columns; p += static_cast<int>(blockDim.x)) {
    to[p] = weights[p] * exp2f(partial[p / kChunk * (kWidth + 2) + kWidth] - largest) / sum;
  }
}

/// Warps that a sum over `in` numbers is split into.
constexpr std::int32_t slices_of(std::int64_t in) {
  const std::int64_t fragments = in / kFragment;
  return static_cast<std::int32_t>(fragments < 4 ? 1 : fragments / 2 < 16 ? fragments / 2 : 16);
}
constexpr std::size_t linear_small_bytes(const LinearArgs& a, Input input, int tiles) {
  const std::size_t rows = input == Input::low ? 0 : static_cast<std::size_t>(a.n) * (a.in + kRowPadding) * 2;
  return rows + static_cast<std::size_t>(a.slices * tiles * kSmallEntries * kTileOutputs) * 4;
}
constexpr std::size_t linear_large_bytes(const LinearArgs& a) {
  return static_cast<std::size_t>(kLargeEntries) * (a.in + kRowPadding) * 2;
}
constexpr std::size_t attend_bytes(std::int64_t capacity, int width) {
  const std::int64_t chunk = kChunkNumbers / width;
  return static_cast<std::size_t>((capacity + chunk - 1) / chunk * (width + 2) + capacity) * 4;
}

}  // namespace tts::TTS_CUDA_NAMESPACE
