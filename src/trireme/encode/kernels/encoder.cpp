// BERT-like encoders in int8 on packed rows, one thread a call.
//
// T tokens of all rows lie one behind the other; H is the hidden size, I the inner size. A linear layer multiplies
// unsigned bytes (activations, scaled per token as they come) by signed bytes (weights, scaled per output channel)
// into 32-bit sums. All is computed per token, or per row in attention: an output does not depend on what else is in
// the batch, and nothing is padded.
//
// Compiled twice: for AVX-512 VNNI, and for any processor, where plain loops make the same sums.

#include "attention.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace {

// Bytes of a block's widest floats: with the weights that pass by it stays in the second-level cache.
constexpr i64 BLOCK_BYTES = 512 * 1024;

// Rows of bytes with what turns them back into numbers: (byte - zero) * scale.
struct Quantized {
  u8* bytes;
  float* scale;
  float* zero;
  i64 width;
};

struct Plan {
  i64 block;  // tokens
  Quantized states, context, inner;
  Heads heads;
  Room room;
  float* wide;    // [block][max(3 H, I)]
  float* narrow;  // [block][H]
  float* mixed;   // [longest row][H]
};

void quantize(const float* from, const Quantized& to, i64 row) {
  floats below = {}, high = {};
  for (i64 c = 0; c < to.width; c += LANES) {
    const floats value = load(from + c);
    below = larger(below, -value);
    high = larger(high, value);
  }
  const float least = -largest_of(below);
  float range = largest_of(high) - least;
  range = range < 1e-20f ? 1e-20f : range;
  // 254: a zero that is rounded up must not push the largest beyond a byte.
  const float inverse = 254.0f / range, shift = ROUND - least * inverse;
  u8* bytes = to.bytes + row * to.width;
  for (i64 c = 0; c < to.width; c += LANES) store_bytes(bytes + c, (ints)(load(from + c) * inverse + shift));
  to.scale[row] = range * (1.0f / 254.0f);
  to.zero[row] = shift - ROUND;
}

enum class Then { NOTHING, GELU, RELU };

// out [rows][linear.out] in floats: the bytes of `rows` tokens from `first` on times the weights, plus the bias, then
// an activation.
template <Then THEN>
void apply(const Linear& linear, const Quantized& from, i64 first, i64 rows, float* out) {
  const i64 steps = linear.in / 4;
  for (i64 column = 0; column < linear.out; column += COLS) {
    const s8* panel = linear.weight + column * linear.in;
    const floats sum[2] = {load(linear.sum + column), load(linear.sum + column + LANES)};
    const floats channel[2] = {load(linear.scale + column), load(linear.scale + column + LANES)};
    const floats bias[2] = {load(linear.bias + column), load(linear.bias + column + LANES)};
    for (i64 row = 0; row < rows; row += ROWS) {
      const float* scale = from.scale + first + row;
      const float* zero = from.zero + first + row;
      float* to = out + row * linear.out + column;
      // The first four tiles fetch a quarter of the next panel each.
      const s8* next = row < 4 * ROWS ? panel + COLS * linear.in + row / ROWS * 8 * linear.in : panel;
      multiply(rows - row, from.bytes + (first + row) * from.width, from.width, panel, steps, next,
               [&](i64 r, int half, ints sums) INLINE {
                 floats value = to_floats(sums) - zero[r] * sum[half];
                 value = value * channel[half] * scale[r] + bias[half];
                 if (THEN == Then::GELU) value = gelu(value);
                 if (THEN == Then::RELU) value = larger(value, floats{});
                 store(to + r * linear.out + half * LANES, value);
               });
    }
  }
}

// hidden [width] = LayerNorm(hidden + added).
void add_norm(const Norm& norm, float epsilon, const float* added, float* hidden, i64 width) {
  floats total = {};
  for (i64 c = 0; c < width; c += LANES) {
    const floats value = load(hidden + c) + load(added + c);
    store(hidden + c, value);
    total += value;
  }
  const float mean = sum_of(total) / static_cast<float>(width);
  floats squares = {};
  for (i64 c = 0; c < width; c += LANES) {
    const floats value = load(hidden + c) - mean;
    squares += value * value;
  }
  const float inverse = 1.0f / __builtin_sqrtf(sum_of(squares) / static_cast<float>(width) + epsilon);
  for (i64 c = 0; c < width; c += LANES)
    store(hidden + c, (load(hidden + c) - mean) * inverse * load(norm.weight + c) + load(norm.bias + c));
}

template <typename T>
T* take(char** from, i64 count) {
  char* found = *from;
  const i64 exact = count * static_cast<i64>(sizeof(T)), rounded = (exact + 63) / 64 * 64;
  *from += rounded;
#if defined(__SANITIZE_ADDRESS__)
  // A gap that nobody may touch behind each part; a null pointer is only counted.
  constexpr i64 GAP = 256;
  *from += GAP;
  if (found >= reinterpret_cast<char*>(1 << 24)) ASAN_POISON_MEMORY_REGION(found + exact, rounded + GAP - exact);
#endif
  return reinterpret_cast<T*>(found);
}

Quantized take_quantized(char** from, i64 rows, i64 width) {
  u8* bytes = take<u8>(from, rows * width);
  float* scale = take<float>(from, rows);
  return {bytes, scale, take<float>(from, rows), width};
}

// Fills `plan` with places in `memory`; returns how many bytes they take.
i64 lay_out(const Model& model, i64 tokens, i64 longest, char* memory, Plan* plan) {
  const i64 hidden = model.hidden, size = hidden / model.heads, padded = round_up(longest);
  const i64 widest = 3 * hidden > model.inner ? 3 * hidden : model.inner;
  const i64 fitting = BLOCK_BYTES / (4 * widest) / ROWS * ROWS;
  char* at = memory;
  plan->block = fitting < ROWS ? ROWS : fitting;
  plan->states = take_quantized(&at, tokens, hidden);
  plan->context = take_quantized(&at, tokens, hidden);
  plan->inner = take_quantized(&at, plan->block, model.inner);
  plan->heads.bytes = take<s8>(&at, tokens * 3 * hidden);
  plan->heads.scale = take<float>(&at, tokens * 3 * model.heads);
  plan->room.keys = take<s8>(&at, padded * size);
  plan->room.values = take<s8>(&at, padded * size);
  plan->room.key_scale = take<float>(&at, padded);
  plan->room.key_shift = take<float>(&at, padded);
  plan->room.value_scale = take<float>(&at, padded);
  plan->room.scores = take<float>(&at, ROWS * padded);
  plan->room.high = take<u8>(&at, ROWS * padded);
  plan->room.low = take<u8>(&at, ROWS * padded);
  plan->room.zeros = take<u8>(&at, size);
  plan->wide = take<float>(&at, plan->block * widest);
  plan->narrow = take<float>(&at, plan->block * hidden);
  plan->mixed = take<float>(&at, longest * hidden);
  return at - memory;
}

// What comes behind attention, for the tokens of one block: `context` in, new `hidden` and `states` out.
void feed_forward(const Model& model, const Layer& layer, const Plan& plan, i64 first, i64 count, float* hidden) {
  const auto add = [&](const Norm& norm) {
    for (i64 t = 0; t < count; ++t) {
      float* state = hidden + (first + t) * model.hidden;
      add_norm(norm, model.epsilon, plan.narrow + t * model.hidden, state, model.hidden);
      quantize(state, plan.states, first + t);
    }
  };
  apply<Then::NOTHING>(layer.attended, plan.context, first, count, plan.narrow);
  add(layer.attention_norm);
  if (model.is_relu)
    apply<Then::RELU>(layer.up, plan.states, first, count, plan.wide);
  else
    apply<Then::GELU>(layer.up, plan.states, first, count, plan.wide);
  for (i64 t = 0; t < count; ++t) quantize(plan.wide + t * model.inner, plan.inner, t);
  apply<Then::NOTHING>(layer.down, plan.inner, 0, count, plan.narrow);
  add(layer.output_norm);
}

}  // namespace

extern "C" {

// 1 where this processor runs the build for AVX-512 VNNI.
int trireme_has_vnni() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#else
  return 0;
#endif
}

// Bytes, aligned to 64, that trireme_run needs for so many tokens and so long a row.
i64 trireme_memory(const Model* model, i64 tokens, i64 longest) {
  Plan plan;
  return lay_out(*model, tokens, longest, nullptr, &plan);
}

// hidden [T][H]: the three embeddings of each token, normalized. ids, types [T]; offsets [rows + 1]. All indices are
// within the tables: the caller has checked.
void trireme_embed(const Model* model, const i32* ids, const i32* types, const i32* offsets, i64 rows, float* hidden) {
  const i64 width = model->hidden;
  for (i64 row = 0; row < rows; ++row)
    for (i64 t = offsets[row]; t < offsets[row + 1]; ++t) {
      const float* position = model->position + (t - offsets[row]) * width;
      const float* segment = model->segment + types[t] * width;
      float* to = hidden + t * width;
      for (i64 c = 0; c < width; c += LANES) store(to + c, load(position + c) + load(segment + c));
      add_norm(model->norm, model->epsilon, model->word + ids[t] * width, to, width);
    }
}

// hidden [T][H] through the layers `from` to `to`, `to` left out; tokens see those of their own row.
void trireme_run(const Model* model_at, i64 from, i64 to, const i32* offsets, i64 rows, i64 longest, char* memory,
                 float* hidden) {
  const Model& model = *model_at;
  const i64 tokens = offsets[rows];
  Plan plan;
  lay_out(model, tokens, longest, memory, &plan);
  std::memset(plan.room.zeros, 128, model.hidden / model.heads);
  for (i64 t = 0; t < tokens; ++t) quantize(hidden + t * model.hidden, plan.states, t);
  for (i64 number = from; number < to; ++number) {
    const Layer& layer = model.layers[number];
    const auto count_from = [&](i64 first) { return tokens - first < plan.block ? tokens - first : plan.block; };
    for (i64 first = 0; first < tokens; first += plan.block) {
      const i64 count = count_from(first);
      apply<Then::NOTHING>(layer.qkv, plan.states, first, count, plan.wide);
      for (i64 t = 0; t < count; ++t) split_heads(model, plan.wide + t * 3 * model.hidden, plan.heads, first + t);
    }
    for (i64 row = 0; row < rows; ++row) {
      const i64 first = offsets[row], length = offsets[row + 1] - first;
      attend(model, plan.heads, first, length, plan.room, plan.mixed);
      for (i64 t = 0; t < length; ++t) quantize(plan.mixed + t * model.hidden, plan.context, first + t);
    }
    for (i64 first = 0; first < tokens; first += plan.block)
      feed_forward(model, layer, plan, first, count_from(first), hidden);
  }
}
}
