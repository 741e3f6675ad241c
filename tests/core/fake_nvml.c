/* Two devices as NVML shows them; the second does not tell its utilization, the third is lost. */
#include <string.h>

struct utilization {
  unsigned int gpu, memory;
};
struct memory {
  unsigned long long total, free, used;
};

static int devices[3];

int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned int* count) {
  *count = 3;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void** device) {
  *device = &devices[index];
  return index < 2 ? 0 : 15;
}
int nvmlDeviceGetName(void* device, char* name, unsigned int length) {
  strncpy(name, device == &devices[0] ? "First \"card\"" : "Second", length);
  return 0;
}
int nvmlDeviceGetUtilizationRates(void* device, struct utilization* use) {
  if (device != &devices[0]) return 3;
  use->gpu = 37;
  use->memory = 5;
  return 0;
}
int nvmlDeviceGetMemoryInfo(void* device, struct memory* memory) {
  memory->total = 1000;
  memory->used = device == &devices[0] ? 250 : 10;
  memory->free = memory->total - memory->used;
  return 0;
}
