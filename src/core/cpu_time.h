#pragma once

namespace tts {

/// Processor time that the calling thread, or all threads of the process, have used, in seconds.
[[nodiscard]] double thread_cpu_seconds() noexcept;
[[nodiscard]] double process_cpu_seconds() noexcept;

}  // namespace tts
