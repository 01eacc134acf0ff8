# Whether the CUDA backend is built, for which GPUs, and what the summary says of it.
#
# include(cuda), behind project(): PTB_DIST_CUDA is AUTO (where nvcc and cuBLAS are found), ON (or
# an error) or OFF. Sets PTB_DIST_HAS_CUDA, PTB_DIST_CUDA_OPTIONS (of nvcc), PTB_DIST_CUDA_VERSION
# and PTB_DIST_CUDA_SUMMARY, and PTB_DIST_CUDA_INCLUDE_DIRS to the toolkit's headers, which the
# tests use without nvcc as well.
# CMAKE_CUDA_ARCHITECTURES is the user's, else code for sm_80 and sm_90, and PTX for those to come.

set(PTB_DIST_CUDA AUTO CACHE STRING "the CUDA backend: AUTO (where nvcc and cuBLAS are) | ON | OFF")
set_property(CACHE PTB_DIST_CUDA PROPERTY STRINGS AUTO ON OFF)

include(CheckLanguage)
set(PTB_DIST_HAS_CUDA OFF)
set(PTB_DIST_CUDA_VERSION "built without")
set(PTB_DIST_CUDA_INCLUDE_DIRS "")

# The headers and libraries by themselves: a machine may have them without a compiler.
find_package(CUDAToolkit QUIET)
if(CUDAToolkit_FOUND)
  set(PTB_DIST_CUDA_INCLUDE_DIRS ${CUDAToolkit_INCLUDE_DIRS})
endif()

if(PTB_DIST_CUDA STREQUAL "OFF")
  set(PTB_DIST_CUDA_SUMMARY "not part of this build (PTB_DIST_CUDA=OFF)")
else()
  # Where a toolkit puts nvcc, which need not be on the PATH.
  if(CUDAToolkit_NVCC_EXECUTABLE AND NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER AND TARGET CUDA::cublas)
    set(PTB_DIST_HAS_CUDA ON)
  else()
    set(PTB_DIST_CUDA_SUMMARY "not part of this build: nvcc or cuBLAS not found")
    if(PTB_DIST_CUDA STREQUAL "ON")
      message(FATAL_ERROR "PTB_DIST_CUDA=ON, but nvcc or cuBLAS is not found: set CUDACXX to nvcc, "
                          "or build without it (PTB_DIST_CUDA=OFF)")
    endif()
  endif()
endif()

if(PTB_DIST_HAS_CUDA)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 90-virtual)
  endif()
  # CMake 3.25 does not know that this nvcc has C++20, and would leave it out without a word.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 20)
  # Constant expressions of the standard library (std::array, std::bit_cast) in device code. nvcc's
  # own glue between host and device does not pass -Wpedantic. A kernel that spills registers to
  # memory is a warning.
  set(PTB_DIST_CUDA_OPTIONS --expt-relaxed-constexpr -Xptxas=--warn-on-spills
      -Xcompiler=-Wall,-Wextra,-Wshadow,-Wconversion)
  if(PTB_DIST_WERROR)
    list(APPEND PTB_DIST_CUDA_OPTIONS -Werror=all-warnings -Xcompiler=-Werror
         -Xptxas=--warning-as-error)
  endif()
  set(PTB_DIST_CUDA_VERSION ${CUDAToolkit_VERSION})
  set(PTB_DIST_CUDA_SUMMARY "${CUDAToolkit_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
  string(REPLACE ";" " " PTB_DIST_CUDA_SUMMARY "${PTB_DIST_CUDA_SUMMARY}")
endif()
