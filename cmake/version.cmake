# What src/base/version.cpp and config.cpp learn from the build: git revision, libraries, folders.
#
# include(version), behind find_package and GNUInstallDirs: sets PTB_DIST_REVISION, as it is at
# configure time.
# cmake -D SOURCE=... -D HEADER=... -P version.cmake, at every build: rewrites the header if the
# revision has changed, so that a commit needs no new configure and an unchanged tree no new link.

function(ptb_dist_read_revision source variable)
  set(revision "")
  # Only the tree's own repository, not one that an unpacked release happens to lie in.
  if(EXISTS ${source}/.git)
    # Optional locks off: a build must not write into .git.
    execute_process(
      COMMAND ${CMAKE_COMMAND} -E env GIT_OPTIONAL_LOCKS=0
              git -C ${source} describe --always --dirty --exclude=* --abbrev=12
      OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  if(revision STREQUAL "")  # no repository, no commit yet, no git
    set(revision unknown)
  endif()
  set(${variable} ${revision} PARENT_SCOPE)
endfunction()

if(CMAKE_SCRIPT_MODE_FILE)
  ptb_dist_read_revision(${SOURCE} revision)
  file(CONFIGURE OUTPUT ${HEADER} @ONLY CONTENT [[
#pragma once
namespace ptb {
inline constexpr const char* kGitRevision = "@revision@";
}
]])
  return()
endif()

ptb_dist_read_revision(${CMAKE_SOURCE_DIR} PTB_DIST_REVISION)
set(header ${CMAKE_BINARY_DIR}/generated/git_revision.hpp)
add_custom_target(ptb_dist_revision
  COMMAND ${CMAKE_COMMAND} -D SOURCE=${CMAKE_SOURCE_DIR} -D HEADER=${header}
          -P ${CMAKE_CURRENT_LIST_FILE}
  BYPRODUCTS ${header}
  COMMENT "git revision" VERBATIM)
cmake_language(DEFER CALL add_dependencies ptb_dist_core ptb_dist_revision)

set(compiler "${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}, ${CMAKE_BUILD_TYPE}")
set(mpi "${MPI_C_LIBRARY_VERSION_STRING}")  # only there with MPI_DETERMINE_LIBRARY_VERSION
if(mpi STREQUAL "")
  set(mpi "standard ${MPI_C_VERSION}")
endif()
string(REGEX REPLACE "[\n\"\\].*" "" mpi "${mpi}")
string(JOIN "\\n" libraries
  "MPI: ${mpi}" "HDF5: ${HDF5_VERSION}" "oneDNN: ${dnnl_VERSION}"
  "CUDA: ${PTB_DIST_CUDA_VERSION}" "NCCL: ${PTB_DIST_NCCL_VERSION}")
set_source_files_properties(src/base/version.cpp PROPERTIES
  INCLUDE_DIRECTORIES ${CMAKE_BINARY_DIR}/generated
  COMPILE_DEFINITIONS
    "PTB_DIST_COMPILER=\"${compiler}\";PTB_DIST_LIBRARIES=\"${libraries}\"")
# Relative, as an install can be moved.
file(RELATIVE_PATH configs ${CMAKE_INSTALL_FULL_BINDIR}
     ${CMAKE_INSTALL_FULL_DATADIR}/ptb_dist/configs)
set_property(SOURCE src/base/config.cpp APPEND PROPERTY COMPILE_DEFINITIONS
  "PTB_DIST_SOURCE_CONFIGS=\"${CMAKE_SOURCE_DIR}/configs\""
  "PTB_DIST_INSTALLED_CONFIGS=\"${configs}\"")
