# SPDX-License-Identifier: BSD-3-Clause
# longattn._native: the pybind11 module. No torch header and no torch library comes near it.
find_package(Python 3.10 COMPONENTS Interpreter Development.Module)
if(NOT Python_Development.Module_FOUND)
  message(FATAL_ERROR "The headers of Python 3.10 or newer were not found for the interpreter "
    "'${Python_EXECUTABLE}': install them (Debian and Ubuntu: apt install python3-dev).")
endif()
if(NOT pybind11_DIR)
  execute_process(COMMAND ${Python_EXECUTABLE} -m pybind11 --cmakedir
    OUTPUT_VARIABLE pybind11_DIR OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
find_package(pybind11 2.12 CONFIG REQUIRED)

# NO_EXTRAS: link-time optimisation could carry wide instructions into code that runs everywhere.
pybind11_add_module(_native MODULE NO_EXTRAS
  csrc/api/bind_cpu.cpp
  csrc/api/bindings.cpp
  csrc/api/calls.cpp
  csrc/api/lower_bands.cpp
  csrc/api/rotary_call.cpp)
target_link_libraries(_native PRIVATE longattn_flags ${LONGATTN_CPU_LIBRARIES})

if(LONGATTN_CUDA_BUILT)
  target_sources(_native PRIVATE csrc/api/bind_cuda.cpp)
  target_link_libraries(_native PRIVATE ${LONGATTN_CUDA_LIBRARIES})
else()
  target_sources(_native PRIVATE csrc/api/bind_no_cuda.cpp)
  set_source_files_properties(csrc/api/bind_no_cuda.cpp PROPERTIES
    COMPILE_DEFINITIONS "LONGATTN_NO_CUDA_REASON=\"${LONGATTN_NO_CUDA_REASON}\"")
endif()

if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  # The module brings its own C++ runtime and shows nothing but its entry point, so that it runs
  # beside any torch, whatever C++ runtime that one was built with. For the same reason pybind11's
  # registry of types and exceptions is not shared with other modules (PYBIND11_STDLIB names it).
  set(exports ${PROJECT_SOURCE_DIR}/cmake/exports.map)
  target_link_options(_native PRIVATE
    -static-libstdc++ -static-libgcc -Wl,--version-script=${exports})
  set_target_properties(_native PROPERTIES LINK_DEPENDS ${exports})
  target_compile_definitions(_native PRIVATE PYBIND11_STDLIB="_longattn_static_libstdcpp")
endif()
install(TARGETS _native LIBRARY DESTINATION . COMPONENT python)
