// SPDX-License-Identifier: BSD-3-Clause
// What lets one header serve g++ (once per instruction set) and nvcc.
#pragma once

#if defined(__CUDACC__)
#define LONGATTN_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define LONGATTN_HOST_DEVICE inline
#endif

// Functions live in an inline namespace named after the instruction set they are compiled for:
// otherwise the linker may keep the AVX-512 copy of an inline function for the baseline code too.
// Plain data that crosses such borders lives in `longattn` itself.
#ifndef LONGATTN_ISA
#define LONGATTN_ISA generic
#endif
