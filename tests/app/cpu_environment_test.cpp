#include "src/app/cpu_environment.h"

#include <map>
#include <string>

#include "tests/doctest.h"

TEST_SUITE("app/cpu_environment") {
  using namespace tts;
  using Missing = std::vector<std::pair<std::string, std::string>>;

  constexpr const char* kZen =
      "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9B45\n"
      "flags\t\t: fpu avx2 avx512f avx512dq avx512vl avx512_bf16\n";
  constexpr const char* kIntel = "vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 avx512f avx512dq avx512vl\n";
  constexpr const char* kOld = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512\n";

  GetEnv set(std::map<std::string, std::string> variables) {
    return [variables = std::move(variables)](const char* name) -> const char* {
      const auto found = variables.find(name);
      return found == variables.end() ? nullptr : found->second.c_str();
    };
  }

  TEST_CASE("AVX-512 kernels are named only where OpenBLAS would not choose them") {
    const Missing passive{{"OMP_WAIT_POLICY", "passive"}};
    CHECK(missing_environment(kZen, set({})) ==
          Missing{{"OMP_WAIT_POLICY", "passive"}, {"OPENBLAS_CORETYPE", "SkylakeX"}});
    CHECK(missing_environment(kIntel, set({})) == passive);
    CHECK(missing_environment(kOld, set({})) == passive);
    CHECK(missing_environment("", set({})) == passive);
  }

  TEST_CASE("what the caller has set stays") {
    CHECK(missing_environment(kZen, set({{"OMP_WAIT_POLICY", "active"}, {"OPENBLAS_CORETYPE", "Zen"}})).empty());
    CHECK(missing_environment(kZen, set({{"OPENBLAS_CORETYPE", ""}})) == Missing{{"OMP_WAIT_POLICY", "passive"}});
  }

  TEST_CASE("the CPU's name") {
    CHECK(cpu_name(kZen) == "AMD EPYC 9B45");
    CHECK(cpu_name(kOld).empty());
  }
}
