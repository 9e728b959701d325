// Runs the kernels on random models and rows of many sizes. Compiled with the sanitizers, it ends where they read or
// write beyond what they were given; it prints "fine".

#include "encoder.cpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <random>
#include <vector>

namespace {

std::mt19937 generator(1);
std::list<std::vector<float>> floats_kept;
std::list<std::vector<s8>> bytes_kept;

i64 draw(i64 least, i64 most) { return std::uniform_int_distribution<i64>(least, most)(generator); }

const float* make_floats(i64 count) {
  std::normal_distribution<float> normal(0.0f, 0.3f);
  std::vector<float>& made = floats_kept.emplace_back(count);
  for (float& value : made) value = normal(generator);
  return made.data();
}

Linear make_linear(i64 out, i64 in) {
  std::vector<s8>& weights = bytes_kept.emplace_back(out * in);
  for (s8& value : weights) value = static_cast<s8>(draw(-127, 127));
  floats_kept.emplace_back(out, 0.001f);
  const float* scale = floats_kept.back().data();
  const float* sum = make_floats(out);
  return {weights.data(), scale, sum, make_floats(out), in, out};
}

Norm make_norm(i64 width) {
  const float* weight = make_floats(width);
  return {weight, make_floats(width)};
}

bool run_once(bool is_long) {
  constexpr i64 WORDS = 50, POSITIONS = 300;
  const i64 heads = draw(1, 3), hidden = heads * 32 * draw(1, 2), inner = 32 * draw(1, 9);
  std::vector<Layer> layers(draw(1, 2));
  for (Layer& layer : layers)
    layer = {make_linear(3 * hidden, hidden), make_linear(hidden, hidden), make_linear(inner, hidden),
             make_linear(hidden, inner),      make_norm(hidden),           make_norm(hidden)};
  const float *words = make_floats(WORDS * hidden), *positions = make_floats(POSITIONS * hidden);
  const Model model = {layers.data(), words, positions, make_floats(2 * hidden), make_norm(hidden), hidden, inner,
                       heads,         draw(0, 1), 1e-12f};
  std::vector<i32> offsets = {0};
  i64 longest = 0;
  for (i64 rows = draw(1, 6); rows; --rows) {
    const i64 tokens = draw(1, is_long ? POSITIONS : 40);
    offsets.push_back(offsets.back() + static_cast<i32>(tokens));
    longest = std::max(longest, tokens);
  }
  const i64 rows = static_cast<i64>(offsets.size()) - 1, tokens = offsets.back();
  std::vector<i32> ids(tokens), types(tokens);
  for (i32& id : ids) id = static_cast<i32>(draw(0, WORDS - 1));
  for (i32& type : types) type = static_cast<i32>(draw(0, 1));
  std::vector<float> states(tokens * hidden);
  const i64 size = trireme_memory(&model, tokens, longest);
  char* memory = static_cast<char*>(std::aligned_alloc(64, size));
  trireme_embed(&model, ids.data(), types.data(), offsets.data(), rows, states.data());
  trireme_run(&model, 0, static_cast<i64>(layers.size()), offsets.data(), rows, longest, memory, states.data());
  ASAN_UNPOISON_MEMORY_REGION(memory, size);
  std::free(memory);
  floats_kept.clear();
  bytes_kept.clear();
  return std::all_of(states.begin(), states.end(), [](float value) { return value == value; });
}

}  // namespace

int main() {
  for (int round = 0; round < 30; ++round)
    if (!run_once(round % 3 == 0)) {
      std::puts("not a number");
      return 1;
    }
  std::puts("fine");
}
