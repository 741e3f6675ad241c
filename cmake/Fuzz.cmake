# tts_add_fuzzer(NAME SOURCES file... LIBS target...)
#
# Defines NAME_fuzz from sources that hold LLVMFuzzerTestOneInput, and the ctest "fuzz_NAME", which runs every file of
# tests/fuzz/corpus/NAME through it once. Under SONORANT_FUZZ the program is a libFuzzer binary:
#   build/fuzz/tests/NAME_fuzz -max_total_time=60 /tmp/new-inputs tests/fuzz/corpus/NAME
# Without SONORANT_TESTS, and under the thread sanitizer (the targets are single-threaded), it does nothing.
function(tts_add_fuzzer name)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "" "SOURCES;LIBS")
  string(REGEX REPLACE "_fuzz$" "" name "${name}")
  set(target "${name}_fuzz")
  if(NOT SONORANT_TESTS OR SONORANT_SANITIZE STREQUAL "thread" OR TARGET ${target})
    return()
  endif()
  add_executable(${target} ${ARG_SOURCES})
  target_link_libraries(${target} PRIVATE ${ARG_LIBS} tts::flags)
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
  set(corpus "${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name}")
  if(SONORANT_FUZZ)
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
    add_test(NAME fuzz_${name} COMMAND ${target} -runs=0 "${corpus}")
  else()
    target_sources(${target} PRIVATE "${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.cpp")
    add_test(NAME fuzz_${name} COMMAND ${target} "${corpus}")
  endif()
  set_tests_properties(fuzz_${name} PROPERTIES WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}" TIMEOUT 300)
endfunction()
