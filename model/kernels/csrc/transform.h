// All that is done token by token between two attentions, in one pass over a few rows at a time;
// see osa_transform.h. `Engine` multiplies: Panels on vector units, TilePanels on tiles.
#ifndef OSA_TRANSFORM_KERNEL_H
#define OSA_TRANSFORM_KERNEL_H

#include "panels.h"
#include "rows.h"

namespace {

// What one thread computes with: its memory, laid out for `rows` rows.
template <class Engine>
struct TransformMemory {
  typedef typename Engine::Element Element;
  typename Engine::Sum* sums;   // two blocks of 32 x 32
  Element *rows, *inner;        // what a product reads: [rows, width], [rows, group]
  float* wide;                  // inner features, before they are scaled or gated [rows, group]; one row
  float *scales, *inner_scales;  // in 8 bits [rows, groups], [rows]
  float* partial;               // sums over several groups [rows, 32]
  size_t bytes;

  TransformMemory(const OsaTransformCall& call, int64_t rows_here, void* memory) {
    const int64_t count = round_up(rows_here, BLOCK), group = call.mixed ? smaller(call.inner, GROUP) : 0;
    char* at = static_cast<char*>(memory);
    const auto take = [&](auto*& part, int64_t elements) {
      part = reinterpret_cast<decltype(+part)>(at);
      at += round_up(elements * static_cast<int64_t>(sizeof(*part)), 64);
    };
    const bool scaled = Engine::Of::SCALED;
    take(sums, 2 * BLOCK * BLOCK);
    take(rows, Engine::elements(count, call.width));
    take(inner, Engine::elements(count, group));
    take(wide, larger(call.width, scaled || call.gated ? count * group : 0));
    take(scales, scaled ? count * groups_of(call) : 0);
    take(inner_scales, scaled ? count : 0);
    take(partial, scaled ? count * BLOCK : 0);
    bytes = static_cast<size_t>(at - static_cast<char*>(memory));
  }

  static int64_t groups_of(const OsaTransformCall& call) { return (call.width + GROUP - 1) / GROUP; }
};

template <class Engine>
struct Transform {
  typedef typename Engine::Of Format;
  typedef typename Engine::Element Element;
  typedef typename Format::State State;
  static constexpr bool SCALED = Format::SCALED;

  const OsaTransformCall& call;
  const TransformMemory<Engine> memory;
  const int64_t from, count, groups;
  float* const hidden;
  const Left<Element> rows;

  Transform(const OsaTransformCall& call, int64_t from, int64_t to, void* memory)
      : call(call), memory(call, to - from, memory), from(from), count(to - from),
        groups(SCALED ? TransformMemory<Engine>::groups_of(call) : 1), hidden(call.hidden + from * call.width),
        rows{this->memory.rows, call.width} {}

  // A row of floats as the products read it; its scales, one for each group, where it has any.
  OSA_INLINE void put_row(const float* values, const Left<Element>& to, int64_t row, float* scales) const {
    if constexpr (SCALED) {
      for (int64_t start = 0; start < to.width; start += GROUP) {
        const int64_t end = smaller(start + GROUP, to.width);
        Bits most{};  // of the sizes' bits: NaN is above infinity, and that above all numbers
        for (int64_t i = start; i < end; i += Simd<float>::width) {
          const Bits size = bits_of(load(values + i)) & 0x7fffffffu;
          most = size > most ? size : most;
        }
        const float largest = largest_lane(most);
        const bool none = largest < 1e-30f;  // not NaN; 127 over less may be infinite
        const Line factor = all(none ? 0.0f : 127.0f / largest);
        scales[start / GROUP] = none ? 0.0f : largest * (1.0f / 127.0f);
        for (int64_t i = start; i < end; i += BLOCK)
          put_whole<Element, Format::OFFSET>(read_line(values + i) * factor, Engine::at(to, row, i));
      }
    } else {
      for (int64_t i = 0; i < to.width; i += BLOCK) Format::put(read_line(values + i), Engine::at(to, row, i));
    }
  }

  static OSA_INLINE float largest_lane(Bits sizes) {
    uint32_t most = 0;
    for (int64_t lane = 0; lane < Simd<float>::width; ++lane) most = larger<uint32_t>(most, sizes[lane]);
    return widen_bits(most);
  }
  static OSA_INLINE float widen_bits(uint32_t bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof(value));
    return value;
  }

  void take_mixed() const {
    const State* const mixed = static_cast<const State*>(call.mixed) + from * call.features;
    float* const row_of = memory.wide;
    const int64_t whole = call.features / BLOCK * BLOCK;
    for (int64_t row = 0; row < count; ++row) {
      const State* const values = mixed + row * call.features;
      for (int64_t i = 0; i < whole; i += BLOCK) write_line(row_of + i, read_line(values + i));
      for (int64_t i = whole; i < call.width; ++i) row_of[i] = i < call.features ? widen(values[i]) : 0.0f;
      put_row(row_of, rows, row, memory.scales + row * groups);
    }
  }

  // hidden (+)= mixed, where no product lies between.
  void add_mixed() const {
    const State* const mixed = static_cast<const State*>(call.mixed) + from * call.features;
    for (int64_t row = 0; row < count; ++row) {
      float* const to = hidden + row * call.width;
      const State* const values = mixed + row * call.features;
      for (int64_t i = 0; i < call.features; ++i) to[i] = (call.residual ? to[i] : 0.0f) + widen(values[i]);
    }
  }

  // What the next product reads: `hidden` normalised, which with `keep` becomes `hidden` itself.
  void norm(const OsaNorm& by, bool keep) const {
    const int64_t width = call.width;
    for (int64_t row = 0; row < count; ++row) {
      float* const values = hidden + row * width;
      float* const to = keep ? values : memory.wide;
      if (!by.weight) {
        put_row(values, rows, row, memory.scales + row * groups);
        continue;
      }
      float mean = 0.0f;
      if (call.layer_norm) mean = total(values, call.features) / static_cast<float>(call.features);
      const float scale = inverse_root(squares(values, call.features, mean), call.features, call.norm_epsilon);
      for (int64_t i = 0; i < width; i += BLOCK) {
        Line line = (read_line(values + i) - all(mean)) * all(scale) * read_line(by.weight + i);
        if (by.bias) line = line + read_line(by.bias + i);
        write_line(to + i, line);
      }
      put_row(to, rows, row, memory.scales + row * groups);
    }
  }

  // left weight^T + bias of the outputs from `first` on, over the inputs that `left` holds, those of the
  // layer from `start` on: use(row, column, line).
  template <class Use>
  OSA_INLINE void multiply(const Left<Element>& left, const float* scales, const OsaLayer& layer, int64_t depth,
                           int64_t start, int64_t all_outputs, int64_t first, int64_t outputs, const Use& use) const {
    const int64_t left_groups = SCALED ? (left.width + GROUP - 1) / GROUP : 1;
    const float* const bias = start ? nullptr : layer.bias;
    Engine::multiply(left, count, Right{layer.weight, depth, start}, first, outputs, memory.sums,
                     [&](int64_t row, int64_t column, int64_t group, const typename Engine::Sum* found)
                         __attribute__((always_inline)) {
      if (row >= count) return;
      Line line = read_line(found);
      if constexpr (SCALED) {
        if constexpr (Format::OFFSET != 0) {
          const float* const totals = layer.totals + (start / GROUP + group) * all_outputs + column;
          line = line - read_line(totals) * all(static_cast<float>(Format::OFFSET));
        }
        line = line * all(scales[row * left_groups + group]);
        if (left_groups > 1) {
          float* const sum = memory.partial + row * BLOCK;
          if (group) line = line + read_line(sum);
          if (group + 1 < left_groups) return write_line(sum, line);
        }
        line = line * read_line(layer.scale + column);
      }
      if (bias) line = line + read_line(bias + column);
      use(row, column, line);
    });
  }

  // hidden (+)= left layer^T + bias.
  void add(const Left<Element>& left, const float* scales, const OsaLayer& layer, int64_t depth, int64_t start) const {
    const bool sum = call.residual || start;
    multiply(left, scales, layer, depth, start, call.width, 0, call.width,
             [&](int64_t row, int64_t column, const Line& line) __attribute__((always_inline)) {
      float* const to = hidden + row * call.width + column;
      write_line(to, sum ? read_line(to) + line : line);
    });
  }

  // Inner features, a group at a time: made, and used up.
  template <Vector<float> (*Activation)(Vector<float>)>
  void feed_forward() const {
    const int64_t outputs = call.inner * (call.gated ? 2 : 1);
    const bool wait = SCALED || call.gated;  // until all of a row's group are known
    for (int64_t start = 0; start < call.inner; start += GROUP) {
      const Left<Element> inner{memory.inner, smaller(GROUP, call.inner - start)};
      const auto make = [&](int64_t first, const auto& use) __attribute__((always_inline)) {
        multiply(rows, memory.scales, call.up, call.width, 0, outputs, first, inner.width, use);
      };
      make(start, [&](int64_t row, int64_t column, Line line) __attribute__((always_inline)) {
        line = changed(line, Activation);
        if (wait) write_line(memory.wide + row * inner.width + column - start, line);
        else if constexpr (!SCALED) Format::put(line, Engine::at(inner, row, column - start));
      });
      if (call.gated)
        make(call.inner + start, [&](int64_t row, int64_t column, const Line& line) __attribute__((always_inline)) {
          float* const to = memory.wide + row * inner.width + column - call.inner - start;
          write_line(to, read_line(to) * line);
        });
      for (int64_t row = 0; wait && row < count; ++row)
        put_row(memory.wide + row * inner.width, inner, row, memory.inner_scales + row);
      add(inner, memory.inner_scales, call.down, call.inner, start);
    }
  }
  void feed_forward_as_asked() const {
    if (call.activation == OSA_RELU) feed_forward<relu>();
    else if (call.activation == OSA_SILU) feed_forward<silu>();
    else if (call.activation == OSA_GELU_TANH) feed_forward<gelu_tanh>();
    else feed_forward<Format::activate_gelu>();
  }

  const float* of_row(const float* table, int64_t row, int64_t head) const {
    return table ? table + (from + row) * (head / 2) : nullptr;
  }

  void project() const {
    const int64_t row_size = call.parts * call.width, head = call.features / call.heads;
    const bool in_lines = head == BLOCK && call.features == call.width;
    State* const states = static_cast<State*>(call.states) + from * row_size;
    multiply(rows, memory.scales, call.qkv, call.width, 0, row_size, 0, row_size,
             [&](int64_t row, int64_t column, Line line) __attribute__((always_inline)) {
      if (in_lines && column < call.turned * call.width)
        prepare_line(line, of_row(call.cosine, row, head), of_row(call.sine, row, head));
      write_line(states + row * row_size + column, line);
    });
    if (call.side.weight) {
      float* const sides = call.sides + from * call.side_width;
      multiply(rows, memory.scales, call.side, call.width, 0, call.side_width, 0, call.side_width,
               [&](int64_t row, int64_t column, const Line& line) __attribute__((always_inline)) {
        write_line(sides + row * call.side_width + column, line);
      });
    }
    if (in_lines) return;
    for (int64_t row = 0; row < count; ++row)
      for (int64_t part = 0; part < call.turned; ++part)
        for (int64_t at = 0; at < call.features; at += head)
          prepare_head(states + row * row_size + part * call.width + at, of_row(call.cosine, row, head),
                       of_row(call.sine, row, head), head, call.head_epsilon, call.normalize);
  }

  // prepare_head where a head is as wide as a line.
  OSA_INLINE void prepare_line(Line& line, const float* cosine, const float* sine) const {
    constexpr int half = Line::PARTS / 2;
    constexpr int64_t W = Simd<float>::width;
    if (call.normalize) line = line * all(inverse_root(total_of(line * line), BLOCK, call.head_epsilon));
    if (!cosine) return;
    OSA_UNROLL(4)
    for (int i = 0; i < half; ++i) {
      const Vector<float> turn = load(cosine + i * W), lift = load(sine + i * W);
      const Vector<float> left = line.part[i], right = line.part[half + i];
      line.part[i] = left * turn - right * lift;
      line.part[half + i] = right * turn + left * lift;
    }
  }
};

// Rows `from` ... `to`; memory of transform_bytes, aligned to 64.
template <class Engine>
void transform_rows(const OsaTransformCall* call, int64_t from, int64_t to, void* memory) {
  [[maybe_unused]] const typename Engine::Setting setting;
  const Transform<Engine> transform(*call, from, to, memory);
  const bool post = call->post;
  if (call->mixed) {
    if (call->out.weight) {
      transform.take_mixed();
      transform.add(transform.rows, transform.memory.scales, call->out, call->width, 0);
    } else {
      transform.add_mixed();
    }
    if (post || call->up.weight) transform.norm(post ? call->mixer_norm : call->feed_forward_norm, post);
    if (call->up.weight) {
      transform.feed_forward_as_asked();
      if (post) transform.norm(call->feed_forward_norm, true);
    }
  }
  if (call->qkv.weight) {
    if (!post) transform.norm(call->mixer_norm, false);
    else if (!call->mixed) transform.norm({}, false);
    transform.project();
  }
}

template <class Engine>
size_t transform_bytes(const OsaTransformCall* call, int64_t rows) {
  return TransformMemory<Engine>(*call, rows, nullptr).bytes;
}

}  // namespace
#endif
