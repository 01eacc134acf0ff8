# Whether sums between GPUs are made by NCCL, and what the summary says of it.
#
# include(nccl), behind cuda: PTB_DIST_NCCL is AUTO (where the CUDA backend is built and NCCL is
# found; NCCL_ROOT says where), ON (or an error) or OFF. Sets PTB_DIST_HAS_NCCL,
# PTB_DIST_NCCL_VERSION and PTB_DIST_NCCL_SUMMARY, and NCCL_INCLUDE_DIR to the header's folder,
# which the tests use without the library as well.

set(PTB_DIST_NCCL AUTO CACHE STRING "NCCL: AUTO (where it and the CUDA backend are) | ON | OFF")
set_property(CACHE PTB_DIST_NCCL PROPERTY STRINGS AUTO ON OFF)

set(PTB_DIST_HAS_NCCL OFF)
set(PTB_DIST_NCCL_VERSION "built without")
find_package(NCCL 2.18 QUIET)

if(PTB_DIST_NCCL STREQUAL "OFF")
  set(PTB_DIST_NCCL_SUMMARY "not part of this build (PTB_DIST_NCCL=OFF)")
elseif(NOT PTB_DIST_HAS_CUDA)
  set(PTB_DIST_NCCL_SUMMARY "not part of this build, like the CUDA backend")
elseif(NOT NCCL_FOUND)
  set(PTB_DIST_NCCL_SUMMARY "not part of this build: nccl.h or libnccl, 2.18 or newer, not found")
else()
  set(PTB_DIST_HAS_NCCL ON)
  set(PTB_DIST_NCCL_VERSION ${NCCL_VERSION})
  set(PTB_DIST_NCCL_SUMMARY "${NCCL_VERSION}, ${NCCL_LIBRARY}")
endif()
if(PTB_DIST_NCCL STREQUAL "ON" AND NOT PTB_DIST_HAS_NCCL)
  message(FATAL_ERROR "PTB_DIST_NCCL=ON, but NCCL is ${PTB_DIST_NCCL_SUMMARY}: give "
                      "-DNCCL_ROOT=<its folder>, or build without it (PTB_DIST_NCCL=OFF)")
endif()
