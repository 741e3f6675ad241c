# The CUDA kernels of models/cuda. Sets SONORANT_HAS_CUDA. They need nvcc and CUDA's runtime, which is linked statically:
# a program built with them also runs where there is no GPU, no driver and no CUDA.
set(SONORANT_CUDA AUTO CACHE STRING "The CUDA kernels: AUTO (where there is an nvcc), ON or OFF")
set_property(CACHE SONORANT_CUDA PROPERTY STRINGS AUTO ON OFF)
set(SONORANT_HAS_CUDA OFF)
if(SONORANT_CUDA STREQUAL "AUTO" AND NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  find_program(SONORANT_NVCC nvcc PATHS /usr/local/cuda/bin)
  mark_as_advanced(SONORANT_NVCC)
endif()
if(SONORANT_CUDA STREQUAL "AUTO" AND (SONORANT_NVCC OR CMAKE_CUDA_COMPILER OR DEFINED ENV{CUDACXX}) OR
   (NOT SONORANT_CUDA STREQUAL "AUTO" AND SONORANT_CUDA))
  if(SONORANT_NVCC AND NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER "${SONORANT_NVCC}")
  endif()
  # Machine code of Hopper, and PTX for what is newer. Older ones: 80, 86, 89.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 90)
    if(DEFINED ENV{CUDAARCHS})
      set(CMAKE_CUDA_ARCHITECTURES "$ENV{CUDAARCHS}")
    endif()
  endif()
  # find_package(Torch) of a CUDA build sets these its own way.
  set(SONORANT_CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    set(SONORANT_HAS_CUDA ON)
  elseif(NOT SONORANT_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "SONORANT_CUDA is ${SONORANT_CUDA}, but no CUDA compiler works here; "
                        "name nvcc with -DCMAKE_CUDA_COMPILER=")
  endif()
endif()
