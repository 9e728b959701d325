// Rows of unsigned bytes times panels of signed bytes, 12 rows x 32 columns at a time.

#pragma once

#include "lanes.h"

namespace {

// 12 x 32 sums fill 24 of the 32 vector registers.
constexpr i64 ROWS = 12;
constexpr i64 COLS = 32;

// Sums of R rows of steps * 4 bytes, `stride` apart, times one panel [steps][32][4]: 16 columns in `low`, 16 in
// `high`. Meanwhile the bytes at `next` are brought closer.
template <int R>
INLINE inline void sum_products(const u8* rows, i64 stride, const s8* panel, i64 steps, const s8* next, ints* low,
                                ints* high) {
#if defined(__AVX512VNNI__)
  unrolled<R>([&](auto r) INLINE { low[r] = high[r] = ints{}; });
  for (i64 k = 0; k < steps; ++k) {
    if (k % 2 == 0) _mm_prefetch(reinterpret_cast<const char*>(next + 32 * k), _MM_HINT_T1);
    const __m512i first = _mm512_loadu_si512(panel);
    const __m512i second = _mm512_loadu_si512(panel + 64);
    panel += 128;
    unrolled<R>([&](auto r) INLINE {
      i32 four;
      std::memcpy(&four, rows + r * stride + 4 * k, 4);
      const __m512i same = _mm512_set1_epi32(four);
      low[r] = (ints)_mm512_dpbusd_epi32((__m512i)low[r], same, first);
      high[r] = (ints)_mm512_dpbusd_epi32((__m512i)high[r], same, second);
    });
  }
#else
  (void)next;
  for (int r = 0; r < R; ++r) {
    i32 total[COLS] = {};
    const s8* weights = panel;
    for (i64 k = 0; k < steps; ++k, weights += 4 * COLS) {
      const u8* four = rows + r * stride + 4 * k;
      for (i64 c = 0; c < COLS; ++c)
        total[c] += four[0] * weights[4 * c] + four[1] * weights[4 * c + 1] + four[2] * weights[4 * c + 2] +
                    four[3] * weights[4 * c + 3];
    }
    std::memcpy(&low[r], total, sizeof low[r]);
    std::memcpy(&high[r], total + LANES, sizeof high[r]);
  }
#endif
}

// The same into memory, [R][32]. A function of its own: what follows must not crowd the sums out of the registers.
template <int R>
__attribute__((noinline)) void multiply_rows(const u8* rows, i64 stride, const s8* panel, i64 steps, const s8* next,
                                             i32* sums) {
  ints low[R], high[R];
  sum_products<R>(rows, stride, panel, steps, next, low, high);
  unrolled<R>([&](auto r) INLINE {
    *reinterpret_cast<ints*>(sums + r * COLS) = low[r];
    *reinterpret_cast<ints*>(sums + r * COLS + LANES) = high[r];
  });
}

// At most 12 of `count` rows; finish(row, half, sums) gets the sums of each, 16 at a time.
template <class Finish>
INLINE inline void multiply(i64 count, const u8* rows, i64 stride, const s8* panel, i64 steps, const s8* next,
                            Finish finish) {
  using Multiply = void (*)(const u8*, i64, const s8*, i64, const s8*, i32*);
  static constexpr Multiply kernels[ROWS] = {
      multiply_rows<1>, multiply_rows<2>, multiply_rows<3>, multiply_rows<4>,  multiply_rows<5>,  multiply_rows<6>,
      multiply_rows<7>, multiply_rows<8>, multiply_rows<9>, multiply_rows<10>, multiply_rows<11>, multiply_rows<12>};
  alignas(64) i32 sums[ROWS * COLS];
  if (count > ROWS) count = ROWS;
  kernels[count - 1](rows, stride, panel, steps, next, sums);
  for (int half = 0; half < 2; ++half)
    for (i64 r = 0; r < count; ++r)
      finish(r, half, *reinterpret_cast<const ints*>(sums + r * COLS + half * LANES));
}

}  // namespace
