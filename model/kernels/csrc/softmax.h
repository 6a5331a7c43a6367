// Softmax attention of some queries of one sequence and head; see osa_softmax.h. Scores of a block
// of queries with all keys lie in memory at once: no running maxima, each row as if alone.
#ifndef OSA_SOFTMAX_KERNEL_H
#define OSA_SOFTMAX_KERNEL_H

#include "backend.h"
#include "elementary.h"
#include "product.h"
#include "tiles.h"

namespace {

constexpr int64_t QUERIES = 32;  // of one block
constexpr int64_t KEYS = 32;     // rows of memory come in multiples of it, and of every vector

// Memory of one thread: keys and values of a sequence, scores of a block.
struct SoftmaxMemory {
  int64_t width;  // of a head, padded
  int64_t keys;   // of the sequence, padded
  float *rows, *turned, *values, *query, *scores, *result;

  size_t lay_out(int64_t head_dim, int64_t count, void* memory) {
    width = round_up(head_dim, KEYS), keys = round_up(larger<int64_t>(count, 1), KEYS);
    float* next = static_cast<float*>(memory);
    const auto take = [&](int64_t size) {
      float* const found = next;
      next += size;
      return found;
    };
    rows = take(keys * width);
    turned = take(keys * width);
    values = take(keys * width);
    query = take(QUERIES * width);
    scores = take(QUERIES * keys);
    result = take(QUERIES * width);
    return static_cast<size_t>(reinterpret_cast<char*>(next) - static_cast<char*>(memory));
  }
};

// One sequence and head of a call.
template <class In>
struct SoftmaxOperands {
  const OsaSoftmaxCall& call;
  int64_t head, first, count;

  In* row(const OsaTensor& tensor, int64_t token) const {
    return static_cast<In*>(tensor.data) + head * tensor.head_stride + (first + token) * tensor.token_stride;
  }
  // Keys that some of the queries from ... to see, from a multiple of KEYS on.
  int64_t low(int64_t from) const {
    return call.window < 0 ? 0 : larger<int64_t>(0, from - call.window) / KEYS * KEYS;
  }
  int64_t high(int64_t to) const {
    return call.window < 0 ? count : smaller<int64_t>(count, to + call.window);
  }
};

// Scores of one query with keys low ... high to weights, not divided by their sum, which is returned.
// `row` begins at key `low`; up to a multiple of KEYS it is filled with zeros. Scores are multiplied
// by `scale`, which is positive, before the bias.
template <class In>
OSA_INLINE float softmax_row(const SoftmaxOperands<In>& at, float* row, int64_t query, int64_t low, int64_t high,
                             float scale) {
  constexpr int64_t W = Simd<float>::width;
  const int64_t count = high - low, padded = round_up(count, KEYS), window = at.call.window;
  if (at.call.bias) {
    const float* bias = at.call.bias + at.head * at.call.bias_row + at.call.reach - 1 + low - query;
    for (int64_t j = 0; j < padded; j += W) store(row + j, load(row + j) * splat(scale) + load(bias + j));
    scale = 1.0f;
  }
  for (int64_t j = count; j < padded; ++j) row[j] = -__builtin_inff();
  if (window >= 0) {
    for (int64_t j = 0; j < smaller(query - window - low, count); ++j) row[j] = -__builtin_inff();
    for (int64_t j = larger<int64_t>(0, query + window + 1 - low); j < count; ++j) row[j] = -__builtin_inff();
  }
  Vector<float> most = load(row);
  for (int64_t j = W; j < padded; j += W) {
    const Vector<float> score = load(row + j);
    most = score > most ? score : most;
  }
  float largest = most[0];
  for (int64_t lane = 1; lane < W; ++lane) largest = larger(largest, static_cast<float>(most[lane]));
  Vector<float> sums{};
  for (int64_t j = 0; j < padded; j += W) {
    const Vector<float> weight = exp_negative((load(row + j) - splat(largest)) * splat(scale));
    sums += weight;
    store(row + j, weight);
  }
  float total = 0.0f;
  for (int64_t lane = 0; lane < W; ++lane) total += sums[lane];
  return total;
}

template <class In>
void copy_row(const In* from, int64_t head_dim, int64_t width, float* to) {
  for (int64_t i = 0; i < head_dim; ++i) to[i] = widen(from[i]);
  for (int64_t i = head_dim; i < width; ++i) to[i] = 0.0f;
}

template <class In>
void softmax_in_vectors(const SoftmaxOperands<In>& at, int64_t from, int64_t to, void* memory) {
  SoftmaxMemory m;
  const OsaSoftmaxCall& call = at.call;
  m.lay_out(call.head_dim, at.count, memory);
  const int64_t first = at.low(from), last = at.high(to), kept = round_up(last - first, KEYS);
  for (int64_t j = 0; j < kept; ++j) {
    float *key = m.rows + j * m.width, *value = m.values + j * m.width;
    if (first + j < last) {
      copy_row(at.row(call.key, first + j), call.head_dim, m.width, key);
      copy_row(at.row(call.value, first + j), call.head_dim, m.width, value);
    } else {
      for (int64_t i = 0; i < m.width; ++i) key[i] = value[i] = 0.0f;
    }
  }
  transpose(m.rows, m.width, m.turned, m.keys, kept, m.width);
  for (int64_t start = from; start < to; start += QUERIES) {
    const int64_t rows = smaller(QUERIES, to - start);
    const int64_t low = at.low(start), high = at.high(start + rows), seen = round_up(high - low, KEYS);
    for (int64_t i = 0; i < rows; ++i)
      copy_row(at.row(call.query, start + i), call.head_dim, m.width, m.query + i * m.width);
    multiply(Product<float>{rows, seen, call.head_dim, m.query, m.width, 1, m.turned + low - first, m.keys,
                            m.scores, m.keys});
    float totals[QUERIES];
    for (int64_t i = 0; i < rows; ++i)
      totals[i] = softmax_row(at, m.scores + i * m.keys, start + i, low, high, call.scale);
    multiply(Product<float>{rows, m.width, high - low, m.scores, m.keys, 1, m.values + (low - first) * m.width,
                            m.width, m.result, m.width});
    for (int64_t i = 0; i < rows; ++i) {
      const float factor = 1.0f / totals[i];
      In* const out = at.row(call.output, start + i);
      for (int64_t j = 0; j < call.head_dim; ++j) narrow(m.result[i * m.width + j] * factor, out + j);
    }
  }
}

#if defined(OSA_TILES)

// The same on tiles, for heads of a multiple of 32. Weights are rounded to bfloat16 for the second product.
inline void softmax_in_tiles(const SoftmaxOperands<bfloat16>& at, int64_t from, int64_t to, void* memory) {
  SoftmaxMemory m;
  const OsaSoftmaxCall& call = at.call;
  const int64_t d = call.head_dim;
  m.lay_out(d, at.count, memory);
  const int64_t first = at.low(from), last = at.high(to), kept = round_up(last - first, KEYS);
  uint32_t* const values = reinterpret_cast<uint32_t*>(m.values);  // pairs of tokens [kept / 2, d]
  bfloat16* const block = reinterpret_cast<bfloat16*>(m.query);    // rows that are not all there [32, d]
  bfloat16* const weights = reinterpret_cast<bfloat16*>(m.rows);   // [32, kept]
  for (int64_t j = 0; j < kept; j += KEYS) {  // of each 32 keys the features in pairs [d / 2, 32]
    for (int64_t i = 0; i < KEYS; ++i) {
      const bool real = first + j + i < last;
      if (real) __builtin_memcpy(block + i * d, at.row(call.key, first + j + i), 2 * d);
      else __builtin_memset(block + i * d, 0, 2 * d);
    }
    transpose(reinterpret_cast<const float*>(block), d / 2, m.turned + j * d / 2, KEYS, KEYS, d / 2);
  }
  for (int64_t j = 0; j < kept; j += 2) {
    uint32_t* const pair = values + j / 2 * d;
    const int64_t token = first + j;
    if (token < last)
      pair_rows(at.row(call.value, token), token + 1 < last ? at.row(call.value, token + 1) : nullptr, d, pair);
    else
      for (int64_t i = 0; i < d; ++i) pair[i] = 0;
  }
  const Tiles tiles;
  for (int64_t start = from; start < to; start += QUERIES) {
    const int64_t rows = smaller(QUERIES, to - start);
    const int64_t low = at.low(start), high = at.high(start + rows), seen = round_up(high - low, KEYS);
    const bfloat16* query = at.row(call.query, start);
    int64_t query_row = 2 * call.query.token_stride;
    if (rows < QUERIES) {
      for (int64_t i = 0; i < QUERIES; ++i) {
        if (i < rows) __builtin_memcpy(block + i * d, at.row(call.query, start + i), 2 * d);
        else __builtin_memset(block + i * d, 0, 2 * d);
      }
      query = block, query_row = 2 * d;
    }
    memory_is_settled();
    for (int64_t j = 0; j < seen; j += KEYS) {
      Tiles::clear();
      Tiles::multiply(query, query_row, 64, m.turned + (low - first + j) * d / 2, 4 * KEYS, d / STEP);
      Tiles::write(m.scores + j, m.keys);
    }
    memory_is_settled();
    float totals[QUERIES];
    for (int64_t i = 0; i < rows; ++i) {
      float* const row = m.scores + i * m.keys;
      totals[i] = softmax_row(at, row, start + i, low, high, call.scale);
      for (int64_t j = 0; j < seen; j += KEYS) {
        const Vector<float> left = load(row + j), right = load(row + j + 16);
        const __m512bh both = _mm512_cvtne2ps_pbh(as<__m512>(right),
                                                  as<__m512>(left));
        __builtin_memcpy(weights + i * seen + j, &both, sizeof(both));
      }
    }
    if (rows < QUERIES) __builtin_memset(weights + rows * seen, 0, 2 * (QUERIES - rows) * seen);
    memory_is_settled();
    for (int64_t j = 0; j < d; j += 32) {
      Tiles::clear();
      Tiles::multiply(weights, 2 * seen, 64, values + (low - first) / 2 * d + j, 4 * d, seen / STEP);
      Tiles::write(m.result + j, d);
    }
    memory_is_settled();
    for (int64_t i = 0; i < rows; ++i) {
      const Vector<float> factor = splat(1.0f / totals[i]);
      bfloat16* const out = at.row(call.output, start + i);
      for (int64_t j = 0; j < d; j += 32) {
        const Vector<float> left = load(m.result + i * d + j) * factor;
        const Vector<float> right = load(m.result + i * d + j + 16) * factor;
        const __m512bh both = _mm512_cvtne2ps_pbh(as<__m512>(right),
                                                  as<__m512>(left));
        __builtin_memcpy(out + j, &both, sizeof(both));
      }
    }
  }
}

#endif

inline size_t softmax_bytes(const OsaSoftmaxCall* call, int64_t count) {
  SoftmaxMemory memory;
  return memory.lay_out(call->head_dim, count, nullptr);
}

inline void softmax_queries(const OsaSoftmaxTask* task, void* memory) {
  const OsaSoftmaxCall& call = *task->call;
  if (call.dtype == OSA_FLOAT32) {
    const SoftmaxOperands<float> at{call, task->head, task->first, task->count};
    return softmax_in_vectors(at, task->from, task->to, memory);
  }
  const SoftmaxOperands<bfloat16> at{call, task->head, task->first, task->count};
#if defined(OSA_TILES)
  if (call.head_dim % STEP == 0) return softmax_in_tiles(at, task->from, task->to, memory);
#endif
  softmax_in_vectors(at, task->from, task->to, memory);
}

}  // namespace
#endif
