# SPDX-License-Identifier: BSD-3-Clause
# Whether the CUDA sources are built, and for which GPUs.
#
# Gives: LONGATTN_CUDA_BUILT       TRUE or FALSE
#        LONGATTN_NO_CUDA_REASON   where FALSE: the sentence that `python -m longattn env` repeats
#        LONGATTN_CUDA_LIBRARIES   where TRUE: the object libraries
set(LONGATTN_CUDA AUTO CACHE STRING "Build the CUDA sources: ON, OFF or AUTO")
set(LONGATTN_CUDA_ARCHITECTURES "" CACHE STRING
  "GPUs to compile for, such as 80-real,90a-real; empty: those of this machine, else a list")

# Compiled where this machine has no GPU to ask.
set(longattn_default_architectures
  80-real      # A100
  80-virtual)  # PTX, from which the driver compiles for any other GPU from 8.0 on

# ---- What is here?
if(DEFINED ENV{CUDACXX} AND NOT CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER $ENV{CUDACXX})
endif()
if(CMAKE_CUDA_COMPILER)
  set(LONGATTN_NVCC ${CMAKE_CUDA_COMPILER} CACHE FILEPATH "The CUDA compiler")
endif()
find_program(LONGATTN_NVCC nvcc
  HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
find_program(LONGATTN_NVIDIA_SMI nvidia-smi)
find_library(LONGATTN_LIBCUDA libcuda.so.1 PATHS /usr/lib/wsl/lib /usr/local/nvidia/lib64)
set(longattn_driver_traces "")
foreach(trace "${LONGATTN_NVIDIA_SMI}" "${LONGATTN_LIBCUDA}" /proc/driver/nvidia)
  if(EXISTS "${trace}")
    list(APPEND longattn_driver_traces ${trace})
  endif()
endforeach()
list(JOIN longattn_driver_traces ", " longattn_driver_traces)

# ---- Build the CUDA sources?
string(TOUPPER "${LONGATTN_CUDA}" longattn_cuda_wish)
if(NOT longattn_cuda_wish MATCHES "^(ON|OFF|AUTO)$")
  message(FATAL_ERROR "LONGATTN_CUDA is '${LONGATTN_CUDA}'; it takes ON, OFF or AUTO.")
endif()
set(LONGATTN_CUDA_BUILT FALSE)
if(longattn_cuda_wish STREQUAL "OFF")
  set(LONGATTN_NO_CUDA_REASON "it was built with LONGATTN_CUDA=OFF")
elseif(LONGATTN_NVCC)
  set(LONGATTN_CUDA_BUILT TRUE)
elseif(longattn_cuda_wish STREQUAL "ON")
  message(FATAL_ERROR "LONGATTN_CUDA is ON but nvcc was not found: install the CUDA toolkit 12.1 "
    "or newer and put nvcc on the PATH (or set CUDA_HOME), or set LONGATTN_CUDA=OFF.")
elseif(longattn_driver_traces)
  message(FATAL_ERROR "This machine has an NVIDIA driver (${longattn_driver_traces}) but no nvcc: "
    "install the CUDA toolkit 12.1 or newer and put nvcc on the PATH (or set CUDA_HOME), or set "
    "LONGATTN_CUDA=OFF to build for the CPU alone.")
else()
  set(LONGATTN_NO_CUDA_REASON "neither nvcc nor an NVIDIA driver was found when it was built")
endif()
if(NOT LONGATTN_CUDA_BUILT)
  message(STATUS "longattn: CUDA: no, ${LONGATTN_NO_CUDA_REASON}")
  return()
endif()

# ---- For which GPUs?
# Each GPU of this machine counts with its compute capability; one older than 8.0 is left out.
function(longattn_architectures_of_this_machine result)
  set(architectures "")
  set(capabilities "")
  if(LONGATTN_NVIDIA_SMI)
    execute_process(COMMAND ${LONGATTN_NVIDIA_SMI} --query-gpu=compute_cap --format=csv,noheader
      OUTPUT_VARIABLE answer RESULT_VARIABLE code ERROR_QUIET)
    if(code EQUAL 0)
      string(REGEX MATCHALL "[0-9]+\\.[0-9]+" capabilities "${answer}")
    endif()
  endif()
  foreach(capability IN LISTS capabilities)
    string(REPLACE "." "" number ${capability})
    if(number EQUAL 90)
      list(APPEND architectures 90a-real)
    elseif(number GREATER_EQUAL 80)
      list(APPEND architectures ${number}-real)
    endif()
  endforeach()
  list(REMOVE_DUPLICATES architectures)
  set(${result} "${architectures}" PARENT_SCOPE)
endfunction()

string(REPLACE "," ";" longattn_architectures "${LONGATTN_CUDA_ARCHITECTURES}")
foreach(architecture IN LISTS longattn_architectures)
  if(NOT architecture MATCHES "^[0-9]+[af]?(-real|-virtual)?$")
    message(FATAL_ERROR "LONGATTN_CUDA_ARCHITECTURES holds '${architecture}'; it takes a list such "
      "as 80-real,90a-real,80-virtual.")
  endif()
endforeach()
if(NOT longattn_architectures)
  longattn_architectures_of_this_machine(longattn_architectures)
endif()
if(NOT longattn_architectures)
  set(longattn_architectures ${longattn_default_architectures})
endif()

# ---- Build it.
message(STATUS "longattn: CUDA: yes, with ${LONGATTN_NVCC} for ${longattn_architectures} "
  "(LONGATTN_CUDA=OFF leaves it out)")
set(CMAKE_CUDA_COMPILER ${LONGATTN_NVCC})
set(CMAKE_CUDA_ARCHITECTURES OFF)  # each target names its own
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.1)  # see csrc/cuda/host/versions.h
  message(FATAL_ERROR "nvcc is version ${CMAKE_CUDA_COMPILER_VERSION}; longattn needs 12.1 or "
    "newer. Install a newer CUDA toolkit or set LONGATTN_CUDA=OFF.")
endif()

# A CMake that does not know yet that nvcc compiles C++20 is told here.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
add_library(longattn_cuda_flags INTERFACE)
target_compile_options(longattn_cuda_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>)
target_link_libraries(longattn_cuda_flags INTERFACE longattn_flags)

# One object library a family of kernels, so that code for one architecture stays in translation
# units of its own and no kernel asks for what it is compiled. wgmma kernels (90a) will be a second.
add_library(longattn_cuda_sm80 OBJECT
  csrc/cuda/host/backward.cu
  csrc/cuda/host/forward.cu
  csrc/cuda/host/rotary.cu
  csrc/cuda/host/row_dot.cu)
add_library(longattn_cuda_host OBJECT
  csrc/cuda/host/device_guard.cu
  csrc/cuda/host/device_query.cu)
set(LONGATTN_CUDA_LIBRARIES longattn_cuda_sm80 longattn_cuda_host)
foreach(library IN LISTS LONGATTN_CUDA_LIBRARIES)
  target_link_libraries(${library} PUBLIC longattn_cuda_flags)
  # <ptx/...> and <launch/...>: the emulator of tests/simt puts its own in front of these.
  target_include_directories(${library} PRIVATE csrc/cuda)
  set_target_properties(${library} PROPERTIES CUDA_ARCHITECTURES "${longattn_architectures}")
endforeach()
list(JOIN longattn_architectures "," longattn_architectures_text)
target_compile_definitions(longattn_cuda_host PRIVATE
  LONGATTN_CUDA_ARCHITECTURES="${longattn_architectures_text}")
