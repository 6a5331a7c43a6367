// Matrix products of one block: C = A B from any two loaders, through tiles in shared memory.
#ifndef OSA_DEVICE_PRODUCT_H
#define OSA_DEVICE_PRODUCT_H

#include "device.h"

constexpr int TILE = 64, DEPTH = 16, SIDE = 4;  // 64 x 64 results a step, 4 x 4 a thread
constexpr int STEP = 32;                        // depth of a step on tensor cores
constexpr int WARPS = LOGICAL_THREADS / 32;
static_assert(TILE * TILE == SIDE * SIDE * LOGICAL_THREADS && TILE == 8 * WARPS, "a tile is shared out evenly");

// An operand: value(i, j), zero outside. FIRST tells which index lies side by side in memory.
template <class Load, bool FIRST>
struct Loader {
  Load value;
  static constexpr bool first_is_contiguous = FIRST;
};
template <bool FIRST, class Load>
OSA_DEVICE Loader<Load, FIRST> loader(Load load) { return {load}; }

// Shared memory of products; kernels have one for all of theirs.
template <class T>
struct Tiles {
  T left[DEPTH][TILE + 1], right[DEPTH][TILE + 1];
};
// Of those on tensor cores: operands as a rounded number and what rounding has left; results in their place.
// Rows are 16 bytes longer than a tile, so that 16 of them do not fall on the same banks.
template <class In>
struct alignas(32) TensorTiles {
  union {
    struct {
      In left[2][TILE][STEP + 8], right[2][STEP][TILE + 8];
    };
    float sums[TILE][TILE + 4];
  };
};

// put(i, j, sum) for every i < m, j < n with sum over p < k of a(i, p) b(p, j). Ends in step.
template <class T, class A, class B, class Put>
OSA_DEVICE void multiply(Tiles<T>& tiles, int m, int n, int k, const A& a, const B& b, const Put& put) {
  const int row = thread() / (TILE / SIDE), column = thread() % (TILE / SIDE);
  for (int top = 0; top < m; top += TILE)
    for (int start = 0; start < n; start += TILE) {
      T sums[SIDE][SIDE] = {};
      for (int deep = 0; deep < k; deep += DEPTH) {
        for (int place = thread(); place < TILE * DEPTH; place += THREADS) {
          const int i = A::first_is_contiguous ? place % TILE : place / DEPTH;
          const int p = A::first_is_contiguous ? place / TILE : place % DEPTH;
          tiles.left[p][i] = top + i < m && deep + p < k ? T(a.value(top + i, deep + p)) : T(0);
        }
        for (int place = thread(); place < TILE * DEPTH; place += THREADS) {
          const int p = B::first_is_contiguous ? place % DEPTH : place / TILE;
          const int j = B::first_is_contiguous ? place / DEPTH : place % TILE;
          tiles.right[p][j] = deep + p < k && start + j < n ? T(b.value(deep + p, start + j)) : T(0);
        }
        OSA_SYNC;
        for (int p = 0; p < DEPTH; ++p)
          for (int i = 0; i < SIDE; ++i)
            for (int j = 0; j < SIDE; ++j)
              sums[i][j] += tiles.left[p][row + i * (TILE / SIDE)] * tiles.right[p][column + j * (TILE / SIDE)];
        OSA_SYNC;
      }
      for (int i = 0; i < SIDE; ++i)
        for (int j = 0; j < SIDE; ++j) {
          const int y = top + row + i * (TILE / SIDE), x = start + column + j * (TILE / SIDE);
          if (y < m && x < n) put(y, x, sums[i][j]);
        }
    }
  OSA_SYNC;
}

// A number as its rounding, and with SPLIT as what that leaves: twice the digits of In.
template <bool SPLIT, class In>
OSA_DEVICE void split(float value, In* high, In* low) {
  narrow(high, value);
  if (SPLIT) narrow(low, value - widen(*high));
}

// The same on tensor cores, summed in float32. An operand that is no number of In itself is SPLIT: then
// a b = a_high b_high + a_low b_high + a_high b_low, whose rest is below the digits of a sum in float32 by far less
// than those of a result in In.
template <bool SPLIT_A, bool SPLIT_B, class In, class A, class B, class Put>
OSA_DEVICE void multiply(TensorTiles<In>& tiles, int m, int n, int k, const A& a, const B& b, const Put& put) {
  const int warp = thread() / 32, row = warp / 2 * 16, column = warp % 2 * 32;  // 16 x 32 of the tile
  for (int top = 0; top < m; top += TILE)
    for (int start = 0; start < n; start += TILE) {
      SumTile sums[2];
      clear(sums[0]), clear(sums[1]);
      for (int deep = 0; deep < k; deep += STEP) {
        for (int place = thread(); place < TILE * STEP; place += THREADS) {
          const int i = A::first_is_contiguous ? place % TILE : place / STEP;
          const int p = A::first_is_contiguous ? place / TILE : place % STEP;
          const float value = top + i < m && deep + p < k ? float(a.value(top + i, deep + p)) : 0.0f;
          split<SPLIT_A>(value, &tiles.left[0][i][p], &tiles.left[1][i][p]);
        }
        for (int place = thread(); place < TILE * STEP; place += THREADS) {
          const int p = B::first_is_contiguous ? place % STEP : place / TILE;
          const int j = B::first_is_contiguous ? place / STEP : place % TILE;
          const float value = deep + p < k && start + j < n ? float(b.value(deep + p, start + j)) : 0.0f;
          split<SPLIT_B>(value, &tiles.right[0][p][j], &tiles.right[1][p][j]);
        }
        OSA_SYNC;
        for (int p = 0; p < STEP; p += 16) {
          LeftTile<In> left, left_rest;
          read(left, &tiles.left[0][row][p], STEP + 8);
          if (SPLIT_A) read(left_rest, &tiles.left[1][row][p], STEP + 8);
          for (int half = 0; half < 2; ++half) {
            RightTile<In> right;
            if (SPLIT_B) {
              read(right, &tiles.right[1][p][column + 16 * half], TILE + 8);
              multiply_tiles(sums[half], left, right);
            }
            read(right, &tiles.right[0][p][column + 16 * half], TILE + 8);
            if (SPLIT_A) multiply_tiles(sums[half], left_rest, right);
            multiply_tiles(sums[half], left, right);
          }
        }
        OSA_SYNC;
      }
      for (int half = 0; half < 2; ++half) write(sums[half], &tiles.sums[row][column + 16 * half], TILE + 4);
      OSA_SYNC;
      for (int place = thread(); place < TILE * TILE; place += THREADS) {
        const int y = top + place / TILE, x = start + place % TILE;
        if (y < m && x < n) put(y, x, tiles.sums[place / TILE][place % TILE]);
      }
      OSA_SYNC;
    }
}

// Sum or maximum of value(i) over i < count, the same in every thread.
template <class T, bool MAXIMUM, class Value>
OSA_DEVICE T reduce(int count, const Value& value) {
  OSA_SHARED T parts[LOGICAL_THREADS];
  T own = MAXIMUM ? T(-INFINITY) : T(0);
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

// put(j, sum) for every j < columns, at most as many as there are threads, with sum over i < count of value(i, j).
// Threads side by side take columns side by side, and groups of them every so many rows; sums of eight in float32.
template <class Value, class Put>
OSA_DEVICE void sum_columns(int count, int columns, const Value& value, const Put& put) {
  OSA_SHARED double parts[LOGICAL_THREADS];
  const int groups = THREADS / columns, group = thread() / columns, j = thread() % columns;
  double total = 0;
  if (group < groups)
    for (int i = group; i < count; i += 8 * groups) {
      float few = 0;
      for (int next = i; next < count && next < i + 8 * groups; next += groups) few += value(next, j);
      total += few;
    }
  OSA_SYNC;
  parts[thread()] = total;
  OSA_SYNC;
  if (thread() >= columns) return;
  for (int other = 1; other < groups; ++other) total += parts[other * columns + j];
  put(j, total);
}

#endif
