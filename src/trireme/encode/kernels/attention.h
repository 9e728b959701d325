// Attention of every token to its own row, from bytes: scores in 8 bits, shares in 16.

#pragma once

#include "model.h"

namespace {

// Bytes of q, k and v of every token, [T][3 H], and their scales, [T][3 heads]. Queries are unsigned with 128 as
// their zero, keys and values signed.
struct Heads {
  s8* bytes;
  float* scale;
};

// What one head of one row needs; S is the row's tokens rounded up to 32, d the size of a head.
struct Room {
  s8* keys;            // [S / 32][d / 4][32][4]
  s8* values;          // [d / 32][S / 4][32][4]
  float* key_scale;    // [S]
  float* key_shift;    // [S]
  float* value_scale;  // [S]
  float* scores;       // [12][S]
  u8* high;            // [12][S]
  u8* low;             // [12][S]
  u8* zeros;           // [d], the zero of queries
};

i64 round_up(i64 tokens) { return (tokens + COLS - 1) / COLS * COLS; }

// One token's q, k and v, each head by its own scale.
void split_heads(const Model& model, const float* qkv, const Heads& heads, i64 token) {
  const i64 size = model.hidden / model.heads, parts = 3 * model.heads;
  s8* to = heads.bytes + token * 3 * model.hidden;
  float* scales = heads.scale + token * parts;
  for (i64 part = 0; part < parts; ++part) {
    floats most = spread(1e-20f);
    for (i64 c = 0; c < size; c += LANES) most = larger(most, absolute(load(qkv + part * size + c)));
    scales[part] = largest_of(most) * (1.0f / 127.0f);
  }
  for (i64 part = 0; part < parts; ++part, qkv += size, to += size) {
    const float inverse = 1.0f / scales[part];
    const ints turn = ints{} + (part < model.heads ? 0 : 128);
    for (i64 c = 0; c < size; c += LANES)
      store_bytes(reinterpret_cast<u8*>(to) + c, (ints)(load(qkv + c) * inverse + (ROUND + 128.0f)) ^ turn);
  }
}

// The keys and values of one head of the row of `tokens` from `first` on, as panels. Returns the largest scale of a
// value. Places beyond the row get scores that no key can have, and values of zero.
float pack_head(const Model& model, const Heads& heads, i64 first, i64 tokens, i64 head, const Room& room) {
  const i64 size = model.hidden / model.heads, padded = round_up(tokens), stride = 3 * model.hidden;
  const s8* keys = heads.bytes + first * stride + model.hidden + head * size;
  const s8* values = keys + model.hidden;
  const float* scales = heads.scale + first * 3 * model.heads + model.heads + head;
  float most = 0;
  for (i64 t = 0; t < tokens; ++t) {
    s8* panel = room.keys + t / COLS * COLS * size + t % COLS * 4;
    for (i64 c = 0; c < size; c += 4) std::memcpy(panel + c * COLS, keys + t * stride + c, 4);
    room.key_scale[t] = scales[t * 3 * model.heads];
    room.value_scale[t] = scales[t * 3 * model.heads + model.heads];
    most = room.value_scale[t] > most ? room.value_scale[t] : most;
  }
  for (i64 t = tokens; t < padded; ++t) {
    s8* panel = room.keys + t / COLS * COLS * size + t % COLS * 4;
    for (i64 c = 0; c < size; c += 4) std::memset(panel + c * COLS, 0, 4);
    room.key_scale[t] = room.value_scale[t] = 0;
  }
  // What the queries' zero adds to a product: 128 times the sum of the key.
  for (i64 t = 0; t < padded; t += COLS)
    multiply(1, room.zeros, 0, room.keys + t * size, size / 4, room.keys, [&](i64, int half, ints sums) INLINE {
      const i64 at = t + half * LANES;
      store(room.key_shift + at, to_floats(sums) * load(room.key_scale + at));
    });
  for (i64 t = tokens; t < padded; ++t) room.key_shift[t] = 1e30f;
  for (i64 t = 0; t < padded; t += LANES) store(room.value_scale + t, load(room.value_scale + t) * (65535.0f / most));
  for (i64 t = 0; t < padded; t += 4)
    for (i64 c = 0; c < size; c += LANES)
      interleave(values + t * stride + c, stride, tokens - t, room.values + (c / COLS * padded + t) * COLS + c % COLS * 4);
  return most;
}

// scores [R][S] of R queries, and the largest of each. Few rows at a time: their sums stay in registers, beside what
// turns them into scores.
template <int R>
void score_rows(const u8* queries, i64 stride, const float* query_scale, i64 size, i64 padded, const Room& room,
                float* scores, float* largest) {
  floats most[R];
  unrolled<R>([&](auto r) INLINE { most[r] = spread(-1e30f); });
  for (i64 t = 0; t < padded; t += COLS) {
    ints low[R], high[R];
    sum_products<R>(queries, stride, room.keys + t * size, size / 4, room.keys, low, high);
    const floats low_scale = load(room.key_scale + t), high_scale = load(room.key_scale + t + LANES);
    const floats low_shift = load(room.key_shift + t), high_shift = load(room.key_shift + t + LANES);
    unrolled<R>([&](auto r) INLINE {
      const floats first = (to_floats(low[r]) * low_scale - low_shift) * query_scale[r];
      const floats second = (to_floats(high[r]) * high_scale - high_shift) * query_scale[r];
      store(scores + r * padded + t, first);
      store(scores + r * padded + t + LANES, second);
      most[r] = larger(most[r], larger(first, second));
    });
  }
  unrolled<R>([&](auto r) INLINE { largest[r] = largest_of(most[r]); });
}

// One query's shares in 16 bits, their high and their low bytes; returns the sum of the shares. In 8 bits the small
// shares of a long row would be lost. The scale of a value goes into its share.
float share_out(const float* scores, float largest, const float* value_scale, i64 padded, u8* high, u8* low) {
  floats sum = {};
  for (i64 t = 0; t < padded; t += LANES) {
    const floats share = power_of_two(load(scores + t) - largest);
    sum += share;
    const ints rounded = (ints)(share * load(value_scale + t) + ROUND);
    store_bytes(high + t, rounded >> 8);
    store_bytes(low + t, rounded);
  }
  return sum_of(sum);
}

// context [tokens][H] in floats of the row of `tokens` from `first` on: softmax(q k / sqrt(d)) v of each head.
void attend(const Model& model, const Heads& heads, i64 first, i64 tokens, const Room& room, float* context) {
  using Score = void (*)(const u8*, i64, const float*, i64, i64, const Room&, float*, float*);
  constexpr i64 FEW = 6;
  static constexpr Score score[FEW] = {score_rows<1>, score_rows<2>, score_rows<3>,
                                       score_rows<4>, score_rows<5>, score_rows<6>};
  const i64 hidden = model.hidden, size = hidden / model.heads, padded = round_up(tokens);
  const float to_powers = 1.44269504f / __builtin_sqrtf(static_cast<float>(size));
  for (i64 head = 0; head < model.heads; ++head) {
    const float largest_value = pack_head(model, heads, first, tokens, head, room);
    for (i64 row = 0; row < tokens; row += ROWS) {
      const i64 count = tokens - row < ROWS ? tokens - row : ROWS;
      const u8* queries = reinterpret_cast<const u8*>(heads.bytes) + (first + row) * 3 * hidden + head * size;
      float query_scale[ROWS], largest[ROWS], scale[ROWS];
      for (i64 r = 0; r < count; ++r)
        query_scale[r] = heads.scale[(first + row + r) * 3 * model.heads + head] * to_powers;
      for (i64 r = 0; r < count; r += FEW) {
        const i64 few = count - r < FEW ? count - r : FEW;
        score[few - 1](queries + r * 3 * hidden, 3 * hidden, query_scale + r, size, padded, room,
                       room.scores + r * padded, largest + r);
      }
      for (i64 r = 0; r < count; ++r) {
        const i64 at = r * padded;
        const float sum =
            share_out(room.scores + at, largest[r], room.value_scale, padded, room.high + at, room.low + at);
        scale[r] = largest_value / (65535.0f * sum);
      }
      for (i64 column = 0; column < size; column += COLS) {
        float* to = context + row * hidden + head * size + column;
        const s8* panel = room.values + column * padded;
        multiply(count, room.high, padded, panel, padded / 4, panel, [&](i64 r, int half, ints sums) INLINE {
          store(to + r * hidden + half * LANES, to_floats(sums) * 256.0f);
        });
        multiply(count, room.low, padded, panel, padded / 4, panel, [&](i64 r, int half, ints sums) INLINE {
          float* at = to + r * hidden + half * LANES;
          store(at, (load(at) + to_floats(sums)) * scale[r]);
        });
      }
    }
  }
}

}  // namespace
