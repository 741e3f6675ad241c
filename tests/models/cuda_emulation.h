#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

// A CUDA device of the tests' own: just enough of the language and of the runtime that models/cuda compiles and runs on
// the CPU, thread by thread. Every thread of a block is a fiber that runs to its next barrier. What a GPU would leave
// to chance is checked: threads that wait for different barriers, warps that part before a shuffle, shared memory past
// what was asked for or never written (NaN), memory that was freed or never allocated (with the address sanitizer).
//
// Kernels that are launched to overlap the one before them (programmatic dependent launch) do so as far as they may:
// all of a kernel runs up to wait_for_previous() before the one before it has gone past its own. So what is read too
// early is read too early here, each time.

#define TTS_CUDA_EMULATION
#define TTS_CUDA_NAMESPACE cuda_emulation

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define TTS_UNROLL

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct uint2 {
  std::uint32_t x, y;
};
struct alignas(16) uint4 {
  std::uint32_t x, y, z, w;
};
struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

/// Of the thread that runs.
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace tts::cuda_emulation {

enum class Pause { warp, block, previous, done };

/// What a thread shows its warp at a shuffle or a product.
struct Shown {
  float value;
  std::array<float, 8> a;
  std::array<float, 4> b;
};

class Block;

struct Thread {
  dim3 index;
  Block* block = nullptr;
  int in_warp = 0;
  std::array<Shown, 2>* shown = nullptr;  ///< of the warp's first lane
  int parity = 0;
  Pause pause = Pause::warp;
  std::unique_ptr<unsigned char[]> stack;
#if defined(__x86_64__)
  void* context = nullptr;
#else
  ucontext_t context;
#endif
};

inline Thread* current = nullptr;

#if defined(__x86_64__)
inline void* scheduler = nullptr;
extern "C" void tts_emulation_switch(void** from, void* to);
#else
inline ucontext_t scheduler;
#endif

constexpr std::size_t kStack = 96 * 1024;

/// Stacks are used again: making one costs more than most kernels.
inline std::vector<std::unique_ptr<unsigned char[]>>& free_stacks() {
  static std::vector<std::unique_ptr<unsigned char[]>> stacks;
  return stacks;
}

void run_thread();

/// Back to the scheduler until the barrier is there.
inline void pause(Pause why) {
  Thread* const self = current;
  self->pause = why;
#if defined(__x86_64__)
  tts_emulation_switch(&self->context, scheduler);
#else
  swapcontext(&self->context, &scheduler);
#endif
}

class Block {
 public:
  Block(dim3 index, dim3 size, dim3 grid, std::size_t shared, const std::function<void()>& kernel)
      : index_(index), size_(size), grid_(grid), kernel_(kernel), shared_bytes_(shared) {
    shared_.reset(static_cast<unsigned char*>(std::aligned_alloc(128, (shared + 127) / 128 * 128 + 128)));
    std::memset(shared_.get(), 0xFF, (shared + 127) / 128 * 128 + 128);  // NaN in every format
    const std::size_t n = static_cast<std::size_t>(size.x) * size.y * size.z;
    if (n % 32 != 0 || n > 1024) throw std::logic_error("a block of " + std::to_string(n) + " threads");
    shown_.resize(n);
    threads_.resize(n);
    for (std::size_t i = 0; i < n; ++i) {
      Thread& t = threads_[i];
      t.index = {static_cast<unsigned>(i), 0, 0};
      t.block = this;
      t.in_warp = static_cast<int>(i % 32);
      t.shown = &shown_[i / 32 * 32];
      if (free_stacks().empty()) {
        t.stack = std::make_unique_for_overwrite<unsigned char[]>(kStack);
      } else {
        t.stack = std::move(free_stacks().back());
        free_stacks().pop_back();
      }
      start(t);
    }
  }
  Block(const Block&) = delete;
  ~Block() {
    for (Thread& t : threads_) free_stacks().push_back(std::move(t.stack));
  }

  /// Runs on until every thread waits for the kernel before this one, or all are done.
  void run() {
    blockIdx = index_;
    blockDim = size_;
    gridDim = grid_;
    while (true) {
      for (std::size_t warp = 0; warp < threads_.size(); warp += 32) {
        while (run_warp(warp)) continue;
      }
      const Pause where = threads_.front().pause;
      for (const Thread& t : threads_) {
        if (t.pause != where) throw std::logic_error("threads of one block wait at different barriers");
      }
      if (where != Pause::block) break;
    }
    const std::size_t end = (shared_bytes_ + 127) / 128 * 128;
    for (std::size_t i = shared_bytes_; i < end + 128; ++i) {
      if (shared_[i] != 0xFF) throw std::logic_error("written past the end of shared memory");
    }
  }
  [[nodiscard]] bool done() const { return threads_.front().pause == Pause::done; }
  [[nodiscard]] unsigned char* shared() const { return shared_.get(); }
  void run_kernel() const { kernel_(); }

 private:
  struct Free {
    void operator()(unsigned char* p) const { std::free(p); }
  };

  /// Lets every lane run to its next barrier; true when that was a barrier of the warp.
  bool run_warp(std::size_t warp) {
    for (std::size_t i = warp; i < warp + 32; ++i) {
      if (threads_[i].pause != Pause::done) resume(threads_[i]);
    }
    const Pause where = threads_[warp].pause;
    for (std::size_t i = warp; i < warp + 32; ++i) {
      if ((threads_[i].pause == Pause::warp) != (where == Pause::warp)) {
        throw std::logic_error("lanes of one warp part before a shuffle or a product");
      }
    }
    return where == Pause::warp;
  }

  static void start(Thread& t);
  static void resume(Thread& t) {
    current = &t;
    threadIdx = t.index;
#if defined(__x86_64__)
    tts_emulation_switch(&scheduler, t.context);
#else
    swapcontext(&scheduler, &t.context);
#endif
    current = nullptr;
  }

  dim3 index_, size_, grid_;
  const std::function<void()>& kernel_;
  std::size_t shared_bytes_;
  std::unique_ptr<unsigned char[], Free> shared_;
  std::vector<std::array<Shown, 2>> shown_;
  std::vector<Thread> threads_;
};

inline void run_thread() {
  current->block->run_kernel();
  pause(Pause::done);
  std::abort();
}

#if defined(__x86_64__)
// Callee-saved registers and the stack pointer: all that a switch between functions needs (System V ABI, 3.2.1).
asm(R"(
.text
.weak tts_emulation_switch
.type tts_emulation_switch,@function
tts_emulation_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size tts_emulation_switch,.-tts_emulation_switch
)");
inline void Block::start(Thread& t) {
  auto top = reinterpret_cast<std::uintptr_t>(t.stack.get() + kStack) & ~std::uintptr_t{15};
  auto* sp = reinterpret_cast<void**>(top);
  *--sp = nullptr;  // the return address of run_thread, which does not return
  *--sp = reinterpret_cast<void*>(&run_thread);
  for (int i = 0; i < 6; ++i) *--sp = nullptr;
  t.context = sp;
}
#else
inline void Block::start(Thread& t) {
  getcontext(&t.context);
  t.context.uc_stack.ss_sp = t.stack.get();
  t.context.uc_stack.ss_size = kStack;
  makecontext(&t.context, &run_thread, 0);
}
#endif

/// A kernel on its way: all of its blocks, since those of the next one may begin before these are done.
class Running {
 public:
  Running(dim3 grid, dim3 size, std::size_t shared, std::function<void()> kernel) : kernel_(std::move(kernel)) {
    for (unsigned z = 0; z < grid.z; ++z) {
      for (unsigned y = 0; y < grid.y; ++y) {
        for (unsigned x = 0; x < grid.x; ++x) blocks_.emplace_back(dim3{x, y, z}, size, grid, shared, kernel_);
      }
    }
  }
  void run() {
    for (Block& block : blocks_) {
      if (!block.done()) block.run();
    }
  }
  [[nodiscard]] bool done() const { return blocks_.front().done(); }

 private:
  std::function<void()> kernel_;
  std::deque<Block> blocks_;
};

struct Launch {
  dim3 grid, block;
  std::size_t shared = 0;
  bool overlaps = false;
  std::function<void()> kernel;
  std::function<void()> copy;  ///< instead of a kernel
};

/// Runs the launches of one stream in order, each that may overlap begun as early as it may.
inline void run_launches(const std::vector<Launch>& launches) {
  std::unique_ptr<Running> running;
  const auto finish = [](Running& r) {
    while (!r.done()) r.run();
  };
  for (std::size_t i = 0; i < launches.size(); ++i) {
    const Launch& launch = launches[i];
    if (launch.copy) {
      launch.copy();
      continue;
    }
    if (!running) {
      running = std::make_unique<Running>(launch.grid, launch.block, launch.shared, launch.kernel);
      running->run();
    }
    std::unique_ptr<Running> next;
    if (i + 1 < launches.size() && launches[i + 1].overlaps && !launches[i + 1].copy) {
      const Launch& l = launches[i + 1];
      next = std::make_unique<Running>(l.grid, l.block, l.shared, l.kernel);
      next->run();
    }
    finish(*running);
    running = std::move(next);
  }
}

// The language.

inline unsigned char* shared_memory() {
  return current->block->shared();
}
inline uint4 load_once(const uint4* from) {
  return *from;
}
inline void wait_for_previous() {
  pause(Pause::previous);
}
inline void let_next_begin() {}

/// Shows the warp what a lane has; the others' are in place i of what comes back until the lane shows again.
inline const std::array<Shown, 2>* show(const Shown& mine, int& slot) {
  Thread& t = *current;
  t.parity ^= 1;
  slot = t.parity;
  t.shown[t.in_warp][static_cast<std::size_t>(slot)] = mine;
  pause(Pause::warp);
  return t.shown;
}

template <class Number>
struct Low {
  static std::uint16_t narrow(float v) {
    const Number n(v);
    return n.x;
  }
  static std::uint32_t pack(float first, float second) {
    return narrow(first) | static_cast<std::uint32_t>(narrow(second)) << 16U;
  }
  static float one(std::uint32_t bits) {
    return static_cast<float>(Number(static_cast<std::uint16_t>(bits), Number::from_bits()));
  }
  static float2 widen(std::uint32_t pair) { return {one(pair & 0xFFFFU), one(pair >> 16U)}; }
  /// PTX, mma.m16n8k16: lane 4 g + t has rows g and g + 8 of A and c, columns 2 t, 2 t + 1 and those + 8 of A; column g
  /// of B.
  static void multiply(float (&c)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2, std::uint32_t a3,
                       std::uint32_t b0, std::uint32_t b1) {
    Shown mine{};
    const std::array<std::uint32_t, 4> a = {a0, a1, a2, a3};
    for (std::size_t i = 0; i < 8; ++i) mine.a[i] = one(a[i / 2] >> 16U * (i % 2) & 0xFFFFU);
    const std::array<std::uint32_t, 2> b = {b0, b1};
    for (std::size_t i = 0; i < 4; ++i) mine.b[i] = one(b[i / 2] >> 16U * (i % 2) & 0xFFFFU);
    const int lane = current->in_warp;
    int slot = 0;
    const auto* const warp = show(mine, slot);
    const auto at = static_cast<std::size_t>(slot);
    for (int half = 0; half < 2; ++half) {
      std::array<float, 16> row;
      bool any = false;
      for (int k = 0; k < 16; ++k) {
        const auto& left = warp[lane / 4 * 4 + k % 8 / 2][at].a;
        row[static_cast<std::size_t>(k)] = left[static_cast<std::size_t>(2 * half + k / 8 * 4 + k % 2)];
        any = any || row[static_cast<std::size_t>(k)] != 0;
      }
      if (!any) continue;  // most rows of a small batch
      for (int i = 0; i < 2; ++i) {
        float& sum = c[2 * half + i];
        for (int k = 0; k < 16; ++k) {
          const auto& right = warp[(2 * (lane % 4) + i) * 4 + k % 8 / 2][at].b;
          sum += row[static_cast<std::size_t>(k)] * right[static_cast<std::size_t>(k / 8 * 2 + k % 2)];
        }
      }
    }
  }
};
using Bf16 = Low<c10::BFloat16>;
struct Fp16 : Low<c10::Half> {
  static float bounded(float v) { return v != v ? v : std::fmin(std::fmax(v, -65504.0F), 65504.0F); }
  static std::uint16_t narrow(float v) { return Low<c10::Half>::narrow(bounded(v)); }
  static std::uint32_t pack(float first, float second) {
    return narrow(first) | static_cast<std::uint32_t>(narrow(second)) << 16U;
  }
};

}  // namespace tts::cuda_emulation

inline void __syncthreads() {
  tts::cuda_emulation::pause(tts::cuda_emulation::Pause::block);
}
inline float __shfl_xor_sync(unsigned, float value, int mask) {
  tts::cuda_emulation::Shown mine{};
  mine.value = value;
  const int lane = tts::cuda_emulation::current->in_warp;
  int slot = 0;
  const auto* const warp = tts::cuda_emulation::show(mine, slot);
  return warp[lane ^ mask][static_cast<std::size_t>(slot)].value;
}
inline float rsqrtf(float v) {
  return 1.0F / std::sqrt(v);
}

// The runtime.

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorLaunchFailure = 719
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaLaunchAttributeID { cudaLaunchAttributeProgrammaticStreamSerialization };
struct cudaLaunchAttributeValue {
  int programmaticStreamSerializationAllowed;
};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  cudaLaunchAttributeValue val;
};
struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount;
  std::size_t sharedMemPerBlockOptin, totalGlobalMem;
};
constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocMapped = 2,
                   cudaHostAllocPortable = 1;

namespace tts::cuda_emulation {

/// The machine that the tests run on: what it has, and what is to go wrong.
struct Machine {
  std::size_t memory = std::size_t{1} << 30U;  ///< of the device, free at first
  int devices = 1;
  bool overlap = true;         ///< false: as a device before sm_90
  bool graphs_overlap = true;  ///< false: as a driver whose graphs know no such edges
  int fail_launch_in = -1;     ///< so many launches until one fails, and all after it
  // What happened.
  std::size_t used = 0;
  int graphs = 0;
  int launches = 0;
  int syncs = 0;
  std::map<void*, std::size_t> allocations;
};
inline Machine machine;

}  // namespace tts::cuda_emulation

struct cudaGraphEmulated {
  std::vector<tts::cuda_emulation::Launch> launches;
};
using cudaGraph_t = cudaGraphEmulated*;
using cudaGraphExec_t = cudaGraphEmulated*;
struct cudaStreamEmulated {
  std::vector<tts::cuda_emulation::Launch> waiting;
  cudaGraph_t captured = nullptr;
};
using cudaStream_t = cudaStreamEmulated*;
struct cudaEventEmulated {
  cudaStream_t stream = nullptr;
};
using cudaEvent_t = cudaEventEmulated*;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

inline const char* cudaGetErrorString(cudaError_t e) {
  return e == cudaErrorMemoryAllocation ? "out of memory"
         : e == cudaErrorLaunchFailure  ? "unspecified launch failure"
                                        : "invalid argument";
}
inline cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* n) {
  *n = tts::cuda_emulation::machine.devices;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  return device < tts::cuda_emulation::machine.devices ? cudaSuccess : cudaErrorInvalidValue;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  std::strcpy(p->name, "emulated");
  p->major = tts::cuda_emulation::machine.overlap ? 9 : 8;
  p->minor = 0;
  p->multiProcessorCount = 4;
  p->sharedMemPerBlockOptin = 227 * 1024;
  p->totalGlobalMem = tts::cuda_emulation::machine.memory;
  return cudaSuccess;
}
inline cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *total = tts::cuda_emulation::machine.memory;
  *free = *total - tts::cuda_emulation::machine.used;
  return cudaSuccess;
}
inline cudaError_t cudaMalloc(void** p, std::size_t n) {
  auto& m = tts::cuda_emulation::machine;
  if (m.used + n > m.memory) return cudaErrorMemoryAllocation;
  *p = std::aligned_alloc(256, (n + 255) / 256 * 256);
  std::memset(*p, 0xFF, n);
  m.used += n;
  m.allocations[*p] = n;
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* p) {
  auto& m = tts::cuda_emulation::machine;
  if (p == nullptr) return cudaSuccess;
  m.used -= m.allocations.at(p);
  m.allocations.erase(p);
  std::free(p);
  return cudaSuccess;
}
inline cudaError_t cudaHostAlloc(void** p, std::size_t n, unsigned) {
  *p = std::aligned_alloc(256, (n + 255) / 256 * 256);
  std::memset(*p, 0xFF, n);
  return cudaSuccess;
}
inline cudaError_t cudaFreeHost(void* p) {
  std::free(p);
  return cudaSuccess;
}
inline cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  *device = host;
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t n, cudaMemcpyKind) {
  std::memcpy(to, from, n);
  return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) {
  *s = new cudaStreamEmulated;
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t s) {
  delete s;
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  ++tts::cuda_emulation::machine.syncs;
  const auto waiting = std::exchange(s->waiting, {});
  tts::cuda_emulation::run_launches(waiting);
  return tts::cuda_emulation::machine.fail_launch_in == 0 ? cudaErrorLaunchFailure : cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t n, cudaMemcpyKind, cudaStream_t s) {
  auto& launches = s->captured != nullptr ? s->captured->launches : s->waiting;
  launches.push_back({{}, {}, 0, false, {}, [=] { std::memcpy(to, from, n); }});
  return cudaSuccess;
}
inline cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
  s->captured = new cudaGraphEmulated;
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
  *graph = std::exchange(s->captured, nullptr);
  return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  if (!tts::cuda_emulation::machine.graphs_overlap) {
    for (const auto& launch : graph->launches) {
      if (launch.overlaps) return cudaErrorInvalidValue;
    }
  }
  ++tts::cuda_emulation::machine.graphs;
  *exec = new cudaGraphEmulated(*graph);
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s) {
  auto& left = tts::cuda_emulation::machine.fail_launch_in;
  if (left > 0) --left;
  s->waiting.insert(s->waiting.end(), exec->launches.begin(), exec->launches.end());
  ++tts::cuda_emulation::machine.launches;
  return cudaSuccess;
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) {
  *e = new cudaEventEmulated;
  return cudaSuccess;
}
inline cudaError_t cudaEventDestroy(cudaEvent_t e) {
  delete e;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  e->stream = s;
  return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  return cudaStreamSynchronize(e->stream);
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel*, cudaFuncAttribute, int) {
  return cudaSuccess;
}
template <class... Wanted, class... Given>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Wanted...), Given&&... given) {
  const bool overlaps = config->numAttrs > 0 && config->attrs[0].val.programmaticStreamSerializationAllowed != 0;
  const std::tuple<Wanted...> arguments(std::forward<Given>(given)...);
  tts::cuda_emulation::Launch launch{config->gridDim,
                                     config->blockDim,
                                     config->dynamicSmemBytes,
                                     overlaps,
                                     [=] { std::apply(kernel, arguments); },
                                     {}};
  auto& launches = config->stream->captured != nullptr ? config->stream->captured->launches : config->stream->waiting;
  launches.push_back(std::move(launch));
  return cudaSuccess;
}
