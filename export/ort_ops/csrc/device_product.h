// Matrix products of one block: C = A B from any two loaders, through tiles in shared memory.
#ifndef OSA_DEVICE_PRODUCT_H
#define OSA_DEVICE_PRODUCT_H

#include "device.h"

constexpr int TILE = 64, DEPTH = 16, SIDE = 4;  // 64 x 64 results a step, 4 x 4 a logical thread
constexpr int PARTS = LOGICAL_THREADS / THREADS;

// An operand: value(i, j), zero outside. FIRST tells which index lies side by side in memory.
template <class Load, bool FIRST>
struct Loader {
  Load value;
  static constexpr bool first_is_contiguous = FIRST;
};
template <bool FIRST, class Load>
OSA_DEVICE Loader<Load, FIRST> loader(Load load) { return {load}; }

// put(i, j, sum) for every i < m, j < n with sum over p < k of a(i, p) b(p, j). Ends in step.
template <class T, class A, class B, class Put>
OSA_DEVICE void multiply(int m, int n, int k, const A& a, const B& b, const Put& put) {
  OSA_SHARED T left[DEPTH][TILE + 1], right[DEPTH][TILE + 1];
  for (int top = 0; top < m; top += TILE)
    for (int start = 0; start < n; start += TILE) {
      T sums[PARTS][SIDE][SIDE] = {};
      for (int deep = 0; deep < k; deep += DEPTH) {
        for (int place = thread(); place < TILE * DEPTH; place += THREADS) {
          const int i = A::first_is_contiguous ? place % TILE : place / DEPTH;
          const int p = A::first_is_contiguous ? place / TILE : place % DEPTH;
          left[p][i] = top + i < m && deep + p < k ? a.value(top + i, deep + p) : T(0);
        }
        for (int place = thread(); place < TILE * DEPTH; place += THREADS) {
          const int p = B::first_is_contiguous ? place % DEPTH : place / TILE;
          const int j = B::first_is_contiguous ? place / DEPTH : place % TILE;
          right[p][j] = deep + p < k && start + j < n ? b.value(deep + p, start + j) : T(0);
        }
        OSA_SYNC;
        for (int part = 0; part < PARTS; ++part) {
          const int me = thread() + part * THREADS;
          const int row = me / (TILE / SIDE), column = me % (TILE / SIDE);
          for (int p = 0; p < DEPTH; ++p)
            for (int i = 0; i < SIDE; ++i)
              for (int j = 0; j < SIDE; ++j)
                sums[part][i][j] += left[p][row + i * (TILE / SIDE)] * right[p][column + j * (TILE / SIDE)];
        }
        OSA_SYNC;
      }
      for (int part = 0; part < PARTS; ++part) {
        const int me = thread() + part * THREADS;
        const int row = me / (TILE / SIDE), column = me % (TILE / SIDE);
        for (int i = 0; i < SIDE; ++i)
          for (int j = 0; j < SIDE; ++j) {
            const int y = top + row + i * (TILE / SIDE), x = start + column + j * (TILE / SIDE);
            if (y < m && x < n) put(y, x, sums[part][i][j]);
          }
      }
    }
  OSA_SYNC;
}

// Sum or maximum of value(i) over i < count, the same in every thread.
template <class T, bool MAXIMUM, class Value>
OSA_DEVICE T reduce(int count, const Value& value) {
  OSA_SHARED T parts[LOGICAL_THREADS];
  T own = 0;
  for (int i = thread(); i < count; i += THREADS) {
    const T found = value(i);
    own = MAXIMUM ? (found > own || found != found ? found : own) : own + found;
  }
  OSA_SYNC;  // the last call's readers are done
  parts[thread()] = own;
  OSA_SYNC;
  for (int width = THREADS / 2; width > 0; width /= 2) {
    if (thread() < width) {
      const T other = parts[thread() + width], mine = parts[thread()];
      parts[thread()] = MAXIMUM ? (other > mine || other != other ? other : mine) : mine + other;
    }
    OSA_SYNC;
  }
  return parts[0];
}

#endif
