#pragma once

// What the kernels use of the device. Tests compile the same kernels for the CPU: they define TTS_CUDA_EMULATION and
// these names before they include a kernel (tests/models/cuda_emulation.h).

#if !defined(TTS_CUDA_EMULATION)

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

/// The namespace of all that is compiled twice.
#if !defined(TTS_CUDA_NAMESPACE)
#define TTS_CUDA_NAMESPACE cuda
#endif

#define TTS_UNROLL _Pragma("unroll")

namespace tts::TTS_CUDA_NAMESPACE {

/// The block's dynamic shared memory.
__device__ __forceinline__ unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char memory[];
  return memory;
}

/// Sixteen bytes that nobody writes while the kernel runs, past the first cache: weights are read once.
__device__ __forceinline__ uint4 load_once(const uint4* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}

/// Waits until the kernel before this one in its stream is complete and what it wrote can be read. Everything before
/// this call may run beside that kernel (programmatic dependent launch).
__device__ __forceinline__ void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the next kernel of the stream begin, up to its wait_for_previous(). Called after this kernel's own, so what a
/// kernel reads before it waits may be from any kernel but the one before it.
__device__ __forceinline__ void let_next_begin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Numbers of sixteen bits, two to a word, the first one low.
struct Bf16 {
  static __device__ __forceinline__ std::uint16_t narrow(float v) {
    return __bfloat16_as_ushort(__float2bfloat16_rn(v));
  }
  static __host__ __device__ __forceinline__ std::uint32_t pack(float first, float second) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  }
  static __device__ __forceinline__ float2 widen(std::uint32_t pair) {
    return {__uint_as_float(pair << 16U), __uint_as_float(pair & 0xFFFF0000U)};
  }
  /// c += A B of one warp: A [16, 16], B [16, 8], c [16, 8] in float32 (PTX, mma.m16n8k16).
  static __device__ __forceinline__ void multiply(float (&c)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                                                  std::uint32_t a3, std::uint32_t b0, std::uint32_t b1) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#endif
  }
};

struct Fp16 {
  /// Past the largest half: that one, so that a peak stays a number.
  static __host__ __device__ __forceinline__ float bounded(float v) {
    return v != v ? v : fminf(fmaxf(v, -65504.0F), 65504.0F);
  }
  static __device__ __forceinline__ std::uint16_t narrow(float v) {
    return __half_as_ushort(__float2half_rn(bounded(v)));
  }
  static __host__ __device__ __forceinline__ std::uint32_t pack(float first, float second) {
    const __half2 pair = __floats2half2_rn(bounded(first), bounded(second));
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  }
  static __device__ __forceinline__ float2 widen(std::uint32_t pair) {
    return __half22float2(*reinterpret_cast<const __half2*>(&pair));
  }
  static __device__ __forceinline__ void multiply(float (&c)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                                                  std::uint32_t a3, std::uint32_t b0, std::uint32_t b1) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#endif
  }
};

}  // namespace tts::TTS_CUDA_NAMESPACE

#endif  // TTS_CUDA_EMULATION
