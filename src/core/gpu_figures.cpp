#include "src/core/gpu_figures.h"

#include <array>
#include <utility>

#include <dlfcn.h>

namespace tts {
namespace {

// The part of NVML's interface that is used here (NVIDIA Management Library API reference, device queries).
using Device = void*;
struct Utilization {
  unsigned int gpu;
  unsigned int memory;
};
struct Memory {
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};
constexpr int kSuccess = 0;

template <class Function>
bool find(void* handle, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(handle, name));
  return function != nullptr;
}

}  // namespace

struct GpuReader::Library {
  void* handle = nullptr;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*count)(unsigned int*) = nullptr;
  int (*by_index)(unsigned int, Device*) = nullptr;
  int (*name)(Device, char*, unsigned int) = nullptr;
  int (*utilization)(Device, Utilization*) = nullptr;
  int (*memory)(Device, Memory*) = nullptr;
  bool running = false;

  Library() = default;
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  ~Library() {
    if (running) (void)shutdown();
    if (handle != nullptr) ::dlclose(handle);
  }
};

GpuReader::GpuReader(std::unique_ptr<Library> library) : library_(std::move(library)) {}
GpuReader::~GpuReader() = default;

std::unique_ptr<GpuReader> GpuReader::open(const char* library) {
  auto l = std::make_unique<Library>();
  l->handle = ::dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (l->handle == nullptr) return nullptr;
  const bool whole = find(l->handle, "nvmlInit_v2", l->init) && find(l->handle, "nvmlShutdown", l->shutdown) &&
                     find(l->handle, "nvmlDeviceGetCount_v2", l->count) &&
                     find(l->handle, "nvmlDeviceGetHandleByIndex_v2", l->by_index) &&
                     find(l->handle, "nvmlDeviceGetName", l->name) &&
                     find(l->handle, "nvmlDeviceGetUtilizationRates", l->utilization) &&
                     find(l->handle, "nvmlDeviceGetMemoryInfo", l->memory);
  if (!whole || l->init() != kSuccess) return nullptr;
  l->running = true;
  return std::unique_ptr<GpuReader>(new GpuReader(std::move(l)));
}

std::vector<GpuFigures> GpuReader::read() const {
  std::vector<GpuFigures> all;
  unsigned int count = 0;
  if (library_->count(&count) != kSuccess) return all;
  for (unsigned int i = 0; i < count; ++i) {
    Device device = nullptr;
    Utilization use{};
    Memory memory{};
    if (library_->by_index(i, &device) != kSuccess || library_->memory(device, &memory) != kSuccess) continue;
    (void)library_->utilization(device, &use);  // some devices have memory to tell of and no utilization
    std::array<char, 97> name{};
    if (library_->name(device, name.data(), name.size() - 1) != kSuccess) name[0] = '\0';
    all.push_back({static_cast<int>(i), name.data(), use.gpu / 100.0, memory.used, memory.total});
  }
  return all;
}

}  // namespace tts
