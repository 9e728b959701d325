// Sixteen numbers at a time, in GCC's vector types: one register with AVX-512, several or plain code elsewhere.

#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

#define INLINE __attribute__((always_inline))

// All names are local: a process may load both builds, and must not mix them up.
namespace {

using i64 = std::int64_t;
using i32 = std::int32_t;
using u8 = std::uint8_t;
using s8 = std::int8_t;

constexpr i64 LANES = 16;

typedef float floats __attribute__((vector_size(64), aligned(4), may_alias));
typedef i32 ints __attribute__((vector_size(64), aligned(4), may_alias));
typedef u8 bytes __attribute__((vector_size(16), aligned(1), may_alias));

// Adding it to a number below 2^22 leaves that number, rounded, in the lowest bits.
constexpr float ROUND = 12582912.0f;

INLINE inline floats load(const float* from) { return *reinterpret_cast<const floats*>(from); }
INLINE inline void store(float* to, floats value) { *reinterpret_cast<floats*>(to) = value; }
INLINE inline floats spread(float value) { return floats{} + value; }
INLINE inline floats to_floats(ints value) { return __builtin_convertvector(value, floats); }

// The lowest byte of each number.
INLINE inline void store_bytes(u8* to, ints value) {
#if defined(__AVX512VNNI__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8((__m512i)value));
#else
  *reinterpret_cast<bytes*>(to) = __builtin_convertvector(value, bytes);
#endif
}

INLINE inline floats larger(floats a, floats b) {
#if defined(__AVX512VNNI__)
  return (floats)_mm512_max_ps((__m512)a, (__m512)b);
#else
  return a > b ? a : b;
#endif
}

INLINE inline floats smaller(floats a, floats b) {
#if defined(__AVX512VNNI__)
  return (floats)_mm512_min_ps((__m512)a, (__m512)b);
#else
  return a < b ? a : b;
#endif
}

INLINE inline floats absolute(floats value) { return larger(value, -value); }

INLINE inline float largest_of(floats value) {
#if defined(__AVX512VNNI__)
  return _mm512_reduce_max_ps((__m512)value);
#else
  float best = value[0];
  for (i64 i = 1; i < LANES; ++i) best = value[i] > best ? value[i] : best;
  return best;
#endif
}

// Added up in the order in which AVX-512 does, so that both builds give the same.
INLINE inline float sum_of(floats value) {
#if defined(__AVX512VNNI__)
  return _mm512_reduce_add_ps((__m512)value);
#else
  float part[LANES];
  std::memcpy(part, &value, sizeof part);
  for (i64 half = LANES / 2; half; half /= 2)
    for (i64 i = 0; i < half; ++i) part[i] += part[i + half];
  return part[0];
#endif
}

// 2^x for x <= 0, to 4e-5 of its value.
INLINE inline floats power_of_two(floats x) {
  x = larger(x, spread(-126.0f));
  const floats rounded = x + ROUND;
  const floats rest = x - (rounded - ROUND);
  floats power = spread(9.6181291e-3f);
  power = power * rest + 5.5504109e-2f;
  power = power * rest + 2.4022651e-1f;
  power = power * rest + 6.9314718e-1f;
  power = power * rest + 1.0f;
  return (floats)((ints)power + ((ints)rounded << 23));
}

// GELU: x times the normal distribution's integral. That is a polynomial within +-4, fitted by weighted least
// squares; the product is wrong by 2e-4 at most, and by less than 1e-6 x beyond.
INLINE inline floats gelu(floats x) {
  constexpr float EDGE = 4.0f;
  constexpr float TERMS[] = {-1.5888284355e-6f, 4.7763911957e-5f,  -8.1218770530e-4f,
                             8.7636919928e-3f,  -6.4554413949e-2f, 3.9787026694e-1f};
  const floats within = larger(smaller(x, spread(EDGE)), spread(-EDGE));
  const floats square = within * within;
  floats sum = spread(2.2588233863e-8f);
  for (const float term : TERMS) sum = sum * square + term;
  return x * (sum * within + 0.5f);
}

// Four rows of 16 bytes, `stride` apart, as 16 groups of four; rows from `count` on are zeros.
INLINE inline void interleave(const s8* from, i64 stride, i64 count, s8* to) {
  typedef s8 row_of_bytes __attribute__((vector_size(16), aligned(1), may_alias));
  typedef short pairs __attribute__((vector_size(16), aligned(1), may_alias));
  row_of_bytes rows[4] = {};
  for (i64 i = 0; i < 4 && i < count; ++i) std::memcpy(&rows[i], from + i * stride, sizeof rows[i]);
  pairs* out = reinterpret_cast<pairs*>(to);
  const auto front = [&](int a, int b) INLINE {
    return (pairs)__builtin_shufflevector(rows[a], rows[b], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  };
  const auto back = [&](int a, int b) INLINE {
    return (pairs)__builtin_shufflevector(rows[a], rows[b], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                          31);
  };
  out[0] = __builtin_shufflevector(front(0, 1), front(2, 3), 0, 8, 1, 9, 2, 10, 3, 11);
  out[1] = __builtin_shufflevector(front(0, 1), front(2, 3), 4, 12, 5, 13, 6, 14, 7, 15);
  out[2] = __builtin_shufflevector(back(0, 1), back(2, 3), 0, 8, 1, 9, 2, 10, 3, 11);
  out[3] = __builtin_shufflevector(back(0, 1), back(2, 3), 4, 12, 5, 13, 6, 14, 7, 15);
}

// body(0) to body(COUNT - 1) with constants, so that arrays which they index can be registers.
template <class Body, int... N>
INLINE inline void unroll(std::integer_sequence<int, N...>, Body body) {
  (body(std::integral_constant<int, N>{}), ...);
}
template <int COUNT, class Body>
INLINE inline void unrolled(Body body) {
  unroll(std::make_integer_sequence<int, COUNT>{}, body);
}

}  // namespace
