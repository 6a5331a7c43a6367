// All that is done token by token between two attentions, in one pass over a few rows at a time;
// see osa_transform.h. Products run on tiles: 32 rows by 32 outputs, each sum over all inputs in
// their order, whatever rows lie beside.
#ifndef OSA_TRANSFORM_KERNEL_H
#define OSA_TRANSFORM_KERNEL_H

#include "elementary.h"
#include "osa_transform.h"
#include "rows.h"
#include "tiles.h"

namespace {

constexpr int64_t BLOCK = 32;         // rows and columns of one result
constexpr int64_t MAX_GROUP = 384;    // inner features that are made and used up at once
constexpr int64_t CELL = BLOCK * BLOCK;

// Memory of one thread for `rows` rows [bytes]: what a product reads, inner features, two results.
inline size_t transform_bytes(const OsaTransformCall* call, int64_t rows) {
  const int64_t padded = round_up(rows, BLOCK), group = smaller(call->inner, MAX_GROUP);
  return static_cast<size_t>(2 * padded * (call->width + group) + 2 * 4 * CELL);
}

#if defined(OSA_TILES)

// Rows as Tiles reads them: [rows / 32, width / 32, 32, 32].
struct Blocks {
  bfloat16* data;
  int64_t width;

  OSA_INLINE bfloat16* at(int64_t row, int64_t column) const {
    return data + row / BLOCK * BLOCK * width + column * BLOCK + row % BLOCK * BLOCK;
  }
};

OSA_INLINE void narrow_row(const Vector<float>& left, const Vector<float>& right, bfloat16* to) {
  const __m512bh both = _mm512_cvtne2ps_pbh(reinterpret_cast<const __m512&>(right),
                                            reinterpret_cast<const __m512&>(left));
  __builtin_memcpy(to, &both, sizeof(both));
}

OSA_INLINE Vector<float> widen_row(const bfloat16* from) {
  const WordsValue words = words_of(from) << 16;
  return reinterpret_cast<const Vector<float>&>(words);
}

// For every block of rows times the outputs from `first` on, and every row of it, use(row, column,
// sums [32]). `weight` is packed for `depth` inputs, of which `rows` holds those from `start` on.
// While the tiles compute a block, the one before is used, and the weights after it are fetched.
template <class Use>
OSA_INLINE void multiply_rows(const Blocks& rows, int64_t count, const void* weight, int64_t depth,
                              int64_t start, int64_t first, int64_t outputs, float* sums, const Use& use) {
  const int64_t steps = rows.width / BLOCK, blocks = (count + BLOCK - 1) / BLOCK;
  const int64_t lines = (BLOCK + blocks - 1) / blocks;  // of the next weights, a step
  float *current = sums, *before = sums + CELL;
  int64_t last_row = 0, last_column = -1;
  memory_is_settled();
  for (int64_t column = first; column < first + outputs; column += BLOCK) {
    const bfloat16* const right = static_cast<const bfloat16*>(weight) + (column * depth + start * BLOCK);
    const char* next = reinterpret_cast<const char*>(right + depth * BLOCK);
    for (int64_t row = 0; row < count; row += BLOCK) {
      int64_t used = last_column < 0 ? BLOCK : 0;
      Tiles::clear();
      Tiles::multiply(rows.at(row, 0), 2 * BLOCK, 2 * CELL, right, 4 * BLOCK, steps, [&](int64_t step) {
        for (int64_t line = 0; line < lines; ++line, next += 64) __builtin_prefetch(next, 0, 2);
        for (; used * steps < (step + 1) * BLOCK; ++used)
          use(last_row + used, last_column, before + used * BLOCK);
      });
      Tiles::write(current, BLOCK);
      memory_is_settled();
      float* const swapped = current;
      current = before, before = swapped;
      last_row = row, last_column = column;
    }
  }
  for (int64_t used = 0; used < BLOCK; ++used) use(last_row + used, last_column, before + used * BLOCK);
  memory_is_settled();
}

struct Transform {
  const OsaTransformCall& call;
  int64_t from, count;
  Blocks rows;
  bfloat16* inner;
  float* sums;
  float* hidden;

  Transform(const OsaTransformCall& call, int64_t from, int64_t to, void* memory)
      : call(call), from(from), count(to - from), hidden(call.hidden + from * call.width) {
    sums = static_cast<float*>(memory);
    rows = {reinterpret_cast<bfloat16*>(sums + 2 * CELL), call.width};
    inner = rows.data + round_up(count, BLOCK) * call.width;
  }

  void take_mixed() const {
    const bfloat16* mixed = static_cast<const bfloat16*>(call.mixed) + from * call.width;
    for (int64_t row = 0; row < count; ++row)
      for (int64_t column = 0; column < call.width; column += BLOCK)
        __builtin_memcpy(rows.at(row, column), mixed + row * call.width + column, 2 * BLOCK);
  }

  // What the next product reads: `hidden` normalised, which with `keep` becomes `hidden` itself.
  void norm(const float* weight, const float* bias, bool keep) const {
    const int64_t width = call.width;
    constexpr int64_t half = BLOCK / 2;
    for (int64_t row = 0; row < count; ++row) {
      float* const values = hidden + row * width;
      float mean = 0.0f, scale = 1.0f;
      if (weight) {
        if (call.layer_norm) mean = total(values, width) / static_cast<float>(width);
        scale = inverse_root(squares(values, width, mean), width, call.norm_epsilon);
      }
      for (int64_t i = 0; i < width; i += BLOCK) {
        Vector<float> left = load(values + i), right = load(values + i + half);
        if (weight) {
          left = (left - splat(mean)) * splat(scale) * load(weight + i);
          right = (right - splat(mean)) * splat(scale) * load(weight + i + half);
        }
        if (bias) left += load(bias + i), right += load(bias + i + half);
        if (keep) store(values + i, left), store(values + i + half, right);
        narrow_row(left, right, rows.at(row, i));
      }
    }
  }

  // hidden += left weight^T + bias, over the inputs of `weight` from `start` on that `left` holds.
  void add(const Blocks& left, const void* weight, const float* bias, int64_t depth, int64_t start) const {
    multiply_rows(left, count, weight, depth, start, 0, call.width, sums,
                  [&](int64_t row, int64_t column, const float* found) {
      if (row >= count) return;
      float* const to = hidden + row * call.width + column;
      Vector<float> first = load(to) + load(found), second = load(to + BLOCK / 2) + load(found + BLOCK / 2);
      if (bias) first += load(bias + column), second += load(bias + column + BLOCK / 2);
      store(to, first);
      store(to + BLOCK / 2, second);
    });
  }

  static OSA_INLINE void biased(const float* found, const float* bias, int64_t column, Vector<float>& left,
                                Vector<float>& right) {
    left = load(found), right = load(found + BLOCK / 2);
    if (bias) left += load(bias + column), right += load(bias + column + BLOCK / 2);
  }

  template <Vector<float> (*Activation)(Vector<float>)>
  void feed_forward() const {
    for (int64_t start = 0; start < call.inner; start += MAX_GROUP) {
      const Blocks group{inner, smaller(MAX_GROUP, call.inner - start)};
      multiply_rows(rows, count, call.up, call.width, 0, start, group.width, sums,
                    [&](int64_t row, int64_t column, const float* found) {
        Vector<float> left, right;
        biased(found, call.up_bias, column, left, right);
        narrow_row(Activation(left), Activation(right), group.at(row, column - start));
      });
      if (call.gated)
        multiply_rows(rows, count, call.up, call.width, 0, call.inner + start, group.width, sums,
                      [&](int64_t row, int64_t column, const float* found) {
          Vector<float> left, right;
          biased(found, call.up_bias, column, left, right);
          bfloat16* const to = group.at(row, column - call.inner - start);
          narrow_row(left * widen_row(to), right * widen_row(to + BLOCK / 2), to);
        });
      add(group, call.down, start ? nullptr : call.down_bias, call.inner, start);
    }
  }
  void feed_forward_as_asked() const {
    if (call.activation == OSA_RELU) feed_forward<relu>();
    else if (call.activation == OSA_SILU) feed_forward<silu>();
    else if (call.activation == OSA_GELU_TANH) feed_forward<gelu_tanh>();
    else feed_forward<gelu>();
  }

  const float* of_row(const float* table, int64_t row) const {
    return table ? table + (from + row) * (call.width / call.heads / 2) : nullptr;
  }

  void project() const {
    const int64_t row_size = 3 * call.width, head = call.width / call.heads;
    bfloat16* const states = static_cast<bfloat16*>(call.states) + from * row_size;
    multiply_rows(rows, count, call.qkv, call.width, 0, 0, row_size, sums,
                  [&](int64_t row, int64_t column, const float* found) {
      if (row >= count) return;
      Vector<float> left, right;
      biased(found, call.qkv_bias, column, left, right);
      if (head == BLOCK && column < 2 * call.width)
        prepare_block(left, right, of_row(call.cosine, row), of_row(call.sine, row));
      narrow_row(left, right, states + row * row_size + column);
    });
    if (head == BLOCK) return;
    for (int64_t row = 0; row < count; ++row)
      for (int64_t at = 0; at < 2 * call.width; at += head)
        prepare_head(states + row * row_size + at, of_row(call.cosine, row), of_row(call.sine, row), head,
                     call.head_epsilon, call.normalize);
  }

  // prepare_head where a head is as wide as a block.
  OSA_INLINE void prepare_block(Vector<float>& left, Vector<float>& right, const float* cosine,
                                const float* sine) const {
    if (call.normalize) {
      const Vector<float> squared = left * left + right * right;
      const float total = _mm512_reduce_add_ps(reinterpret_cast<const __m512&>(squared));
      const Vector<float> scale = splat(inverse_root(total, BLOCK, call.head_epsilon));
      left *= scale, right *= scale;
    }
    if (cosine) {
      const Vector<float> turn = load(cosine), lift = load(sine), before = left;
      left = left * turn - right * lift;
      right = right * turn + before * lift;
    }
  }
};

// Rows `from` ... `to`; memory of transform_bytes, aligned to 64.
void transform_rows(const OsaTransformCall* call, int64_t from, int64_t to, void* memory) {
  const Tiles tiles;
  const Transform transform(*call, from, to, memory);
  const bool post = call->post;
  if (call->mixed) {
    transform.take_mixed();
    transform.add(transform.rows, call->out, call->out_bias, call->width, 0);
    if (post) transform.norm(call->mixer_norm, call->mixer_norm_bias, true);
    else transform.norm(call->feed_forward_norm, call->feed_forward_norm_bias, false);
    transform.feed_forward_as_asked();
    if (post) transform.norm(call->feed_forward_norm, call->feed_forward_norm_bias, true);
  }
  if (call->qkv) {
    if (!post) transform.norm(call->mixer_norm, call->mixer_norm_bias, false);
    else if (!call->mixed) transform.norm(nullptr, nullptr, false);
    transform.project();
  }
}

#endif

}  // namespace
#endif
