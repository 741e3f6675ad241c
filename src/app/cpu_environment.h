#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tts {

/// Looks a variable up; nullptr when unset.
using GetEnv = std::function<const char*(const char*)>;

/// Variables that the numeric libraries read while they are loaded, before main, and that are not set yet:
///   OMP_WAIT_POLICY=passive       idle OpenMP threads sleep instead of taking a core from another thread
///   OPENBLAS_CORETYPE=SkylakeX    on CPUs with AVX-512 that OpenBLAS does not know and treats as Haswell (1.6x slower)
/// `cpuinfo` is the text of /proc/cpuinfo. What the caller has set stays.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> missing_environment(std::string_view cpuinfo,
                                                                                   const GetEnv& get_env);

/// Sets them and starts this program again with the same arguments, once: call first in main. Then, and when nothing
/// is missing, it returns. It also makes malloc keep large blocks, so that tensors are not mapped anew each time.
void prepare_cpu_environment(char** argv);

/// "model name" of /proc/cpuinfo; empty when there is none.
[[nodiscard]] std::string cpu_name(std::string_view cpuinfo);

}  // namespace tts
