#include "src/core/available_memory.h"

#include <string>

#include "tests/app/temporary_folder.h"
#include "tests/doctest.h"

namespace tts {
namespace {

using testing::TemporaryFolder;

constexpr const char* kMeminfo = "MemTotal:  16000000 kB\nMemFree: 100 kB\nMemAvailable:   8000000 kB\n";
constexpr std::uint64_t kFree = 8'000'000ULL * 1024;

}  // namespace

TEST_SUITE("core/available_memory") {
  TEST_CASE("what the kernel calls available, where no group has a limit") {
    const TemporaryFolder root;
    root.write("proc/meminfo", kMeminfo);
    CHECK(available_memory(root.path()) == kFree);
    root.write("proc/self/cgroup", "0::/user.slice\n");
    root.write("sys/fs/cgroup/user.slice/memory.max", "max\n");
    root.write("sys/fs/cgroup/user.slice/memory.current", "123456\n");
    CHECK(available_memory(root.path()) == kFree);
  }

  TEST_CASE("a group's limit counts, its own and those above it, cached files as free") {
    const TemporaryFolder root;
    root.write("proc/meminfo", kMeminfo);
    root.write("proc/self/cgroup", "1:cpu:/elsewhere\n0::/box/inner\n");
    root.write("sys/fs/cgroup/box/inner/memory.max", "4000000000\n");
    root.write("sys/fs/cgroup/box/inner/memory.current", "1000000000\n");
    root.write("sys/fs/cgroup/box/inner/memory.stat", "anon 1\ninactive_file 400000000\n");
    CHECK(available_memory(root.path()) == 3'400'000'000ULL);
    root.write("sys/fs/cgroup/box/memory.max", "2000000000\n");
    root.write("sys/fs/cgroup/box/memory.current", "1500000000\n");
    CHECK(available_memory(root.path()) == 500'000'000ULL);
    root.write("sys/fs/cgroup/box/memory.current", "2500000000\n");  // over its limit: nothing is left
    CHECK(available_memory(root.path()) == 0);
  }

  TEST_CASE("version 1, and a container that knows only the host's path") {
    const TemporaryFolder root;
    root.write("proc/meminfo", kMeminfo);
    root.write("proc/self/cgroup", "5:cpu,memory:/docker/0123\n0::/docker/0123\n");
    root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "3000000000\n");
    root.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "1000000000\n");
    root.write("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 200000000\n");
    CHECK(available_memory(root.path()) == 2'200'000'000ULL);
    root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");  // none
    CHECK(available_memory(root.path()) == kFree);
  }

  TEST_CASE("a system that says nothing, or nonsense, gives nothing") {
    const TemporaryFolder root;
    CHECK(!available_memory(root.path()));
    root.write("proc/meminfo", "MemAvailable: many kB\n");
    root.write("proc/self/cgroup", "nonsense\n0:\n");
    CHECK(!available_memory(root.path()));
    CHECK(available_memory().value_or(1) > 0);  // of this machine, whatever it is
  }
}

}  // namespace tts
