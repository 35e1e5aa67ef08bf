# SPDX-License-Identifier: BSD-3-Clause
# The instruction sets of the CPU engine: csrc/cpu/kernels.cpp is compiled once per row, and the
# best row that the processor can run is chosen at run time (csrc/cpu/select_isa.cpp).
#
# Gives: LONGATTN_ISA_ROWS          the rows that this compiler can compile, in order
#        LONGATTN_ISA_FLAGS_<row>   the row's compiler flags
#        longattn_cpu_<row>         its object library
#        LONGATTN_X86               whether this is Linux on x86-64, which has more than one row
include(CheckCXXSourceCompiles)

set(LONGATTN_ISAS "all" CACHE STRING "Rows of the CPU engine to build: all, or baseline,avx2,...")
string(REPLACE "," ";" longattn_wanted_isas "${LONGATTN_ISAS}")

function(longattn_isa row)
  string(TOUPPER ${row} ROW)
  if(NOT LONGATTN_ISAS STREQUAL "all" AND NOT row IN_LIST longattn_wanted_isas)
    return()
  endif()
  string(JOIN " " CMAKE_REQUIRED_FLAGS ${ARGN})
  check_cxx_source_compiles("int main() { return 0; }" LONGATTN_COMPILES_${ROW})
  if(NOT LONGATTN_COMPILES_${ROW})
    message(STATUS "longattn: this compiler lacks the flags of ${row}; the row is left out")
    return()
  endif()
  add_library(longattn_cpu_${row} OBJECT ${PROJECT_SOURCE_DIR}/csrc/cpu/kernels.cpp)
  target_link_libraries(longattn_cpu_${row} PUBLIC longattn_flags)
  target_compile_definitions(longattn_cpu_${row} PRIVATE LONGATTN_ISA=${row})
  target_compile_options(longattn_cpu_${row} PRIVATE ${ARGN})
  set(LONGATTN_ISA_ROWS ${LONGATTN_ISA_ROWS} ${row} PARENT_SCOPE)
  set(LONGATTN_ISA_FLAGS_${row} ${ARGN} PARENT_SCOPE)
endfunction()

set(LONGATTN_X86 FALSE)
if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(LONGATTN_X86 TRUE)
endif()

longattn_isa(baseline)
if(LONGATTN_X86)
  set(avx512 -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq
             -mprefer-vector-width=512)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC's own AVX-512 header starts from `__m512 __Y = __Y` and warns about it.
    list(APPEND avx512 -Wno-uninitialized)
  endif()
  longattn_isa(avx2              -mavx2 -mfma -mf16c)
  longattn_isa(avx512            ${avx512})
  longattn_isa(avx512_bf16       ${avx512} -mavx512bf16)
  longattn_isa(avx512_amx        ${avx512} -mavx512bf16 -mamx-tile -mamx-bf16)
  # The tile unit modelled in software, so that tests cover its code on every AVX-512 machine.
  longattn_isa(avx512_amx_model  ${avx512} -mavx512bf16)
endif()
if(NOT LONGATTN_ISA_ROWS)
  message(FATAL_ERROR "LONGATTN_ISAS is '${LONGATTN_ISAS}', which names no row that can be built; "
    "it takes 'all' or a list of rows such as baseline,avx2 (cmake/cpu_isa.cmake lists them).")
endif()
