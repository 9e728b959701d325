// What Python hands over: weights in panels, and the sizes of the model (trireme.encode.kernels has the same).

#pragma once

#include "products.h"

extern "C" {

// weight: [out / 32][in / 4][32][4]; scale, sum (of a channel's weights) and bias: [out].
struct Linear {
  const s8* weight;
  const float* scale;
  const float* sum;
  const float* bias;
  i64 in;
  i64 out;
};

struct Norm {
  const float* weight;
  const float* bias;
};

struct Layer {
  Linear qkv, attended, up, down;
  Norm attention_norm, output_norm;
};

// word, position and segment: tables [entries][hidden]. is_relu: instead of GELU.
struct Model {
  const Layer* layers;
  const float* word;
  const float* position;
  const float* segment;
  Norm norm;
  i64 hidden;
  i64 inner;
  i64 heads;
  i64 is_relu;
  float epsilon;
};
}
